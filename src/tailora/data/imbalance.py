"""Synthetic long tails: a training split subsampled to an exponential, step or linear profile.

To study the effect of imbalance, everything else is kept: the same classes and test split, with
images removed and none added. The largest class stays the largest.

Reference: step and linear profiles, Buda et al., "A systematic study of the class imbalance problem
in convolutional neural networks", Neural Networks 2018; exponential, Cao et al., NeurIPS 2019.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.counts import rows_by_class
from tailora.data.dataset import Dataset
from tailora.errors import ConfigError, DataError, unknown_name

Shares = NDArray[np.float64]


@final
@dataclass(frozen=True)
class Imbalance:
    """A profile of class sizes.

    Args:
        profile: `"exponential"`, `"step"` or `"linear"`.
        ratio: Largest class over smallest, finite and at least 1; 1 is balanced.
        minority: Share of small classes for `"step"`, in (0, 1).

    Raises:
        ConfigError: An unknown profile, an option out of range, or one that the profile ignores.
    """

    profile: str
    ratio: float = 10.0
    minority: float | None = None

    def __post_init__(self) -> None:
        if self.profile not in _PROFILES:
            raise unknown_name("imbalance profile", self.profile, _PROFILES)
        if not 1 <= self.ratio < math.inf:
            raise ConfigError(f"ratio must be finite and at least 1, got {self.ratio}")
        if self.minority is not None and self.profile != "step":
            raise ConfigError(f"minority has no effect for {self.profile!r}; it applies to 'step'")
        if not 0 < self.share_of_small < 1:
            raise ConfigError(f"minority must lie in (0, 1), got {self.minority}")

    @property
    def share_of_small(self) -> float:
        """Share of small classes; a half by default."""
        return 0.5 if self.minority is None else self.minority


def parse_imbalance(text: str) -> Imbalance:
    """Read `profile:option=value:...`.

    Raises:
        ConfigError: See `Imbalance`; or an option that is unknown or not a number.

    Example:
        >>> parse_imbalance("step:ratio=50:minority=0.3")
        Imbalance(profile='step', ratio=50.0, minority=0.3)
    """
    profile, *assignments = text.split(":")
    known = [item.name for item in fields(Imbalance) if item.name != "profile"]
    chosen: dict[str, float] = {}
    for assignment in assignments:
        key, _, value = assignment.partition("=")
        if key not in known:
            raise unknown_name("option of imbalance", key, known)
        try:
            chosen[key] = float(value)
        except ValueError as error:
            raise ConfigError(f"imbalance {key} takes a number, got {value!r}") from error
    return Imbalance(profile, **chosen)


def profile_shares(wanted: Imbalance, num_classes: int) -> Shares:
    """Return class sizes relative to the largest class, largest first (classes,), in (0, 1].

    Example:
        >>> profile_shares(Imbalance("linear", ratio=4), 4).tolist()
        [1.0, 0.75, 0.5, 0.25]
    """
    if num_classes < 2:
        raise ConfigError(f"a profile needs two classes, got {num_classes}")
    return _PROFILES[wanted.profile](num_classes, 1 / wanted.ratio, wanted.share_of_small)


def profile_counts(available: NDArray[np.int64], wanted: Imbalance) -> NDArray[np.int64]:
    """Return the largest class sizes of a profile that the available samples allow.

    Args:
        available: Samples per class (classes,); larger classes get larger shares.
        wanted: The profile.

    Returns:
        (classes,), `int(n_max * share)` as usual for synthetic long tails.

    Raises:
        DataError: A class would be left without a sample.

    Example:
        >>> profile_counts(np.array([30, 100, 60]), Imbalance("exponential", ratio=4)).tolist()
        [25, 100, 50]
    """
    order = np.argsort(-available, kind="stable")
    shares = np.empty(len(available))
    shares[order] = profile_shares(wanted, len(available))
    n_max = int((available / shares).min() + 1e-9)  # 3 / 0.1 is a hair below 30
    counts = (n_max * shares + 1e-9).astype(np.int64)
    if counts.min() < 1:
        raise DataError(
            f"a {wanted.profile} profile of ratio {wanted.ratio:g} leaves a class empty: its "
            f"largest class can have {n_max} samples; lower the ratio"
        )
    return counts


def make_imbalanced(dataset: Dataset, wanted: Imbalance, *, seed: int = 0) -> Dataset:
    """Subsample the training split to a profile, and validation by the same share of each class.

    The test split is unchanged, so that scores of several profiles are comparable.

    Args:
        dataset: With as many training samples as possible.
        wanted: The profile.
        seed: Selects the samples to keep.

    Raises:
        DataError: A class would be left without a training sample.
    """
    if dataset.targets is not None:
        raise ConfigError("--imbalance thins images with one label each, and these have more")
    available = np.asarray(dataset.counts("train").values, dtype=np.int64)
    counts = profile_counts(available, wanted)
    generator = np.random.default_rng(seed)
    kept = [dataset.indices("test")]
    for split in ("train", "val"):
        rows = dataset.indices(split)
        members = rows_by_class(dataset.labels[rows], len(counts))
        for own, stay, had in zip(members, counts, available, strict=True):
            mine = rows[own]
            size = math.ceil(len(mine) * stay / had)  # a class with validation samples keeps one
            kept.append(generator.choice(mine, size=size, replace=False))
    note = (
        f"synthetic imbalance: {wanted.profile} profile of ratio {wanted.ratio:g}, "
        f"{int(counts.sum())} of {int(available.sum())} training samples"
    )
    return dataset.select(np.sort(np.concatenate(kept)), note=note)


def _exponential(num_classes: int, smallest: float, _: float) -> Shares:
    return smallest ** (np.arange(num_classes) / (num_classes - 1))


def _step(num_classes: int, smallest: float, share_of_small: float) -> Shares:
    small = min(max(round(share_of_small * num_classes), 1), num_classes - 1)
    return np.where(np.arange(num_classes) < num_classes - small, 1.0, smallest)


def _linear(num_classes: int, smallest: float, _: float) -> Shares:
    return np.linspace(1, smallest, num_classes)


_PROFILES: Final[dict[str, Callable[[int, float, float], Shares]]] = {
    "exponential": _exponential,
    "step": _step,
    "linear": _linear,
}
