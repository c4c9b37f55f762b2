"""bfloat16 products in the encoder alone, and activations that are computed again."""

import copy

import pytest
import torch
from torch import nn

from tailora.adapters import AdapterSpec, adapt
from tailora.backbones import Encoder, load_backbone
from tailora.backbones.checkpointing import recompute_activations
from tailora.errors import BackboneError, ConfigError
from tests.tiny import tiny_encoder_folder

IMAGES = torch.randint(0, 256, (6, 3, 14, 14), generator=torch.Generator().manual_seed(0)).float()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny_encoder_folder(tmp_path_factory.mktemp("precision") / "tiny", layers=2)
    return load_backbone(str(folder)).model


def wrapped(model, **options):
    return Encoder(model, pooling="both", mean=[0.5] * 3, std=[0.5] * 3, **options).eval()


def test_bfloat16_rounds_products_and_leaves_features_float32(model):
    """Eight bits of mantissa: features agree to some parts in a hundred, and not to the bit."""
    seen = []
    hook = model.layernorm.register_forward_hook(lambda _m, given, _out: seen.append(given[0]))
    plain, rounded = (wrapped(model, precision=p)(IMAGES) for p in ("fp32", "bf16"))
    hook.remove()
    assert rounded.dtype == plain.dtype == torch.float32
    assert not torch.equal(plain, rounded)
    assert (plain - rounded).abs().max() < 0.05 * plain.std()
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_layers_multiply_in_bfloat16_and_what_follows_the_encoder_does_not(model):
    kinds, encoder = [], wrapped(model, precision="bf16")
    layer = next(m for m in model.modules() if isinstance(m, nn.Linear))
    hook = layer.register_forward_hook(lambda _m, _given, out: kinds.append(out.dtype))
    features = encoder(IMAGES)
    hook.remove()
    assert kinds == [torch.bfloat16]
    assert nn.utils.skip_init(nn.Linear, features.shape[1], 2)(features).dtype == torch.float32


def test_an_unknown_precision_names_the_known_ones(model):
    with pytest.raises(ConfigError, match="unknown precision 'fp16'"):
        wrapped(model, precision="fp16")


def gradients(model, *, again):
    spec = AdapterSpec("lora", 2, [], {"lora_dropout": 0.3})
    adapted = adapt(copy.deepcopy(model), spec, seed=0, total_steps=1)
    kept = []
    if again:
        recompute_activations(adapted)
    encoder = wrapped(adapted).train()

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        torch.manual_seed(3)
        loss = encoder(IMAGES).square().mean()
        loss.backward()
    learning = [p for p in adapted.parameters() if p.requires_grad]
    return [p.grad for p in learning], sum(kept)


def test_gradients_of_activations_computed_again_are_the_same_for_less_memory(model):
    plain, kept = gradients(model, again=False)
    again, kept_again = gradients(model, again=True)
    assert any(gradient.abs().max() > 0 for gradient in plain)
    for first, second in zip(plain, again, strict=True):
        torch.testing.assert_close(second, first, rtol=0, atol=0)
    assert kept_again < kept / 2


def test_a_model_without_the_switch_says_so(model):
    plain = copy.deepcopy(model)
    plain.supports_gradient_checkpointing = False
    with pytest.raises(BackboneError, match=r"leave out compute\.checkpointing"):
        recompute_activations(plain)
