"""timm encoders; these need timm and a torchvision of torch's own build, so most places skip them.

Run in an environment of its own: see CONTRIBUTING.md, "Tests of the timm extra".
"""

import importlib

import pytest
import torch
from torch import nn

from tailora.adapters import AdapterSpec, adapt, find_targets, require_gradients
from tailora.backbones import Encoder, load_backbone
from tailora.backbones.timm_model import SplitProjection, TimmFeatures, split_projections
from tailora.errors import BackboneError, ConfigError

CNN, VIT, SWIN = "resnet10t", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"


@pytest.fixture
def timm():
    try:
        return importlib.import_module("timm")
    except (ImportError, RuntimeError):
        pytest.skip("timm or a torchvision that fits torch is absent")


def tiny(timm, name):
    sizes = {
        VIT: {"embed_dim": 32, "depth": 1, "num_heads": 2, "dynamic_img_size": True},
        SWIN: {"embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2), "img_size": 64,
               "window_size": 4},
    }.get(name, {})  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return timm.create_model(name, pretrained=False, num_classes=0, **sizes).eval()


@pytest.mark.parametrize("name", [CNN, VIT, SWIN])
def test_features_pooling_and_adapter(name, timm):
    net = tiny(timm, name)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        raw = net.forward_features(pixels)
    encoder = Encoder(
        TimmFeatures(net, name), pooling="mean", mean=[0.0] * 3, std=[1.0] * 3, scale=1
    ).requires_grad_(False)
    encoder.check_image_size(64)
    by_hand = {
        CNN: lambda: raw.mean(dim=(2, 3)),
        VIT: lambda: raw[:, 1:].mean(dim=1),
        SWIN: lambda: raw.mean(dim=(1, 2)),  # channels last
    }[name]()
    torch.testing.assert_close(encoder(pixels), by_hand, atol=1e-5, rtol=1e-4)
    encoder.backbone = adapt(encoder.backbone, AdapterSpec(rank=2), seed=0, total_steps=1)
    encoder(pixels).square().sum().backward()
    require_gradients(encoder.backbone)


def test_the_class_token_of_a_vit(timm):
    net = tiny(timm, VIT)
    encoder = Encoder(
        TimmFeatures(net, VIT), pooling="both", mean=[0.0] * 3, std=[1.0] * 3, scale=1
    )
    assert encoder.features == 64
    names = find_targets(encoder.backbone)
    assert names == [f"net.blocks.0.attn.{n}" for n in
                     ("qkv.q_proj", "qkv.k_proj", "qkv.v_proj", "proj")]  # fmt: skip


def test_an_unknown_name_is_told_near_ones(timm):
    with pytest.raises(ConfigError, match="timm has no model 'vit_tyni'"):
        load_backbone("timm:vit_tyni")


@pytest.mark.parametrize("bias", [True, False])
def test_a_split_projection_is_the_fused_one(bias):
    with torch.random.fork_rng(devices=[]):
        fused = nn.Linear(6, 18, bias=bias)
        tokens = torch.randn(2, 5, 6)
    torch.testing.assert_close(SplitProjection(fused)(tokens), fused(tokens))


class Attention(nn.Module):
    """Named as timm names its plain attention."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 12)


def test_only_plain_attention_is_split():
    class EvaAttention(Attention):
        """Reads the fused weight itself."""

    with torch.random.fork_rng(devices=[]):
        net = nn.ModuleList([Attention(), EvaAttention()])
    assert split_projections(net) == 1
    assert isinstance(net[1].qkv, nn.Linear)


@pytest.mark.parametrize("error", [ImportError("no module"), RuntimeError("operator nms")])
def test_without_timm_it_says_how_to_install(error, monkeypatch):
    def refuse(name):
        raise error

    monkeypatch.setattr("tailora.backbones.timm_model.importlib.import_module", refuse)
    with pytest.raises(BackboneError, match=r"needs timm.*tailora\[timm\]"):
        load_backbone(f"timm:{VIT}")
