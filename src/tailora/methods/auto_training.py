"""How an encoder is trained where the recipe leaves it open: what won the search for a default.

Muon, augmentation with changes of scale and light, and rank 32 were tried together, for LoRA
trained with labels on whole optical images seen from above (docs/results/default.md). Everything
else keeps what is usual.
"""

from dataclasses import replace
from typing import Final

from tailora.augment.nadir import NADIR
from tailora.config.recipe import AUTO, Recipe
from tailora.methods.method import find_method
from tailora.tasks.task import find_task
from tailora.train.optimizers import DEFAULT

_WON: Final = "muon", NADIR, 32
_LORA: Final = "lora"


def with_training(recipe: Recipe) -> Recipe:
    """Put a choice in the place of each `"auto"` of `train`, and of a rank that is None.

    Args:
        recipe: As given or resolved.
    """
    optimizer, augment, rank = _WON if _was_measured(recipe) else _usual(recipe)
    train, adapter = recipe.train, recipe.adapter
    if train.optimizer == AUTO:
        train = replace(train, optimizer=optimizer)
    if train.augment == AUTO:
        train = replace(train, augment=augment)
    if adapter.rank is None and rank is not None:
        adapter = replace(adapter, rank=rank)
    return replace(recipe, train=train, adapter=adapter)


def _was_measured(recipe: Recipe) -> bool:
    """Whether the recipe is LoRA, alone or under other methods, as the search trained it."""
    return (
        find_task(recipe.task).per_image
        and find_method(recipe.method).has_adapter
        and recipe.adapter.tuner == _LORA
        and recipe.train.objective == "labels"
        and recipe.data.radar == "none"
        and not recipe.data.has_up
    )


def _usual(recipe: Recipe) -> tuple[str, str, None]:
    return DEFAULT, "none" if recipe.data.has_up else "dihedral", None
