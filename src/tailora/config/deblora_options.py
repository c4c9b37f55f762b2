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
UNITS = ("decision", "object")
FIT_ON = ("all", "tail")
INITS = ("from-base", "fresh")
HEADS = ("features", "targets", "both")
REGRESSIONS = ("squared", "cosine", "smooth-l1")


Pull = str | float | Sequence[float]


@dataclass(frozen=True, kw_only=True)
class DebiasOptions:
    """How debLoRA finds shared attributes, moves features, and trains the new adapter.

    Args:
        clusters: K of stage 2; the paper uses 32. At most the number of training samples.
        balance: rho >= 1 in the size constraint n_k >= N / (K rho); 1 means equal sizes.
        source: Which features are clustered: those of the label-trained base adapter (`"adapted"`,
            the paper's biased LoRA) or of the pretrained encoder (`"pretrained"`).
        unit: What is clustered and moved: each `"decision"`, or where these are about pixels each
            `"object"` by the mean of its features, a connected area of one class; classes then are
            as rare as their objects are (*reading*).
        pull: How far features move towards the class's centre: `"adaptive"` keeps a fraction min(1,
            10 / imbalance) of the feature, a number in [0, 1] moves every de-biased class by that
            fraction, `"validation"` selects a number per class by the validation macro-F1 of a
            probe on the moved features, see `choose_pull` (*reading*).
        calibrate: Classes to de-bias (the paper's calibration): `"tail"`, `"tail+middle"`, `"all"`
            or a list of class names.
        center_weights: `"class-share"` or `"cluster-share"`, see `calibrate`.
        center_samples: Cluster `"all"` samples, or a class-`"balanced"` sample of them (*reading*).
        move: `"shrink"` a class towards its centre (the paper), `"shift"` all its features by one
            vector, or `"sample"` new features around the target, see `move_classes` (*reading*).
        rounds: Number of times to run stages 1-5; each round de-biases the features of the previous
            round's adapter (*reading*).
        fit_on: Training samples of stage 5: `"tail"` uses only the moved classes, a small part of
            the data; `"all"` also anchors the other samples at their current features. Neither was
            better over two datasets and four splits (docs/results/stage-five.md), and `"tail"`
            takes a third of the time.
        regression: Loss of stage 5: `"squared"` distance, `"cosine"` or `"smooth-l1"`, see
            `target_objective` (*reading*).
        init: Initialise the new adapter from the base adapter, or the previous round's
            (`"from-base"`), or from scratch (`"fresh"`).
        standardize: Scale each dimension to unit variance before clustering.
        pca: Number of principal components to cluster in; None clusters the features themselves.
        head: Train the head on the new adapter's `"features"`, on its de-biased `"targets"`, or on
            `"both"`; predictions always use the adapter's features.
        epochs: Training epochs of stage 5; 0 trains no new adapter, and only the head is trained on
            the targets.
        lr: Peak learning rate of stage 5.
    """

    clusters: int = 32
    balance: float = 10.0
    source: str = "adapted"
    unit: str = "decision"
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
            object.__setattr__(self, "fit_on", "all")  # which also has to learn what stays
        _refuse_idle(self)
        _refuse_blind(self)
        _refuse_untrained(self)


def check_pull(pull: Pull, words: Sequence[str] = ("adaptive",)) -> None:
    """Raise if a pull is neither one of `words` nor a number, or numbers, in [0, 1]."""
    if isinstance(pull, str):
        if pull not in words:
            known = " or ".join(map(repr, words))
            raise ConfigError(f"pull must be {known} or a number in [0, 1], got {pull!r}")
        return
    pulls = np.asarray(pull, dtype=np.float64)
    if not ((pulls >= 0) & (pulls <= 1)).all():  # written so that NaN is rejected too
        raise ConfigError(f"pull must lie in [0, 1], got {pull!r}; 0 moves nothing")


def _refuse_idle(options: DebiasOptions) -> None:
    """Reject options that have no effect where no class moves, so that nobody ablates them."""
    if options.pull != 0 and options.calibrate != []:
        return
    idle = ["center_samples", "move", "unit"]
    if options.init == "from-base":  # a fresh adapter also has to learn what stays
        idle += ["rounds", "regression"]
    if options.pull == "validation":
        idle.append("pull")
    for name in idle:
        if getattr(options, name) != getattr(DebiasOptions, name):
            raise ConfigError(
                f"deblora.{name}={getattr(options, name)!r} has no effect where no class moves; "
                "set deblora.pull above 0 and classes to de-bias (deblora.calibrate)"
            )


def _refuse_blind(options: DebiasOptions) -> None:
    """Reject a cosine loss for moves that change no angle."""
    along = options.move == "shrink" and options.center_samples == "all"
    if along and options.clusters == 1 and options.regression == "cosine":
        raise ConfigError(
            "one cluster shrinks features towards the overall mean, which leaves angles about it "
            "unchanged: deblora.regression='cosine' has nothing to learn; use more clusters"
        )


def _refuse_untrained(options: DebiasOptions) -> None:
    """Reject options that have no effect without stage 5, where only the head sees the targets."""
    if options.epochs > 0:
        return
    if options.init != "from-base" or options.head == "features":
        raise ConfigError(
            "deblora.epochs=0 trains no new adapter, so only the head can be trained on the "
            "targets: set deblora.head='targets' or 'both', and keep init='from-base'"
        )
    for name in ("rounds", "regression", "fit_on"):
        if getattr(options, name) != getattr(DebiasOptions, name):
            raise ConfigError(
                f"deblora.{name}={getattr(options, name)!r} has no effect with deblora.epochs=0"
            )


_LEAST: Final = {"clusters": 1, "pca": 1, "rounds": 1, "epochs": 0}
_CHOICES: Final = {
    "source": SOURCES,
    "unit": UNITS,
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
    """Build the error for a pull tuned on validation without validation samples."""
    return ConfigError(
        "deblora.pull='validation' needs validation samples; use 'adaptive' or a number in [0, 1]"
    )
