"""Encoders that are objects: any module, a transformers model, and what says how to use them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from tailora import registry
from tailora.adapters import AdapterSpec, adapt
from tailora.backbones import Encoder, load_backbone
from tailora.backbones.loaded import LoadedBackbone
from tailora.backbones.module_backbone import ModuleBackbone, from_module
from tailora.errors import BackboneError, ConfigError
from tailora.methods.prepare import own_normalization
from tests.tiny import tiny_encoder_folder


def net(*, bands=3, pooled=True):
    layers = [nn.Conv2d(bands, 6, 3, padding=1), nn.Tanh()]
    made = nn.Sequential(*layers, *([nn.AdaptiveAvgPool2d(1), nn.Flatten()] if pooled else []))
    made.image_size = 14
    return made


def found(given, name="object:net", source="object"):
    return from_module(given, name=name, source=source)


IMAGES = torch.rand(2, 3, 14, 14, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pooled", [True, False])
def test_features_of_a_module_are_its_own_and_a_map_is_averaged(pooled):
    module = net(pooled=pooled)
    loaded = found(module)
    assert (loaded.units, loaded.patch_size, loaded.source) == ("unknown", 1, "object")
    encoder = Encoder(loaded.model, pooling="mean", mean=[0.0] * 3, std=[1.0] * 3, scale=1.0)
    expected = module(IMAGES)
    expected = expected if pooled else expected.mean(dim=(2, 3))
    with torch.no_grad():
        torch.testing.assert_close(encoder(IMAGES), expected)
    assert encoder.features == 6
    adapted = adapt(loaded.model, AdapterSpec("lora", 2), seed=0, total_steps=1)
    assert adapted.base_model.targeted_module_names == ["net.0"]


def test_bands_and_size_are_those_that_a_module_says():
    module = net(bands=5)
    assert found(module).model.config.num_channels == 5
    module.num_channels = 3  # of what it takes before its first convolution
    with pytest.raises(BackboneError, match="attributes num_channels and image_size"):
        found(module)


def test_tokens_are_averaged():
    class Tokens(nn.Module):
        image_size = 14

        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 4, 7, stride=7)

        def forward(self, images):
            return self.patches(images).flatten(2).transpose(1, 2)

    module = Tokens()
    encoder = Encoder(found(module).model, pooling="mean", mean=[0] * 3, std=[1] * 3, scale=1)
    with torch.no_grad():
        torch.testing.assert_close(encoder(IMAGES), module(IMAGES).mean(dim=1))


def test_a_model_of_transformers_is_taken_as_it_is(tmp_path):
    from transformers import AutoModel

    folder = tiny_encoder_folder(tmp_path / "tiny")
    by_name, given = load_backbone(str(folder)), found(AutoModel.from_pretrained(folder))
    assert given.sha256 == by_name.sha256
    assert (given.mean, given.units) == (by_name.mean, by_name.units)
    assert found(by_name).sha256 == by_name.sha256


def test_what_a_loaded_backbone_says_is_kept():
    told = found(net())
    own = LoadedBackbone(
        told.model, "mine", "folder", "", None, (0.1,) * 3, (0.2,) * 3, 1, "MIT", "reflectance"
    )
    again = found(own)
    assert (again.mean, again.std, again.license, again.units) == (
        (0.1,) * 3, (0.2,) * 3, "MIT", "reflectance",
    )  # fmt: skip
    assert (again.name, again.source, again.sha256) == ("object:net", "object", told.sha256)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_images_are_normalised_by_those_of_training(dtype):
    images = SimpleNamespace(source_dtype=np.dtype(dtype))
    assert own_normalization(found(net()), images, None) is None


class Dictionary(nn.Linear):
    image_size = 14

    def forward(self, images):
        return {"features": images}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "must be a torch.nn.Module or a LoadedBackbone, got int"),
        (net, "got function"),
        (nn.Flatten(), "has no parameters"),
        (Dictionary(1, 1), "returned 'dict' for a batch of images"),
        (nn.Linear(5, 5), "does not take images (3 bands, 224 px)"),
        (
            adapt(ModuleBackbone(net()), AdapterSpec("lora", 2), seed=0, total_steps=1),
            "got PeftModel; merge its adapter first",
        ),
    ],
)
def test_what_is_no_encoder_is_refused(given, said):
    with pytest.raises(BackboneError) as caught:
        found(given)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# --- by name ---


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    """Forget what is registered, and what is drawn for weights here."""
    monkeypatch.setattr(registry, "_REGISTERED", {})
    with torch.random.fork_rng(devices=[]):
        yield


def test_a_registered_function_makes_the_same_weights_each_time():
    def mine(*, width: int = 4) -> nn.Module:
        """An encoder that draws its weights."""
        module = nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        module.image_size = 14
        return module

    registry.register("backbones", "mine", mine)
    before = torch.random.get_rng_state()
    first, second = load_backbone("mine"), load_backbone("mine")
    assert torch.equal(before, torch.random.get_rng_state())
    assert first.sha256 == second.sha256
    assert (first.name, first.source) == ("mine", "plugin")
    assert load_backbone("mine", options={"width": 7}).model.net[0].out_channels == 7
    with pytest.raises(ConfigError, match="mine has no option 'depth'"):
        load_backbone("mine", options={"depth": 7})


def test_a_registered_function_that_fails_is_named():
    def broken():
        raise FileNotFoundError("weights.pt\nis not here")

    registry.register("backbones", "broken", broken)
    expected = "encoder 'broken' cannot be made: FileNotFoundError: weights.pt is not here"
    with pytest.raises(BackboneError, match=expected):
        load_backbone("broken")


def test_an_object_is_not_found_by_its_name():
    with pytest.raises(ConfigError, match=r"'object:a\.Net' is an object that was given in Python"):
        load_backbone("object:a.Net")
