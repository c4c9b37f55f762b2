"""What every encoder must do, transformers or not: forward, pooling, adapter, saving, probe."""

import copy

import numpy as np
import pytest
import torch
from peft import PeftModel

from tailora.adapters import AdapterSpec, adapt, require_gradients
from tailora.backbones import Encoder, load_backbone
from tailora.counts import ClassCounts
from tailora.errors import BackboneError, ConfigError
from tailora.features import extract
from tailora.heads.linear_probe import fit_linear_probe
from tailora.losses import CrossEntropyLoss
from tests.tiny import KINDS, tiny_encoder_folder
from tests.tiny_foundation import clip_folder, pipeline_folder, satmae_file, satmae_tensors

OTHERS = ("satmae", "satmae-grouped", "stable-diffusion", "clip-with-text")
BANDS = {"satmae-grouped": 10}
HAS_CLASS_TOKEN = ("satmae", "satmae-grouped", "clip-with-text")
OPTIONS = {"stable-diffusion": {"draws": 2}}


def load(kind, path):
    if kind == "stable-diffusion":
        pytest.importorskip("diffusers")
    if kind.startswith("satmae"):
        tensors = satmae_tensors(grouped=kind == "satmae-grouped")
        where = satmae_file(path / f"{kind}.pth", tensors)
    else:
        make = {"stable-diffusion": pipeline_folder, "clip-with-text": clip_folder}.get(kind)
        where = make(path / kind) if make else tiny_encoder_folder(path / kind, kind)
    return load_backbone(str(where), options=OPTIONS.get(kind))


def make(kind, path, pooling="mean"):
    loaded = load(kind, path)
    bands = BANDS.get(kind, 3)
    return Encoder(loaded.model, pooling=pooling, mean=[0.5] * bands, std=[0.3] * bands)


def batch(kind, count=2, size=28):
    generator = torch.Generator().manual_seed(1)
    shape = (count, BANDS.get(kind, 3), size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_features_are_finite_and_do_not_depend_on_the_batch_or_the_call(kind, tmp_path):
    encoder = make(kind, tmp_path).eval()
    encoder.check_image_size(28)
    images = batch(kind)
    with torch.no_grad():
        features = encoder(images)
        assert features.shape == (2, encoder.features)
        assert features.dtype == torch.float32
        assert features.isfinite().all()
        assert torch.equal(features, encoder(images))
        torch.testing.assert_close(encoder(images[:1]), features[:1], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(features[0], features[1])


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("size", [28, 56])
def test_other_sizes_are_taken(kind, size, tmp_path):
    encoder = make(kind, tmp_path)
    encoder.check_image_size(size)
    with torch.no_grad():
        assert encoder(batch(kind, size=size)).isfinite().all()


@pytest.mark.parametrize("kind", OTHERS)
def test_a_size_that_patches_do_not_fill_is_refused(kind, tmp_path):
    with pytest.raises(BackboneError, match="are not a multiple of the patch size"):
        make(kind, tmp_path).check_image_size(29)


@pytest.mark.parametrize("kind", OTHERS)
def test_pooling_follows_what_there_is(kind, tmp_path):
    if kind in HAS_CLASS_TOKEN:
        both = make(kind, tmp_path, "both")
        parts = [make(kind, tmp_path, pooling) for pooling in ("class", "mean")]
        images = batch(kind)
        with torch.no_grad():
            side_by_side = torch.cat([part(images) for part in parts], dim=1)
            assert torch.equal(both(images), side_by_side)
    else:
        with pytest.raises(BackboneError, match="no class token"):
            make(kind, tmp_path, "class")


@torch.random.fork_rng(devices=[])  # PEFT draws weights before it reads the saved ones
@pytest.mark.parametrize("kind", [*KINDS, *OTHERS])
def test_an_adapter_learns_in_all_its_parts_and_survives_saving(kind, tmp_path):
    encoder = make(kind, tmp_path).requires_grad_(False)
    plain, images = encoder.backbone, batch(kind)
    encoder.backbone = adapt(
        copy.deepcopy(plain), AdapterSpec(rank=2), seed=0, total_steps=1
    ).eval()
    before = encoder(images)
    before.square().sum().backward()
    require_gradients(encoder.backbone)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.full_like(parameter, 0.1))
        after = encoder(images)
        assert not torch.allclose(before, after, atol=1e-4)
        encoder.backbone.save_pretrained(tmp_path / "adapter")
        encoder.backbone = PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
        torch.testing.assert_close(encoder(images), after, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", OTHERS)
def test_the_probe_learns_on_its_features(kind, tmp_path):
    encoder = make(kind, tmp_path)
    dark, bright = batch(kind, 6) // 8, batch(kind, 6) // 8 + 200
    images = torch.cat([dark, bright])
    rows = extract(encoder, lambda wanted: images[torch.from_numpy(wanted)], np.arange(12))
    labels = np.repeat([0, 1], 6)
    loss = CrossEntropyLoss(ClassCounts(("dark", "bright"), (6, 6)))
    head = fit_linear_probe(rows, labels, loss=loss, num_classes=2, l2=0.01).linear
    with torch.no_grad():
        assert (head(torch.from_numpy(rows)).argmax(dim=1).numpy() == labels).mean() > 0.9


@pytest.mark.parametrize("kind", OTHERS)
def test_equal_weights_have_equal_fingerprints(kind, tmp_path):
    (tmp_path / "again").mkdir()
    assert load(kind, tmp_path).sha256 == load(kind, tmp_path / "again").sha256


@pytest.mark.parametrize("kind", ["dinov2", "satmae"])
def test_encoders_without_options_take_none(kind, tmp_path):
    name = load(kind, tmp_path).name
    with pytest.raises(ConfigError, match=r"has no backbone\.options, got 'timestep'"):
        load_backbone(name, options={"timestep": 1})
