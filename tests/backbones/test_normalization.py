import json

import pytest

from tailora.backbones import load_backbone
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
