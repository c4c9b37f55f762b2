"""The packaged multispectral EfficientNet, from a made file and, where installed, the real one."""

import importlib.util
import json
import sys
from types import ModuleType

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from tailora.backbones import Encoder, cloud_efficientnet, load_backbone
from tailora.backbones.cloud_efficientnet import CLOUD_NAME, build, encoder_tensors
from tailora.errors import BackboneError, ConfigError

TINY = {
    "width_coefficient": 0.25,
    "depth_coefficient": 0.1,
    "hidden_dim": 320,
    "image_size": 64,
    "depthwise_padding": [],
}
BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
TO_SMP = {
    "embeddings.convolution": "_conv_stem", "embeddings.batchnorm": "_bn0",
    "expansion.expand_conv": "_expand_conv", "expansion.expand_bn": "_bn0",
    "depthwise_conv.depthwise_conv": "_depthwise_conv", "depthwise_conv.depthwise_norm": "_bn1",
    "squeeze_excite.reduce": "_se_reduce", "squeeze_excite.expand": "_se_expand",
    "projection.project_conv": "_project_conv", "projection.project_bn": "_bn2",
}  # fmt: skip


def smp_name(name):
    """Name of a layer in segmentation-models-pytorch."""
    layer, _, part = name.rpartition(".")
    if layer.startswith("blocks."):
        _, number, inner = layer.split(".", 2)
        return f"model.encoder._blocks.{number}.{TO_SMP[inner]}.{part}"
    return f"model.encoder.{TO_SMP[layer]}.{part}"


def constants(seed=0):
    """Weights of a tiny U-Net's encoder under the names of the package's files."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = cloud_efficientnet.EfficientNetModel(
            cloud_efficientnet.EfficientNetConfig(num_channels=6, **TINY)
        )
        model = cloud_efficientnet.CloudEfficientNet(net, BANDS)
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) * 0.2 + 0.1)
    found = {smp_name(n): t.numpy() for n, t in model.state_dict().items() if "batches" not in n}
    return found | {"model.decoder.blocks.0.weight": np.ones(3, np.float32)}, model.eval()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A stand-in for the installed package, with tiny files in its format."""
    folder = tmp_path / "ukis_csmask"
    folder.mkdir()
    tensors, model = constants()
    graph = helper.make_graph(
        [],
        "unet",
        [],
        [],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph), folder / "model_6b_l1c.onnx")
    facts = {"img": [[0.2] * 6, [0.1] * 6], "band_names": BANDS}
    (folder / "model_6b_l1c.json").write_text(json.dumps({"data": {"dataset_statistics": facts}}))
    spec = importlib.util.spec_from_loader("ukis_csmask", loader=None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    module = ModuleType("ukis_csmask")
    module.__spec__ = spec
    monkeypatch.setitem(sys.modules, "ukis_csmask", module)
    monkeypatch.setattr(cloud_efficientnet, "_B4", TINY)
    return model


def test_the_packaged_file_becomes_an_encoder_of_six_bands(package):
    loaded = load_backbone(CLOUD_NAME)
    assert loaded.units == "reflectance"
    assert (loaded.mean, loaded.std) == ((0.2,) * 6, (0.1,) * 6)
    assert loaded.model.config.band_names == BANDS
    assert "Apache-2.0" in loaded.license
    pixels = torch.rand(2, 6, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = loaded.model(pixels).last_hidden_state
        assert torch.equal(found, package(pixels).last_hidden_state)
    encoder = Encoder(loaded.model, pooling="mean", mean=[0.2] * 6, std=[0.1] * 6, scale=1)
    encoder.check_image_size(64)
    assert encoder(pixels).shape == (2, found.shape[1])


@pytest.mark.parametrize("spoil", ["missing", "unexpected", "shape"])
def test_another_encoder_is_refused(spoil):
    tensors, _ = constants()
    renamed = encoder_tensors(tensors)
    if spoil == "missing":
        del renamed["blocks.0.projection.project_conv.weight"]
    elif spoil == "unexpected":
        renamed["blocks.0.other.weight"] = torch.ones(1)
    else:
        renamed["embeddings.batchnorm.weight"] = torch.ones(1)
    with pytest.raises(BackboneError, match="contains another encoder"):
        build(renamed, BANDS, settings=TINY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": 5}, "bands must be 6 or 4, got 5"),
        ({"level": "l1b"}, "level must be 'l1c' or 'l2a'"),
        ({"band": 6}, "unknown option of .*'band'; did you mean 'bands'"),
    ],
)
def test_options_it_does_not_have_are_refused(options, message, package):
    with pytest.raises(ConfigError, match=message):
        load_backbone(CLOUD_NAME, options=options)


def test_a_file_that_is_not_installed_says_how_to_install(package):
    with pytest.raises(BackboneError, match="pip install --no-deps ukis-csmask"):
        load_backbone(CLOUD_NAME, options={"bands": 4})


@pytest.mark.packaged
def test_the_real_file_holds_an_efficientnet_b4():
    if importlib.util.find_spec("ukis_csmask") is None:
        pytest.skip(cloud_efficientnet.CLOUD_INSTALL)
    for options, bands in (({}, 6), ({"bands": 4, "level": "l2a"}, 4)):
        loaded = load_backbone(CLOUD_NAME, options=options)
        encoder = Encoder(
            loaded.model, pooling="mean", mean=loaded.mean, std=loaded.std, scale=10_000
        )
        assert encoder.features == 448
        assert sum(p.numel() for p in loaded.model.parameters()) > 16_000_000
        assert encoder(torch.full((1, bands, 64, 64), 2000)).isfinite().all()
