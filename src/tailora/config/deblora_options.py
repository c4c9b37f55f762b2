"""The options of debLoRA, shared by the Python class and the recipe."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tailora.errors import ConfigError, unknown_name

CALIBRATED = ("tail", "tail+middle", "all")
CENTER_WEIGHTS = ("class-share", "cluster-share")
CENTER_SAMPLES = ("all", "balanced")
MOVES = ("shrink", "shift", "sample")
SOURCES = ("adapted", "pretrained")
FIT_ON = ("all", "tail")
INITS = ("from-base", "fresh")
HEADS = ("features", "targets", "both")
REGRESSIONS = ("squared", "cosine", "smooth-l1")


Pull = str | float | Sequence[float]


@dataclass(frozen=True, kw_only=True)
class DebiasOptions:
    """How debLoRA finds shared attributes, how far it moves, and how the new adapter learns it.

    Args:
        clusters: K of stage 2; the paper uses 32. More than training samples is an error.
        balance: rho >= 1 of the size constraint n_k >= N / (K rho); 1 is equal sizes.
        source: Whose features are clustered: of the label-trained base adapter (`"adapted"`, the
            paper's biased LoRA) or of the untouched encoder (`"pretrained"`).
        pull: `"adaptive"` keeps min(1, 10 / imbalance) of a sample, a number in [0, 1] moves every
            calibrated class by that share, `"validation"` chooses a number for each class by the
            validation macro-F1 of a probe on the moved features, see `choose_pull` (*reading*).
        calibrate: `"tail"`, `"tail+middle"`, `"all"` or a list of class names.
        center_weights: `"class-share"` or `"cluster-share"`, see `calibrate`.
        center_samples: Cluster `"all"` samples, or a class-`"balanced"` draw of them (*reading*).
        move: `"shrink"` a class towards its centre (the paper), `"shift"` it as a whole, or
            `"sample"` it around where it goes, see `move_classes` (*reading*).
        rounds: How often stages 1-5 are done: each round de-biases the features of the adapter of
            the round before (*reading*).
        fit_on: `"tail"` learns from moved classes alone, a small part of the data; `"all"` holds
            unmoved samples where they are while the moved ones move. Neither was better over two
            sets and four splits (docs/results.md), and `"tail"` takes a third of the time.
        regression: Loss of stage 5: `"squared"` distance, `"cosine"` or `"smooth-l1"`, see
            `target_objective` (*reading*).
        init: The new adapter starts at the weights of the base adapter, or of the round before, or
            fresh.
        standardize: Cluster in unit variance per dimension.
        pca: Cluster in this many principal components.
        head: The head learns from the new adapter's `"features"`, from the `"targets"` it was to
            reach, or from `"both"`; it always predicts from the adapter's features.
        epochs: Passes of stage 5 over the rows it learns from; 0 trains no new adapter, and only
            the head learns the targets.
        lr: Peak learning rate of stage 5.
    """

    clusters: int = 32
    balance: float = 10.0
    source: str = "adapted"
    pull: str | float = "adaptive"
    calibrate: str | list[str] = "tail"
    center_weights: str = "class-share"
    center_samples: str = "all"
    move: str = "shrink"
    rounds: int = 1
    fit_on: str = "tail"
    regression: str = "squared"
    init: str = "from-base"
    standardize: bool = True
    pca: int | None = None
    head: str = "features"
    epochs: int = 6
    lr: float = 3e-4

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        if not self.balance >= 1:
            raise ConfigError(
                f"balance (rho) must be at least 1, got {self.balance}; 1 forces equal clusters"
            )
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"lr must be positive, got {self.lr}")
        check_pull(self.pull, ("adaptive", "validation"))
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if isinstance(value, str) and value not in known:
                raise unknown_name(f"deblora.{name}", value, known)
        if self.source == "pretrained" and self.init == "from-base":
            # targets in the pretrained encoder's space cannot start from an adapter that left it
            object.__setattr__(self, "init", "fresh")
            object.__setattr__(self, "fit_on", "all")  # which has to learn also what stays
        _refuse_idle(self)
        _refuse_blind(self)
        _refuse_untrained(self)


def check_pull(pull: Pull, words: Sequence[str] = ("adaptive",)) -> None:
    """Refuse a pull that is neither one of `words` nor a number, or numbers, in [0, 1]."""
    if isinstance(pull, str):
        if pull not in words:
            known = " or ".join(map(repr, words))
            raise ConfigError(f"pull must be {known} or a number in [0, 1], got {pull!r}")
        return
    pulls = np.asarray(pull, dtype=np.float64)
    if not ((pulls >= 0) & (pulls <= 1)).all():  # so written that NaN is refused too
        raise ConfigError(f"pull must lie in [0, 1], got {pull!r}; 0 moves nothing")


def _refuse_idle(options: DebiasOptions) -> None:
    """Refuse what changes nothing where no class moves, so that nobody measures its absence."""
    if options.pull != 0 and options.calibrate != []:
        return
    idle = ["center_samples", "move"]
    if options.init == "from-base":  # a fresh adapter has to learn also what stays
        idle += ["rounds", "regression"]
    if options.pull == "validation":
        idle.append("pull")
    for name in idle:
        if getattr(options, name) != getattr(DebiasOptions, name):
            raise ConfigError(
                f"deblora.{name}={getattr(options, name)!r} does nothing where no class moves; "
                "give deblora.pull above 0 and classes to calibrate"
            )


def _refuse_blind(options: DebiasOptions) -> None:
    """Refuse to learn by angles what changes no angle."""
    along = options.move == "shrink" and options.center_samples == "all"
    if along and options.clusters == 1 and options.regression == "cosine":
        raise ConfigError(
            "one cluster shrinks features towards the mean of all, which changes no angle seen "
            "from it: deblora.regression='cosine' has nothing to learn; choose more clusters"
        )


def _refuse_untrained(options: DebiasOptions) -> None:
    """Without a stage 5 the targets can only reach the head; all else would go unnoticed."""
    if options.epochs > 0:
        return
    if options.init != "from-base" or options.head == "features":
        raise ConfigError(
            "deblora.epochs=0 trains no new adapter, so the base adapter stays and only the head "
            "can learn the targets: give deblora.head='targets' or 'both', and keep "
            "init='from-base'"
        )
    for name in ("rounds", "regression", "fit_on"):
        if getattr(options, name) != getattr(DebiasOptions, name):
            raise ConfigError(
                f"deblora.{name}={getattr(options, name)!r} does nothing with deblora.epochs=0"
            )


_LEAST: Final = {"clusters": 1, "pca": 1, "rounds": 1, "epochs": 0}
_CHOICES: Final = {
    "source": SOURCES,
    "center_weights": CENTER_WEIGHTS,
    "center_samples": CENTER_SAMPLES,
    "move": MOVES,
    "fit_on": FIT_ON,
    "regression": REGRESSIONS,
    "init": INITS,
    "head": HEADS,
    "calibrate": CALIBRATED,
}


def no_validation() -> ConfigError:
    """Build the error for a pull that is to be chosen where there is nothing to choose by."""
    return ConfigError(
        "deblora.pull='validation' needs validation samples to choose by; give 'adaptive' or a "
        "number in [0, 1]"
    )
