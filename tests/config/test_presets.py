"""Presets are recipe keys, and whatever is given beside one goes before it."""

import tomllib

import pytest

from tailora.cli.options import chosen_recipe
from tailora.config.deblora_options import DebiasOptions
from tailora.config.presets import PRESETS, preset
from tailora.config.recipe import Recipe
from tailora.errors import ConfigError


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_recipe(name):
    recipe = Recipe().override(preset(name))
    assert preset(name).items() <= recipe.flat().items()
    assert Recipe().override(tomllib.loads("")) == Recipe()


def test_the_paper_says_all_that_it_decides_about_debiasing():
    """A default that changes later must not change what the paper said."""
    left = {"epochs", "balance", "standardize", "pca"}  # silent, or not known
    said = {key.partition(".")[2] for key in preset("paper") if key.startswith("deblora.")}
    assert said | left == set(DebiasOptions.__dataclass_fields__) | {"epochs"}


def test_flags_and_assignments_go_before_a_preset():
    recipe = chosen_recipe(None, ["deblora.pull=0.5"], start="paper", clusters=8)
    assert (recipe.deblora.clusters, recipe.deblora.pull) == (8, 0.5)
    assert recipe.deblora.init == "fresh"
    assert recipe.probe.loss == "cross-entropy"


def test_a_file_goes_before_a_preset(tmp_path):
    (tmp_path / "mine.toml").write_text('[probe]\nloss = "focal"\n')
    recipe = chosen_recipe(tmp_path / "mine.toml", None, start="paper")
    assert recipe.probe.loss == "focal"
    assert recipe.deblora.init == "fresh"


def test_a_preset_can_be_changed_without_changing_it():
    preset("paper")["deblora.clusters"] = 1
    assert preset("paper")["deblora.clusters"] == 32


def test_an_unknown_preset_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'paper'"):
        preset("papr")
