"""A sampler by its name, made for the rows of a training split."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora import registry
from tailora.errors import ConfigError
from tailora.samplers.epoch import EpochSampler

NO_SAMPLER: Final = "none"


@dataclass(frozen=True)
class TwoPhases:
    """One sampler for the first epochs and another for the rest; None is every row once.

    Args:
        first: Of the first phase.
        second: Of the second phase.
        start: First epoch of the second phase, from 0.
    """

    first: EpochSampler | None
    second: EpochSampler | None
    start: int


Order = EpochSampler | TwoPhases | None


def sampler_at(order: Order, epoch: int) -> EpochSampler | None:
    """Return the sampler of an epoch."""
    if isinstance(order, TwoPhases):
        return order.first if epoch < order.start else order.second
    return order


def draws(rows: NDArray[np.int64], sampler: EpochSampler | None) -> int:
    """How many rows an epoch has: each once, or what a sampler draws of them."""
    return len(rows) if sampler is None else len(sampler)


def rows_an_epoch(rows: NDArray[np.int64], order: Order, epochs: int) -> list[int]:
    """How many rows each epoch has."""
    return [draws(rows, sampler_at(order, epoch)) for epoch in range(epochs)]


def check_sampler(name: str, options: Mapping[str, Any]) -> None:
    """Reject an unknown sampler, and options that it does not have.

    Raises:
        ConfigError: The nearest name, or the options there are, are in the message.
    """
    if name == NO_SAMPLER:
        if options:
            raise ConfigError(
                f"train.sampler_options {sorted(options)} need a train.sampler, got {name!r}"
            )
        return
    known = registry.names("samplers")
    if name not in known:
        raise registry.missing("sampler", name, [*known, NO_SAMPLER])
    registry.check_options(registry.find("samplers", name), options)


def build_sampler(
    name: str,
    labels: NDArray[np.int64],
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    options: Mapping[str, Any],
    held: NDArray[np.bool_] | None = None,
) -> EpochSampler | None:
    """Make the sampler called `name`, or none at all for `"none"`.

    Args:
        name: A sampler of `tailora methods`, or `"none"`.
        labels: Class index of each row of the training split (rows,).
        batch_size: Rows a step; samplers that compose batches need it.
        epochs: Passes; samplers that change over the training need it.
        seed: Of the order, unless the options have another.
        options: Passed to the sampler.
        held: Which classes each row holds (rows, classes), where there may be several; samplers
            that can draw by them do, and the others draw by `labels`.

    Raises:
        ConfigError: Unknown sampler (the nearest is named), an option it does not have or cannot
            use, or a batch that it cannot compose of these classes.

    Example:
        >>> labels = np.array([0, 0, 0, 1])
        >>> settings = {"batch_size": 2, "epochs": 1, "seed": 0, "options": {}}
        >>> len(build_sampler("oversampling", labels, **settings))
        6
    """
    check_sampler(name, options)
    if name == NO_SAMPLER:
        return None
    found = registry.find("samplers", name)
    several = held is not None and getattr(found, "holds_several", False)
    facts = {
        "labels": held if several else labels,
        "batch_size": batch_size,
        "epochs": epochs,
    }
    try:
        sampler = registry.build(found, facts, {"seed": seed, **options})
        next(iter(sampler))  # some values of a wrong type are only met when an epoch is drawn
    except TypeError as error:
        raise ConfigError(f"sampler {name!r} cannot use {dict(options)}: {error}") from error
    return sampler
