import json
from unittest.mock import MagicMock

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

from tailora.backbones import load_backbone, normalization
from tailora.backbones.normalization import stored_normalization
from tailora.errors import BackboneError
from tests.tiny import tiny_encoder_folder

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def stored(folder, **settings):
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), "utf-8")
    loaded = load_backbone(str(folder))
    return loaded.mean, loaded.std


def test_what_the_folder_says_is_taken(folder):
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    assert stored(folder, image_mean=mean, image_std=std) == (tuple(mean), tuple(std))


def test_a_model_trained_on_plain_values_gets_plain_values(folder):
    got = stored(folder, do_normalize=False, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    assert got == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("settings", [{}, {"image_mean": None, "image_std": None}])
def test_without_a_word_three_bands_are_imagenet_s(folder, settings):
    loaded = load_backbone(str(folder))
    assert (loaded.mean, loaded.std) == IMAGENET
    assert stored(folder, **settings) == IMAGENET


def test_other_bands_than_three_are_not_given_three_values(tmp_path):
    folder = tiny_encoder_folder(tmp_path / "five", bands=5)
    half = (0.5,) * 5
    assert stored(folder, image_mean=[0.1] * 3, image_std=[0.2] * 3) == (half, half)


def test_a_damaged_file_is_told_by_name(folder):
    (folder / "preprocessor_config.json").write_text("{", "utf-8")
    with pytest.raises(BackboneError, match=r"preprocessor_config\.json' is not JSON"):
        load_backbone(str(folder))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that answers with the file, or raises, whatever `hub.answer` says."""

    class Hub:
        answer = tmp_path / "preprocessor_config.json"
        asked = False

        def download(self, *_, local_files_only=False):
            if local_files_only:
                raise LocalEntryNotFoundError("not in the cache")
            self.asked = True
            if isinstance(self.answer, Exception):
                raise self.answer
            return str(self.answer)

    hub = Hub()
    hub.answer.write_text(json.dumps({"do_normalize": False}), "utf-8")
    monkeypatch.setattr(normalization, "hf_hub_download", hub.download)
    monkeypatch.setattr(normalization, "hub_is_reachable", lambda: True)
    return hub


def test_a_file_that_is_not_in_the_cache_is_fetched(hub):
    assert stored_normalization("someone/tiny", 3) == ((0.0,) * 3, (1.0,) * 3)


def test_without_the_hub_nothing_is_fetched(hub, monkeypatch):
    monkeypatch.setattr(normalization, "hub_is_reachable", lambda: False)
    assert stored_normalization("someone/tiny", 3) == IMAGENET
    assert not hub.asked


def test_a_file_that_the_hub_does_not_have_is_no_error(hub):
    hub.answer = RemoteEntryNotFoundError("no such file", response=MagicMock())
    assert stored_normalization("someone/tiny", 3) == IMAGENET


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("cut off"), OSError("cut off\nmore")])
def test_a_file_that_could_not_be_fetched_is_not_replaced_in_silence(error, hub):
    hub.answer = error
    with pytest.raises(BackboneError, match=r"cannot fetch .* of 'someone/tiny': cut off; try aga"):
        stored_normalization("someone/tiny", 3)
