import math

import pytest
import torch
from torch import nn

from tailora.adapters import (
    AdapterSpec,
    adapt,
    adapted_layers,
    require_gradients,
    trained_parameters,
)
from tailora.backbones import Encoder, load_backbone
from tailora.errors import BackboneError, ConfigError
from tests.tiny import KINDS, tiny_encoder_folder


class Small(nn.Module):
    """Two linear layers in numbered blocks, a convolution and one layer that is never called."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.convolution = nn.utils.skip_init(nn.Conv2d, 3, 4, 3)
        self.blocks = nn.ModuleList(nn.utils.skip_init(nn.Linear, 4, 4) for _ in range(2))
        self.unused = nn.utils.skip_init(nn.Linear, 4, 4)
        for parameter in self.parameters():
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, images):
        rows = self.convolution(images).mean(dim=(2, 3))
        for block in self.blocks:
            rows = block(rows).tanh()
        return rows


IMAGES = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(3))
ROWS = torch.randn(5, 4, generator=torch.Generator().manual_seed(4))


def adapted(tuner="lora", rank=None, targets=("blocks.0",), seed=0, steps=10, **options):
    spec = AdapterSpec(tuner, rank, list(targets), options)
    return adapt(Small(), spec, seed=seed, total_steps=steps)


def layer(model, name="blocks.0"):
    return model.base_model.model.get_submodule(name)


def fill(parameter, seed=9):
    generator = torch.Generator().manual_seed(seed)
    parameter.data.copy_(torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize(("tuner", "scale"), [("lora", 2.0), ("rslora", 6 / math.sqrt(3))])
def test_lora_adds_b_times_a_scaled_by_alpha_over_the_rank(tuner, scale):
    model = adapted(tuner, rank=3)
    one, plain = layer(model), Small().blocks[0]
    fill(one.lora_B["default"].weight)
    a, b = one.lora_A["default"].weight, one.lora_B["default"].weight
    assert a.shape == (3, 4)
    assert b.shape == (4, 3)
    expected = torch.stack([plain.weight @ x + plain.bias + scale * (b @ (a @ x)) for x in ROWS])
    torch.testing.assert_close(one(ROWS), expected, atol=1e-5, rtol=1e-5)


def test_dora_learns_length_and_direction_of_each_output_apart():
    model = adapted("dora", rank=2)
    one, plain = layer(model), Small().blocks[0]
    fill(one.lora_B["default"].weight)
    length = plain.weight.norm(dim=1, keepdim=True)
    moved = plain.weight + 2 * one.lora_B["default"].weight @ one.lora_A["default"].weight
    weight = length * moved / moved.norm(dim=1, keepdim=True)
    torch.testing.assert_close(one(ROWS), ROWS @ weight.T + plain.bias, atol=1e-5, rtol=1e-5)


def test_ia3_scales_each_output():
    one, plain = layer(adapted("ia3")), Small().blocks[0]
    fill(one.ia3_l["default"])
    scale = one.ia3_l["default"].flatten()
    expected = (ROWS @ plain.weight.T) * scale + plain.bias * scale
    torch.testing.assert_close(one(ROWS), expected, atol=1e-5, rtol=1e-5)


def test_pissa_moves_the_largest_singular_directions_into_the_adapter():
    one, plain = layer(adapted("pissa", rank=1)), Small().blocks[0]
    learnt = 2 * one.lora_B["default"].weight @ one.lora_A["default"].weight
    u, s, v = torch.linalg.svd(plain.weight)
    torch.testing.assert_close(learnt, s[0] * torch.outer(u[:, 0], v[0]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(one.base_layer.weight + learnt, plain.weight, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tuner", ["lora", "dora", "loha", "lokr", "ia3", "vera", "oft"])
def test_a_new_adapter_changes_nothing_yet(tuner):
    options = {"oft_block_size": 4} if tuner == "oft" else {}
    model = adapted(tuner, targets=("blocks.0", "blocks.1"), **options)
    torch.testing.assert_close(model.eval()(IMAGES), Small()(IMAGES), atol=1e-6, rtol=1e-6)


def test_only_the_adapter_is_trainable():
    model = adapted(rank=3, targets=("blocks.0", "convolution"))
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all("lora_" in name for name in trainable)
    assert trained_parameters(model) == 3 * (4 + 4) + 3 * (3 * 9 + 4)


def test_equal_seeds_give_equal_adapters_and_other_seeds_others():
    first, again, other = (layer(adapted(seed=s)).lora_A["default"].weight for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_table_of_adapted_layers_folds_blocks_and_counts_what_was_added():
    model = adapted(rank=3, targets=("blocks.0", "blocks.1", "convolution"))
    rows = {row.module: row for row in adapted_layers(model)}
    assert set(rows) == {"convolution", "blocks.0", "blocks.1"}
    assert (rows["blocks.0"].count, rows["blocks.0"].shape) == (1, "4x4")
    assert rows["blocks.0"].parameters == 3 * 4 + 4 * 3
    assert rows["convolution"].shape == "4x3x3x3"
    assert rows["convolution"].parameters == 3 * 3 * 9 + 4 * 3
    assert sum(row.parameters for row in rows.values()) == trained_parameters(model)


def test_alike_layers_of_all_blocks_are_one_row(tiny_encoder):
    model = adapt(tiny_encoder.backbone, AdapterSpec(rank=3), seed=0, total_steps=1)
    rows = adapted_layers(model)
    assert len(rows) == 4
    assert all(".*." in row.module for row in rows)
    assert {(row.count, row.shape, row.parameters) for row in rows} == {
        (2, "16x16", 2 * (3 * 16 + 16 * 3))
    }


def test_block_numbers_are_folded_wherever_they_stand():
    layers = [nn.utils.skip_init(nn.Linear, 4, 4) for _ in range(4)]
    stages = nn.Sequential(nn.Sequential(*layers[:2]), nn.Sequential(*layers[2:]))
    spec = AdapterSpec(rank=1, targets=["0.0", "1.0", "0.1", "1.1"])
    rows = adapted_layers(adapt(stages, spec, seed=0, total_steps=1))
    assert [(row.module, row.count) for row in rows] == [("*.0", 2), ("*.1", 2)]


@pytest.mark.parametrize(
    ("tuner", "options"),
    [
        ("vblora", {"vector_length": 2, "num_vectors": 4, "topk": 1}),
        ("vera", {}),
        ("lora", {}),
        ("ln_tuning", {}),
    ],
)
def test_what_layers_share_is_counted_once(tuner, options, tiny_encoder):
    model = adapt(tiny_encoder.backbone, AdapterSpec(tuner, options=options), seed=0, total_steps=1)
    assert sum(row.parameters for row in adapted_layers(model)) == trained_parameters(model)


@pytest.mark.parametrize("kind", KINDS)
def test_of_every_kind_of_encoder_the_layers_found_reach_the_features(kind, tmp_path):
    model = load_backbone(str(tiny_encoder_folder(tmp_path, kind, hidden=16, layers=2))).model
    encoder = Encoder(model, pooling="mean", mean=[0.5] * 3, std=[0.25] * 3)
    encoder.backbone = adapt(encoder.backbone, AdapterSpec(rank=2), seed=0, total_steps=1)
    images = torch.randint(0, 256, (2, 3, 28, 28), generator=torch.Generator().manual_seed(0))
    encoder(images).square().sum().backward()
    require_gradients(encoder)


def test_gradients_reach_all_of_an_adapter_or_the_layer_is_named():
    model = adapted(targets=("blocks.0", "unused"))
    model(IMAGES).sum().backward()
    with pytest.raises(BackboneError, match=r"2 adapter parameters receive no gradient.*unused"):
        require_gradients(model)


def test_gradients_are_asked_of_what_is_trainable_only():
    model = adapted(targets=("blocks.0",))
    model(IMAGES).sum().backward()
    require_gradients(model)


def test_gradients_reach_both_factors_after_a_step():
    """B starts at zero, so A's first gradient is zero; from the second step on both learn."""
    model = adapted()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(IMAGES).square().sum().backward()
        optimizer.step()
    one = layer(model)
    assert one.lora_A["default"].weight.grad.abs().min() > 0
    assert one.lora_B["default"].weight.grad.abs().min() > 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (AdapterSpec("lorra"), "unknown tuner 'lorra'; did you mean 'lora'"),
        (AdapterSpec("ia3", rank=4), "has no rank"),
        (AdapterSpec(rank=0), "rank must be at least 1"),
        (AdapterSpec(targets=["blocs.0"]), "unknown adapter target 'blocs.0'"),
        (AdapterSpec(options={"lora_alpa": 1}), "did you mean 'lora_alpha'"),
        (AdapterSpec("vera", targets=["convolution"]), "PEFT cannot apply 'vera' to this encoder"),
        (AdapterSpec("adalora", rank=1, targets=["blocks.0"]), "adalora.*rank of at least 2"),
    ],
)
def test_what_cannot_be_is_refused_on_one_line(spec, message):
    with pytest.raises(ConfigError, match=message) as caught:
        adapt(Small(), spec, seed=0, total_steps=10)
    assert "\n" not in str(caught.value)


def test_an_encoder_without_norms_cannot_have_them_tuned():
    with pytest.raises(BackboneError, match="Small has no layer normalisation"):
        adapt(Small(), AdapterSpec("ln_tuning"), seed=0, total_steps=1)
