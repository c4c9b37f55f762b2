"""Options of the objectives that compare two views: those of the loss, and of what is around it."""

import math
from collections.abc import Mapping
from typing import Any, Final

from tailora import registry
from tailora.contrastive.subclasses import subclass_numbers
from tailora.counts import ClassCounts
from tailora.errors import ConfigError, unknown_name

_SHARED: Final = {"projection": 128, "jitter": 0.2}
# beside the options of the loss; the papers train for hundreds of epochs, adapters for a few
_OWN: Final[dict[str, dict[str, Any]]] = {
    "supcon": {},
    "sbcl": {"warmup": 1, "every": 1, "minimum": 10, "percentile": 10.0},
    "paco": {"queue": 1024, "momentum": 0.999, "prototypes": 0},
}
# smallest and largest value
_RANGES: Final = {
    "projection": (1, math.inf),
    "jitter": (0, 0.9),
    "warmup": (0, math.inf),
    "every": (1, math.inf),
    "minimum": (1, math.inf),
    "percentile": (0, 50),
    "queue": (1, math.inf),
    "momentum": (0, 1),
    "prototypes": (0, 10_000),
}
CONTRASTIVE: Final = tuple(_OWN)


def objective_options(name: str) -> dict[str, Any]:
    """Options of an objective with their defaults: the loss's first."""
    return _of_loss(name) | _OWN[name] | _SHARED


def _of_loss(name: str) -> dict[str, Any]:
    """Options of the loss but for ignored targets: every training row has a class."""
    known = registry.options(registry.find("contrastive", name))
    return {key: value for key, value in known.items() if key != "ignore_index"}


def read_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults and refuse what does not fit.

    Args:
        name: `"supcon"`, `"sbcl"` or `"paco"`.
        given: As in a recipe.

    Raises:
        ConfigError: An option the objective does not have (the nearest is named), of another type,
            or out of range.
    """
    known = objective_options(name)
    for option, value in given.items():
        if option not in known:
            raise unknown_name(f"option of train.objective={name}", option, known)
        kinds = (int, float) if isinstance(known[option], float) else (int,)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ConfigError(
                f"train.objective_options.{option} must be {kinds[-1].__name__}, got {value!r}"
            )
        low, high = _RANGES.get(option, (-math.inf, math.inf))
        if not low <= value <= high:
            raise ConfigError(
                f"train.objective_options.{option} must lie in [{low}, {high}], got {value!r}"
            )
    return {**known, **given}


def build_contrastive(name: str, options: Mapping[str, Any], counts: ClassCounts) -> Any:
    """Make the loss of an objective from `read_options`.

    Raises:
        ConfigError: An option of the loss is out of range.
    """
    loss = registry.find("contrastive", name)
    chosen = {key: options[key] for key in _of_loss(name)}
    return registry.build(loss, {"counts": counts}, chosen)


def check_contrastive(
    name: str, given: Mapping[str, Any], counts: ClassCounts, *, epochs: int
) -> None:
    """Reject options that cannot work on these classes, or would have no effect.

    Raises:
        ConfigError: See `read_options`; or SBCL never divides a class.
    """
    options = read_options(name, given)
    build_contrastive(name, options, counts)
    if name != "sbcl":
        return
    if options["warmup"] >= epochs:
        raise ConfigError(
            f"train.objective_options.warmup={options['warmup']} leaves none of {epochs} epochs to "
            "sbcl; lower it, train more epochs, or choose train.objective=supcon"
        )
    minimum = options["minimum"]
    if subclass_numbers(counts, minimum=minimum).max() == 1:
        raise ConfigError(
            f"no class of {max(counts.values)} samples or fewer is divided by sbcl with "
            f"minimum={minimum}; lower train.objective_options.minimum, or choose "
            "train.objective=supcon"
        )
