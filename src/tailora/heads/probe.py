"""What a head is: `Probe`, the data it is fitted to, and what several heads share.

Each is trained on frozen features and becomes a module from features (rows, width) to logits (rows,
classes) whose state is all that is saved. Hyperparameters (penalty, tau) are selected on validation
features, never on the test split. All heads use features standardised by the training split, so the
scale of dimensions does not matter.

Reference: decoupled training, Kang et al., ICLR 2020; each head names its own paper.
"""

import itertools
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.counts import ClassCounts, Groups
from tailora.errors import ConfigError
from tailora.heads.linear_probe import L2_GRID, Score, predict_logits, unit_spread

Rows = NDArray[np.float32]
Logits = Callable[[Rows], Rows]
Options = Mapping[str, Any]

NO_OPTIONS: Final[Options] = {}
CHOSEN: Final = "chosen_options"
"""Attribute of a fitted head: the options it has of those that were given as lists."""
_COMPARED: Final = 32  # rows that a head and its copy are compared on


@final
@dataclass(frozen=True, eq=False)
class Maps:
    """Features at every place of some images, with the classes that are known.

    Args:
        features: (images, ..., rows, columns, width), of any floating-point type; may be
            memory-mapped.
        targets: Class index of each place (images, ..., rows, columns), negative without one.
        finer: The same on a finer grid, for heads that say more than one thing about a place.
        bands: Bands of the pixels that are the last features, see `Encoder.with_pixels`; 0 where
            there are none.
        pictures: Number of the image that each map is of (images,), equal where several raters
            labelled one; None for another image each.
    """

    features: NDArray[np.floating]
    targets: NDArray[np.integer]
    finer: NDArray[np.integer] | None = None
    bands: int = 0
    pictures: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class ProbeData:
    """Training data of a head.

    Args:
        features: Training features (rows, width).
        labels: Their class indices (rows,).
        val_features: Validation features (rows, width).
        val_labels: Their class indices (rows,).
        counts: Training samples per class.
        groups: Head, middle and tail.
        score: Higher is better, of validation targets and predictions.
        seed: Seed of heads with a random initialisation.
        l2: L2 penalties of linear heads to select from.
        views: Features of two views of the images to be predicted, both (rows, width), without
            their labels; for heads that need `views`.
        text: Builds a head from class names, for heads that need `text`.
        own: The head that the features were trained with, for the head `own`.
        as_they_are: How many of the first training features are of images as they are, if others
            follow, e.g. of turned images: the penalty of a linear head is selected with these
            alone. 0 stands for all.
        maps: Training images with features at every place, for heads that need `maps`.
        val_maps: The same of validation.
        moved: Whether training features were moved after they were extracted, so that they are no
            longer those at the places of `maps`; for heads that have `learns_moved`.
    """

    features: Rows
    labels: NDArray[np.int64]
    val_features: Rows
    val_labels: NDArray[np.int64]
    counts: ClassCounts
    groups: Groups
    score: Score
    seed: int = 0
    l2: tuple[float, ...] = L2_GRID
    views: tuple[Rows, Rows] | None = None
    text: Callable[[], nn.Linear] | None = None
    own: nn.Module | None = None
    as_they_are: int = 0
    maps: Maps | None = None
    val_maps: Maps | None = None
    moved: bool = False


class Probe(ABC):
    """A head on frozen features.

    Name and summary are constants, so that `tailora methods` can read them from source.

    Attributes:
        name: Name in recipes and on the command line, e.g. `"crt"`.
        summary: Description with its paper, on one line.
        views: Whether it needs two views of the images to predict, so that it cannot be saved in a
            run.
        text: Whether it needs the text encoder of CLIP.
        own: Whether it is the head of the adapter's own training, which not every method has.
        maps: Whether it sees all places of an image at once: its module, which has `sees_maps`,
            takes features (images, rows, columns, width) and gives logits of each place.
        learns_moved: Whether, though it sees maps, a part of it can learn from rows that a method
            moved.
        transitions: Whether its classes are transitions between two dates, as in task `change`.
        is_linear: Whether it is a linear layer, from which the training of an adapter can start.
        kept: What `empty` needs beside its options, which `fit` adds to `CHOSEN` of its module.
    """

    name: str
    summary: str
    views = False
    text = False
    own = False
    maps = False
    learns_moved = False
    transitions = False
    is_linear = False
    kept: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """Return its options with their defaults."""
        return {}

    def known(self, options: Options) -> set[str]:
        """Names of what a saved head of these options may have been fitted with."""
        return {*self.options, *self.kept}

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Reject unknown options, and those that do not fit the classes.

        Raises:
            ConfigError: The message lists the options.
        """
        if unknown := sorted(options.keys() - self.options.keys()):
            if not self.options:
                raise ConfigError(f"probe {self.name!r} has no options, got {unknown}")
            known = ", ".join(self.options)
            raise ConfigError(f"probe {self.name!r} has no option {unknown[0]!r}; it has {known}")

    def check_values(self, options: Options) -> None:
        """Reject values that are wrong whatever the classes, such as none.

        Raises:
            ConfigError: The message has the value.
        """
        choices_of(options)

    @abstractmethod
    def fit(self, data: ProbeData, options: Options = NO_OPTIONS) -> nn.Module:
        """Train it: returns a module from features (rows, width) to logits (rows, classes).

        Raises:
            ConfigError: An option does not fit, or `views` or `text` are needed and missing.
        """

    @abstractmethod
    def empty(self, width: int, classes: int, options: Options = NO_OPTIONS) -> nn.Module:
        """Build the module that `fit` returns without its state, for loading.

        Args:
            width: Width of the features.
            classes: Number of classes.
            options: As given to `fit`.

        Raises:
            ConfigError: An option does not fit.
        """


def choices_of(options: Options) -> list[dict[str, Any]]:
    """Every combination of the values of options that are lists.

    Example:
        >>> choices_of({"tau": [0.7, 1.0], "weight": 2})
        [{'tau': 0.7, 'weight': 2}, {'tau': 1.0, 'weight': 2}]
    """
    listed = [value if isinstance(value, list) else [value] for value in options.values()]
    if not all(listed):
        raise ConfigError(f"probe options must not be empty lists, got {dict(options)}")
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*listed)]


def best_of(
    name: str, data: ProbeData, options: Options, fitted: Callable[[dict[str, Any]], nn.Module]
) -> nn.Module:
    """Fit a head with each combination of options given as lists; keep the best on validation."""
    choices = choices_of(options)
    if len(choices) > 1 and not len(data.val_labels):
        raise ConfigError(
            f"probe {name!r} has several values of an option and no validation sample to choose "
            "by; give one value"
        )
    heads = [fitted(chosen) for chosen in choices]
    for head, chosen in zip(heads, choices, strict=True):
        setattr(head, CHOSEN, chosen)
    if len(heads) == 1:
        return heads[0]
    predicted = [_validation_logits(head, data).argmax(axis=1) for head in heads]
    scores = [data.score(data.val_labels, classes) for classes in predicted]
    return heads[int(np.argmax(scores))]  # of equals the first


def _validation_logits(head: nn.Module, data: ProbeData) -> Rows:
    """Logits of the validation rows (rows, classes)."""
    if not sees_maps(head):
        return predict_logits(head, data.val_features)
    if data.val_maps is None:
        raise ConfigError("a head on maps is chosen by maps of validation, and there are none")
    return predict_logits(head, data.val_maps.features)[data.val_maps.targets >= 0]


def sees_maps(head: nn.Module) -> bool:
    """Whether a head takes maps of features, see `Probe.maps`, in place of rows."""
    return bool(getattr(head, "sees_maps", False))


def empty_head(probe: Probe, width: int, classes: int, options: Options) -> nn.Module:
    """Return `probe.empty`; a head that draws weights leaves torch's global state as it is."""
    with torch.random.fork_rng():
        return probe.empty(width, classes, options)


def check_kept(probe: Probe, head: nn.Module, rows: Rows, classes: int, options: Options) -> None:
    """Reject a head whose state dict is not all of it, since a run keeps nothing else.

    Args:
        probe: That trained it.
        head: As trained.
        rows: Features to compare answers on: (rows, width), or maps where the head sees maps.
        classes: How many it tells apart.
        options: As given to `probe.fit`.

    Raises:
        ConfigError: `probe.empty` with its state is not the same head.
    """
    some = as_tensor(rows[:_COMPARED])
    try:
        again = empty_head(probe, rows.shape[-1], classes, options)
        again.load_state_dict(head.state_dict())
        with torch.inference_mode():
            expected, found = head.eval()(some), again.eval()(some)
        wanted = (*some.shape[:-1], classes)
        if expected.shape != wanted:
            reason = f"it returns {tuple(expected.shape)} where {wanted} was expected"
        elif not torch.allclose(expected, found, rtol=0, atol=0, equal_nan=True):
            reason = "its state is not all of it; keep what it learns in parameters or buffers"
        else:
            return
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
    raise ConfigError(f"head {probe.name!r} cannot be saved: {reason}")


def as_logits(head: nn.Module) -> Logits:
    """Return a trained head as a function of arrays, all rows at once."""
    head.eval()

    def logits(rows: Rows) -> Rows:
        with torch.inference_mode():
            return head(as_tensor(rows)).numpy()

    return logits


class StandardisedProbe(Probe):
    """A head trained on standardised features; subclasses define it."""

    def fit(self, data: ProbeData, options: Options = NO_OPTIONS) -> nn.Module:
        """Train it, see `Probe.fit`."""
        self.check(options, data.counts)
        scale = Standardisation(data.features.shape[1])
        scale.mean.copy_(torch.from_numpy(data.features.mean(axis=0, dtype=np.float64)))
        scale.spread.copy_(torch.from_numpy(unit_spread(data.features)))
        scaled = replace(
            data,
            features=_scaled(scale, data.features),
            val_features=_scaled(scale, data.val_features),
            views=data.views and (_scaled(scale, data.views[0]), _scaled(scale, data.views[1])),
        )
        learnt = self.learn(scaled, options)
        head = _in_order(scale, learnt)
        if hasattr(learnt, CHOSEN):
            setattr(head, CHOSEN, getattr(learnt, CHOSEN))
        return head

    def empty(self, width: int, classes: int, options: Options = NO_OPTIONS) -> nn.Module:
        """Build it without its state, see `Probe.empty`."""
        return _in_order(Standardisation(width), self.shape(width, classes, options))

    @abstractmethod
    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        """Train the head on standardised features."""

    @abstractmethod
    def shape(self, width: int, classes: int, options: Options) -> nn.Module:
        """Build the module that `learn` returns, without its state."""


class Standardisation(nn.Module):
    """Standardise each dimension; mean and standard deviation are state, (width,) float64."""

    mean: Tensor
    spread: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(width, dtype=torch.float64))

    def forward(self, features: Tensor) -> Tensor:
        """Standardise `features` (rows, width) in double precision; float32."""
        return ((features - self.mean) / self.spread).float()


def _in_order(scale: Standardisation, head: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(scale=scale, head=head))


def as_tensor(rows: Rows) -> Tensor:
    """Copy features (rows, width) to float32."""
    return torch.from_numpy(np.array(rows, dtype=np.float32))  # a mapped file may not be written to


def _scaled(scale: Standardisation, rows: Rows) -> Rows:
    return scale(as_tensor(rows)).numpy()
