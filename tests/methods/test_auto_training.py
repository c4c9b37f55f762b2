"""How an encoder is trained where the recipe leaves it open."""

import pytest

from tailora.config.presets import preset
from tailora.config.recipe import Recipe
from tailora.methods.auto_training import with_training

WON, USUAL = ("muon", "nadir", 32), ("adamw", "dihedral", None)
ROWS = {
    "nothing": ({}, WON),
    "debLoRA, which stands on LoRA": ({"method": "deblora"}, WON),
    "experts over LoRA": ({"method": "lora+ride"}, WON),
    "another loss": ({"train.loss": "balanced-softmax"}, WON),
    "images with an up": ({"data.has_up": True}, ("adamw", "none", None)),
    "radar": ({"data.radar": "power"}, USUAL),
    "an optimiser": ({"train.optimizer": "adamw"}, ("adamw", "nadir", 32)),
    "an augmentation": ({"train.augment": "none"}, ("muon", "none", 32)),
    "a rank": ({"adapter.rank": 4}, ("muon", "nadir", 4)),
    "the whole encoder": ({"method": "fine-tune"}, USUAL),
    "the whole encoder of images with an up": (
        {"method": "fine-tune", "data.has_up": True}, ("adamw", "none", None)
    ),
    "nothing trained": ({"method": "zero-shot"}, USUAL),
    "another tuner": ({"adapter.tuner": "dora"}, USUAL),
    "another objective": ({"train.objective": "supcon"}, USUAL),
    "pixels": ({"task": "segment"}, USUAL),
    "objects": ({"task": "detect"}, USUAL),
    "the paper's reading": (preset("paper"), ("adamw", "dihedral", 8)),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_what_won_is_taken_where_it_was_measured_and_nothing_that_was_set_is_changed(row):
    settings, expected = ROWS[row]
    recipe = with_training(Recipe().override(settings))
    assert (recipe.train.optimizer, recipe.train.augment, recipe.adapter.rank) == expected
    assert with_training(recipe) == recipe
