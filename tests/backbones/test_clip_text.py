"""Zero-shot from class names: the head decides as CLIP itself does."""

import shutil

import numpy as np
import pytest
import torch
from transformers import CLIPModel, CLIPTokenizer

from tailora.backbones import Encoder, load_backbone
from tailora.backbones.clip_text import TEMPLATES, text_head
from tailora.errors import BackboneError, ConfigError
from tests.tiny import tiny_encoder_folder
from tests.tiny_foundation import clip_folder

NAMES = ["ship", "forest", "water"]


@pytest.fixture
def folder(tmp_path):
    return clip_folder(tmp_path / "clip")


@pytest.fixture
def features(folder):
    """Class-token features of forty images, and the images as CLIP takes them."""
    loaded = load_backbone(str(folder))
    pixels = torch.randn(40, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    encoder = Encoder(loaded.model, pooling="class", mean=[0.0] * 3, std=[1.0] * 3, scale=1)
    with torch.no_grad():
        return encoder(pixels).numpy(), pixels


def clip_logits(folder, pixels, templates):
    """What transformers' own CLIP says, templates averaged as in its paper."""
    model, tokenizer = CLIPModel.from_pretrained(folder), CLIPTokenizer.from_pretrained(folder)
    with torch.no_grad():
        images = model.visual_projection(model.vision_model(pixels).pooler_output)
        images = images / images.norm(dim=1, keepdim=True)
        texts = []
        for name in NAMES:
            units = []
            for template in templates:
                tokens = tokenizer([template.format(name)], return_tensors="pt")
                units.append(model.text_projection(model.text_model(**tokens).pooler_output)[0])
            mean = sum(unit / unit.norm() for unit in units) / len(units)
            texts.append(mean / mean.norm())
    return model.logit_scale.exp() * images @ torch.stack(texts).T


@pytest.mark.parametrize("templates", [TEMPLATES, ("a photo of {}.",)])
def test_it_decides_as_clip_and_its_logits_are_clip_s_times_a_length(folder, features, templates):
    rows, pixels = features
    expected = clip_logits(folder, pixels, templates).detach()
    head = text_head(load_backbone(str(folder)), NAMES, templates=templates)
    logits = head(torch.from_numpy(rows))
    assert torch.equal(logits.argmax(dim=1), expected.argmax(dim=1))
    ratio = logits / expected
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), atol=1e-3, rtol=1e-3)
    assert not head.weight.requires_grad


def test_training_features_bring_the_temperature_to_clip_s_own(folder, features):
    rows, pixels = features
    expected = clip_logits(folder, pixels, TEMPLATES).detach()
    head = text_head(load_backbone(str(folder)), NAMES, features=rows)
    ratio = (head(torch.from_numpy(rows)) / expected)[:, 0]
    assert float(ratio.mean()) == pytest.approx(1, abs=1e-3)


def test_order_and_other_names_do_not_matter_to_a_class(folder):
    loaded = load_backbone(str(folder))
    weight = text_head(loaded, NAMES).weight
    turned = text_head(loaded, NAMES[::-1]).weight
    torch.testing.assert_close(weight, turned.flip(0))


@pytest.mark.parametrize(
    ("names", "templates", "message"),
    [
        ([], TEMPLATES, "needs a name for every class"),
        (["ship", " "], TEMPLATES, "needs a name for every class"),
        (NAMES, (), "each template needs"),
        (NAMES, ("a photo",), "each template needs"),
    ],
)
def test_names_and_templates_that_say_nothing_are_refused(names, templates, message, folder):
    with pytest.raises(ConfigError, match=message):
        text_head(load_backbone(str(folder)), names, templates=templates)


@pytest.mark.parametrize("kind", ["dinov2", "clip-vision", "siglip"])
def test_an_encoder_without_a_text_tower_of_clip_is_refused(kind, tmp_path):
    loaded = load_backbone(str(tiny_encoder_folder(tmp_path / kind, kind)))
    with pytest.raises(BackboneError, match="has no text encoder"):
        text_head(loaded, NAMES)


def test_a_model_without_its_tokenizer_is_refused(folder):
    for name in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(BackboneError, match="has no text encoder"):
        text_head(load_backbone(str(folder)), NAMES)


def test_features_of_another_pooling_are_refused(folder):
    with pytest.raises(BackboneError, match=r"set backbone\.pooling=class"):
        text_head(load_backbone(str(folder)), NAMES, features=np.zeros((4, 32), np.float32))


def test_a_copy_elsewhere_gives_the_same_head(folder, tmp_path):
    again = shutil.copytree(folder, tmp_path / "again")
    one, two = (text_head(load_backbone(str(where)), NAMES) for where in (folder, again))
    assert torch.equal(one.weight, two.weight)
