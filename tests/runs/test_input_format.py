import json

import pytest
import torch

from tailora.runs.input_format import InputFormat

IMAGES = torch.arange(2 * 4 * 3 * 3).reshape(2, 4, 3, 3)


def of(*bands):
    return InputFormat(
        image_size=70, resize="crop", bands=bands, dtype="uint16", scale=1.0,
        mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0),
    )  # fmt: skip


@pytest.mark.parametrize("bands", [(1, 2, 3, 4), (4, 2, 1), (3, 3, 3), (2,)])
def test_bands_are_picked_in_the_order_given_and_counted_from_one(bands):
    picked = of(*bands).select(IMAGES)
    assert picked.shape == (2, len(bands), 3, 3)
    for place, band in enumerate(bands):
        assert torch.equal(picked[:, place], IMAGES[:, band - 1])


def test_all_bands_in_order_are_given_without_a_copy():
    assert of(1, 2, 3, 4).select(IMAGES) is IMAGES


def test_the_first_bands_alone_are_a_choice_too():
    assert of(1, 2, 3).select(IMAGES).shape == (2, 3, 3, 3)


def test_it_survives_json():
    entry = of(4, 2, 1)
    assert InputFormat.from_json(json.loads(json.dumps(entry.to_json()))) == entry
