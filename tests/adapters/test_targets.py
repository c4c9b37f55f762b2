import copy

import pytest
import torch
from torch import nn

from tailora.adapters import find_targets
from tailora.adapters.targets import find_norms, match_targets
from tailora.backbones import load_backbone
from tailora.errors import BackboneError, ConfigError
from tests.tiny import tiny_encoder_folder


@pytest.fixture(autouse=True)
def _weights_without_values():
    with torch.device("meta"):  # so that making a layer draws no random numbers
        yield


def tiny(tmp_path, kind, **sizes):
    with torch.device("cpu"):
        return load_backbone(str(tiny_encoder_folder(tmp_path / kind, kind, **sizes))).model


def linear_names(backbone, keep):
    return [n for n, m in backbone.named_modules() if isinstance(m, nn.Linear) and keep(m)]


TRANSFORMERS = ["dinov2", "dinov2-registers", "dinov3", "vit", "vit-mae", "clip-vision"]


@pytest.mark.parametrize("kind", [*TRANSFORMERS, "siglip-vision", "swin"])
def test_of_a_transformer_the_four_projections_of_each_attention_are_found(kind, tmp_path):
    backbone = tiny(tmp_path, kind, hidden=8, layers=3)
    found = find_targets(backbone)
    assert len(found) == 4 * 3
    # in these encoders only attention maps a width to itself with a plain linear layer
    square = linear_names(
        backbone, lambda m: m.in_features == m.out_features and type(m) is nn.Linear
    )
    assert found == square


@pytest.mark.parametrize("pooling", ["class", "mean"])
def test_the_pooler_of_a_vit_is_not_taken_for_attention(pooling, tmp_path):
    backbone = tiny(tmp_path, "vit", hidden=8)
    backbone.pooler = nn.ModuleDict({"dense": nn.Linear(8, 8)})
    assert not [name for name in find_targets(backbone) if "pooler" in name]


def test_of_a_convolutional_encoder_all_linear_layers_and_ungrouped_convolutions(tmp_path):
    backbone = tiny(tmp_path, "convnextv2", hidden=8)
    found = find_targets(backbone)
    assert [n for n in found if "pwconv" in n] == linear_names(backbone, bool)
    modules = dict(backbone.named_modules())
    convolutions = [n for n in found if isinstance(modules[n], nn.Conv2d)]
    assert len(convolutions) == 2  # the stem and one downsampling; no depthwise ones
    assert not [n for n in found if "dwconv" in n]


def test_attention_whose_weights_torch_reads_past_the_layer_is_left_alone():
    """`nn.MultiheadAttention` takes its projection's weight itself: an adapter is never called."""
    module = nn.ModuleDict(
        {
            "block": nn.ModuleDict({"q_proj": nn.Linear(4, 4)}),
            "pool": nn.MultiheadAttention(4, 2),
        }
    )
    assert find_targets(module) == ["block.q_proj"]


@pytest.mark.parametrize(
    "name", ["query", "key", "value", "qkv", "to_q", "to_k", "to_v", "to_out.0", "attn.proj"]
)
def test_the_names_that_other_libraries_give_to_projections_are_known(name):
    module = nn.Module()
    parent = module
    *path, last = ["block", *name.split(".")]
    for part in path:
        parent.add_module(part, nn.Module())
        parent = parent.get_submodule(part)
    parent.add_module(last, nn.Linear(2, 2))
    module.mlp = nn.Linear(2, 2)
    assert find_targets(module) == [f"block.{name}"]


def test_a_name_that_only_ends_like_a_projection_is_none():
    module = nn.ModuleDict({"monkey": nn.Linear(2, 2), "value": nn.Linear(2, 2)})
    assert find_targets(module) == ["value"]


def test_a_module_without_any_layer_to_adapt_is_refused():
    with pytest.raises(BackboneError, match="Flatten has no linear or convolution layer"):
        find_targets(nn.Flatten())


def test_norms_are_the_layer_normalisations(tmp_path):
    backbone = tiny(tmp_path, "dinov2", hidden=8, layers=2)
    assert len(find_norms(backbone)) == 2 * 2 + 1


def test_endings_choose_layers_in_module_order_and_each_once(tmp_path):
    backbone = tiny(tmp_path, "dinov2", hidden=8, layers=2)
    found = match_targets(backbone, ["fc2", "0.mlp.fc1", "mlp.fc2"])
    blocks = [name for name, _ in backbone.named_modules() if name.endswith(".mlp")]
    assert found == [f"{blocks[0]}.fc1", f"{blocks[0]}.fc2", f"{blocks[1]}.fc2"]


def test_an_ending_must_be_whole_words(tmp_path):
    module = nn.ModuleDict({"monkey": nn.Linear(2, 2), "key": nn.Linear(2, 2)})
    assert match_targets(module, ["key"]) == ["key"]


def test_a_target_that_matches_nothing_names_the_nearest_layer(tmp_path):
    backbone = tiny(tmp_path, "dinov2", hidden=8, layers=1)
    with pytest.raises(ConfigError, match=r"unknown adapter target 'fc_1'; did you mean 'fc1'\?"):
        match_targets(backbone, ["fc_1"])


def test_looking_for_targets_changes_nothing(tiny_encoder):
    before = copy.deepcopy(tiny_encoder.backbone.state_dict())
    find_targets(tiny_encoder.backbone)
    after = tiny_encoder.backbone.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
