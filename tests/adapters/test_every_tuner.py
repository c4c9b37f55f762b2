"""What PEFT's tuners must do to stand where LoRA stands, asked of each of them."""

import copy
from dataclasses import dataclass

import pytest
import torch
from peft import PeftModel

from tailora.adapters import (
    AdapterSpec,
    adapt,
    after_step,
    require_gradients,
    trained_parameters,
    tuner_names,
    without_peft_noise,
)
from tailora.backbones import Encoder, load_backbone
from tests.tiny import tiny_encoder_folder

# BOFT looks for a CUDA extension, FRoD uses sparse tensors: both work, and say more than needed
pytestmark = [
    pytest.mark.filterwarnings("ignore:Failed to load the CUDA extension"),
    pytest.mark.filterwarnings("ignore:Setting boft_n_butterfly_factor"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks"),
]

# where a default is made for layers of hundreds of features
FOR_TINY_LAYERS = {
    "c3a": {"block_size": 8},
    "road": {"group_size": 8},
    "vblora": {"vector_length": 8, "num_vectors": 8},
    "waveft": {"n_frequency": 16},
    "fourierft": {"n_frequency": 16},
}
STEPS = 3


@dataclass(frozen=True)
class Trained:
    plain: Encoder
    frozen: dict[str, torch.Tensor]
    encoder: Encoder
    never_learnt: list[str]


def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 3, 14, 14), dtype=torch.uint8, generator=generator)


def take_steps(encoder):
    """Train a little; names of parameters that got no gradient other than zero in any step."""
    learning = {name: p for name, p in encoder.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(learning.values(), lr=1e-2)
    silent = set(learning)
    encoder.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for step in range(STEPS):
            optimizer.zero_grad()
            encoder(images()).square().mean().backward()
            require_gradients(encoder)
            silent -= {name for name, p in learning.items() if p.grad.any()}
            optimizer.step()
            after_step(encoder.backbone, step)
    encoder.eval()
    return sorted(silent)


def features(encoder):
    with torch.inference_mode():
        return encoder(images())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    path = tiny_encoder_folder(tmp_path_factory.mktemp("plain"), hidden=16, layers=1)
    model = load_backbone(str(path)).model
    return Encoder(model, pooling="both", mean=[0.5] * 3, std=[0.25] * 3).eval()


@pytest.fixture(scope="module", params=tuner_names())
def tuner(request):
    return request.param


@pytest.fixture(scope="module")
def spec(tuner):
    return AdapterSpec(tuner, options=FOR_TINY_LAYERS.get(tuner, {}))


@pytest.fixture(scope="module")
def trained(plain, spec):
    encoder = copy.deepcopy(plain)
    state = torch.random.get_rng_state()
    encoder.backbone = adapt(encoder.backbone, spec, seed=1, total_steps=STEPS + 1)
    assert torch.equal(state, torch.random.get_rng_state())
    frozen = {
        name: tensor.detach().clone()
        for name, tensor in [*encoder.named_parameters(), *encoder.named_buffers()]
        if not tensor.requires_grad
    }
    never_learnt = take_steps(encoder)
    return Trained(plain, frozen, encoder, never_learnt)


def test_frozen_weights_do_not_change_by_a_bit(trained):
    after = {**dict(trained.encoder.named_parameters()), **dict(trained.encoder.named_buffers())}
    changed = [n for n, before in trained.frozen.items() if not torch.equal(before, after[n])]
    assert not changed


def test_it_learns_and_the_plain_encoder_does_not(trained):
    assert (
        0 < trained_parameters(trained.encoder) < sum(p.numel() for p in trained.plain.parameters())
    )
    assert not torch.allclose(features(trained.encoder), features(trained.plain), atol=1e-4)


def test_every_part_of_the_adapter_learns(trained, tuner):
    if tuner == "glora":  # GLoRA's input-scaling path starts where its gradient is zero
        assert all("glora_D" in name for name in trained.never_learnt)
    else:
        assert not trained.never_learnt


def test_the_saved_adapter_opens_with_peft_and_gives_the_same_features(trained, tmp_path):
    with without_peft_noise():
        trained.encoder.backbone.save_pretrained(str(tmp_path))
    reopened = copy.deepcopy(trained.plain)
    with torch.random.fork_rng(), without_peft_noise():
        reopened.backbone = PeftModel.from_pretrained(reopened.backbone, str(tmp_path))
    assert torch.equal(features(reopened.eval()), features(trained.encoder))


def test_a_copy_learns_on_after_its_features_were_taken(trained):
    """Stage 5 of debLoRA starts so: extraction may leave nothing behind that autograd refuses."""
    before = features(trained.encoder)
    other = copy.deepcopy(trained.encoder)
    take_steps(other)
    assert torch.equal(features(trained.encoder), before)
    assert not torch.equal(features(other), before)
