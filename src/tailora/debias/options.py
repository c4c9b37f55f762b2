"""The options of debLoRA, shared by the Python class and the recipe."""

import math
from dataclasses import dataclass

from tailora.debias.calibrate import CALIBRATED, CENTER_WEIGHTS, check_pull
from tailora.errors import ConfigError, unknown_name

SOURCES = ("adapted", "pretrained")
FIT_ON = ("all", "tail")
INITS = ("from-base", "fresh")


@dataclass(frozen=True, kw_only=True)
class DebiasOptions:
    """How debLoRA finds shared attributes, how far it moves, and how the new adapter learns it.

    Args:
        clusters: K of stage 2; the paper uses 32. More than training samples is an error.
        balance: rho >= 1 of the size constraint n_k >= N / (K rho); 1 is equal sizes.
        source: Whose features are clustered: of the label-trained base adapter (`"adapted"`, the
            paper's biased LoRA) or of the untouched encoder (`"pretrained"`).
        pull: `"adaptive"` keeps min(1, 10 / imbalance) of a sample, a number in [0, 1] moves every
            calibrated class by that share.
        calibrate: `"tail"`, `"tail+middle"`, `"all"` or a list of class names.
        center_weights: `"class-share"` or `"cluster-share"`, see `calibrate`.
        fit_on: `"all"` holds unmoved samples where they are while the moved ones move; `"tail"`
            learns from moved classes alone.
        init: The new adapter starts at the base adapter's weights or fresh.
        standardize: Cluster in unit variance per dimension.
        pca: Cluster in this many principal components.
        epochs: Passes of stage 5.
        lr: Peak learning rate of stage 5.
    """

    clusters: int = 32
    balance: float = 10.0
    source: str = "adapted"
    pull: str | float = "adaptive"
    calibrate: str | list[str] = "tail"
    center_weights: str = "class-share"
    fit_on: str = "all"
    init: str = "from-base"
    standardize: bool = True
    pca: int | None = None
    epochs: int = 2
    lr: float = 3e-4

    def __post_init__(self) -> None:
        for name in ("clusters", "epochs", "pca"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if not self.balance >= 1:
            raise ConfigError(
                f"balance (rho) must be at least 1, got {self.balance}; 1 forces equal clusters"
            )
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"lr must be positive, got {self.lr}")
        check_pull(self.pull)
        _check_choice("source", self.source, SOURCES)
        _check_choice("center_weights", self.center_weights, CENTER_WEIGHTS)
        _check_choice("fit_on", self.fit_on, FIT_ON)
        _check_choice("init", self.init, INITS)
        if isinstance(self.calibrate, str):
            _check_choice("calibrate", self.calibrate, CALIBRATED)
        if self.source == "pretrained" and self.init == "from-base":
            # targets in the pretrained encoder's space cannot start from an adapter that left it
            object.__setattr__(self, "init", "fresh")


def _check_choice(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise unknown_name(f"deblora.{option}", value, known)
