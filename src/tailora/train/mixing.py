"""Mixing images while training: which batch is mixed with what, and the loss of shared labels."""

from collections.abc import Callable, Mapping
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora import registry
from tailora.augment.blending import Batch, Mixed, Pair
from tailora.augment.cmo import CMO
from tailora.augment.enmix_style import EnMixStyle
from tailora.counts import ClassCounts
from tailora.errors import ConfigError, unknown_name
from tailora.losses.parts import note_part
from tailora.losses.row_loss import RowLoss, ratio_of_sums

NO_MIX: Final = "none"
AVERAGES: Final = ("separate", "joint")
Augment = Callable[[Tensor, np.random.Generator], Tensor]
Look = Callable[[NDArray[np.int64]], Tensor]


def require_row_loss(loss: nn.Module) -> RowLoss:
    """Return the loss back if labels can be shared under it.

    Raises:
        ConfigError: Its terms are not one per row: shares of two labels have no meaning in it.
    """
    if isinstance(loss, RowLoss):
        return loss
    raise ConfigError(
        f"train.mix shares a row between two labels, and {type(loss).__name__} is no mean of one "
        "term per row; choose another loss or train.mix=none"
    )


def soft_loss(loss: nn.Module, logits: Tensor, shares: Tensor) -> Tensor:
    """Average a loss over rows and their labels: sum of share x weight x loss over the shares.

    With whole labels it is the loss itself; for cross-entropy it is cross-entropy with soft
    targets.

    Args:
        loss: With a term per row.
        logits: (rows, classes), or of several experts (experts, rows, classes).
        shares: Of each class in each row (rows, classes).

    Raises:
        ConfigError: See `require_row_loss`.

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, equation 2, whose
        loss is linear in the label.
    """
    rows, labels = shares.nonzero(as_tuple=True)
    terms, weights = require_row_loss(loss).per_row(logits[..., rows, :], labels)
    some = shares[rows, labels]
    return ratio_of_sums(some * terms, some * weights)


def pair_loss(loss: nn.Module, logits: Tensor, pair: Pair) -> Tensor:
    """Add the averages of a loss under first and under second labels, each by its own weights.

    Under class weights this is not `soft_loss`: a rare class's label has its share and no more,
    where one average of all gives it more of the loss than its share. Without weights, and with
    whole labels, the two are one.

    Args:
        loss: With a term per row.
        logits: (rows, classes), or of several experts (experts, rows, classes).
        pair: Labels and shares.

    Raises:
        ConfigError: See `require_row_loss`.

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, and Park et al., CMO,
        CVPR 2022: their released code adds share x loss of either label.
    """
    row_loss = require_row_loss(loss)
    total = logits.new_zeros(())
    for name, labels, shares in (
        ("own-labels", pair.first, pair.shares),
        ("mixed-in-labels", pair.second, 1 - pair.shares),
    ):
        terms, weights = row_loss.per_row(logits, labels)
        part = ratio_of_sums(shares * terms, weights)
        note_part(name, part)
        total = total + part
    return total


def mixer_options(name: str) -> dict[str, Any]:
    """Options of a mixing method that a recipe can set, with their defaults."""
    known = registry.options(registry.find("augment", name))
    return {key: value for key, value in known.items() if key != "augment"}


def check_mixer(name: str, options: Mapping[str, Any]) -> None:
    """Reject an unknown mixing method, and options that it does not have.

    Raises:
        ConfigError: The nearest name is in the message.
    """
    known = registry.names("augment")
    if name not in known:
        raise unknown_name("mix", name, [*known, NO_MIX])
    for option in options:
        if option not in mixer_options(name):
            raise unknown_name(f"option of train.mix={name}", option, mixer_options(name))


def build_mixer(
    name: str, counts: ClassCounts, options: Mapping[str, Any], *, alter: Augment | None = None
) -> Callable[..., Mixed]:
    """Make the mixing method called `name`.

    Args:
        name: A mix of `tailora methods`.
        counts: Training samples per class.
        options: Of the method.
        alter: Augmentation of a batch; EnMix alters either side by itself.

    Raises:
        ConfigError: Unknown method (the nearest is named), an option it does not have or cannot
            use, or EnMix without an augmentation.
        DataError: A class has no sample and the method divides by its count.
    """
    check_mixer(name, options)
    extra: dict[str, Any] = {}
    if name == registry.method_name(EnMixStyle):
        if alter is None:
            raise ConfigError(
                f"train.mix={name!r} mixes images altered each in its own way, and train.augment "
                "is 'none': that is mixup; choose train.mix=mixup or another train.augment"
            )
        extra = {"augment": alter}
    return registry.build(registry.find("augment", name), {"counts": counts}, {**options, **extra})


def rest_of_cmo(epochs: int) -> tuple[int, int]:
    """Epochs without CMO at the beginning and at the end: as the released code's 4 and 3 of 200.

    Shorter trainings rest in the same shares, at least in one epoch at either end.

    Example:
        >>> rest_of_cmo(200), rest_of_cmo(10)
        ((4, 3), (1, 1))
    """
    return max(1, round(4 / 200 * epochs)), max(1, round(3 / 200 * epochs))


def first_and_last(off: int | tuple[int, int], epochs: int) -> range:
    """Return the epochs that are mixed: all but the first and the last `off`.

    Args:
        off: Epochs at either end, or at the beginning and at the end.
        epochs: Of the training.

    Raises:
        ConfigError: `off` is negative, or none is left.
    """
    first, last = (off, off) if isinstance(off, int) else off
    if first < 0 or last < 0:
        raise ConfigError(f"train.mix_off must be at least 0, got {off}")
    if first + last >= epochs:
        raise ConfigError(
            f"train.mix is off in the first {first} and the last {last} of {epochs} epochs and "
            "would have no effect; lower train.mix_off or train more epochs"
        )
    return range(first, epochs - last)


@final
class Mixing:
    """A mixing method in a training: fetches what is mixed in, and rests in some epochs.

    CMO's patches come from the whole training split, each class as often as its `power` says, as
    in its paper; the others mix the batch with itself.

    Args:
        mixer: From `build_mixer`.
        rows: Training sample numbers.
        labels: Class index of every sample (samples,).
        alter: Augmentation of a batch, or None.
        epochs: Those that are mixed.
        average: `"separate"` is `pair_loss`, `"joint"` is `soft_loss`.

    Raises:
        ConfigError: Unknown average.
    """

    def __init__(
        self,
        mixer: Callable[..., Mixed],
        rows: NDArray[np.int64],
        labels: NDArray[np.int64],
        *,
        alter: Augment | None,
        epochs: range,
        average: str = AVERAGES[0],
    ) -> None:
        if average not in AVERAGES:
            raise unknown_name("train.mix_average", average, AVERAGES)
        self.average = average
        self.mixer, self.rows, self.labels = mixer, rows, labels
        self.alter = None if isinstance(mixer, EnMixStyle) else alter
        self.epochs = epochs
        self.active = 0 in epochs
        self.chances = self._chances()

    def start_epoch(self, epoch: int) -> None:
        """Begin an epoch, from 0."""
        self.active = epoch in self.epochs

    def __call__(
        self, batch: NDArray[np.int64], look: Look, generator: np.random.Generator
    ) -> Mixed:
        """Mix the images of some sample numbers.

        Args:
            batch: Sample numbers (rows,).
            look: Gives images (rows, bands, height, width), on their device.
            generator: Source of all randomness.
        """
        own = self._batch(batch, look, generator)
        if self.chances is None:
            return self.mixer(*own, generator)
        drawn = generator.choice(self.rows, size=len(batch), p=self.chances)
        return self.mixer(*own, generator, self._batch(drawn, look, generator))

    def loss(self, loss: nn.Module, logits: Tensor, mixed: Mixed) -> Tensor:
        """Return the loss of logits (..., rows, classes) of mixed images; a scalar."""
        if self.average == "joint":
            return soft_loss(loss, logits, mixed.targets)
        return pair_loss(loss, logits, mixed.pair)

    def _batch(self, batch: NDArray[np.int64], look: Look, generator: np.random.Generator) -> Batch:
        images = look(batch)
        if self.alter is not None:
            images = self.alter(images, generator)
        # a weighted sum of bytes would be cut off; the encoder turns bytes to floats just so
        return Batch(images.float(), torch.from_numpy(self.labels[batch]).to(images.device))

    def _chances(self) -> NDArray[np.float64] | None:
        if not isinstance(self.mixer, CMO):
            return None
        weights = self.mixer.weights[self.labels[self.rows]]
        return weights / weights.sum()
