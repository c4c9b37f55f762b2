"""One word per class: may its predictions be relied on, and if not, why not.

Four checks, each against what the test can support:

- **support**: enough test samples, from more than one independent place;
- **interval**: the lower end of the F1 interval reaches a limit;
- **calibration**: where the class is predicted, the stated probability does not exceed the share
  of right answers by more than a limit, beyond what chance explains;
- **coverage**: sets that promise to hold the class do hold it, within what chance explains.

Without support nothing can be said (*untested*); else one failed check makes the class *weak*. A
check that cannot be made (no rows, no validation to calibrate on) fails nothing.
"""

from dataclasses import dataclass
from typing import Final, Literal, final

import numpy as np
from scipy.stats import beta

from tailora.numbers import counted

Verdict = Literal["trusted", "weak", "untested"]
CHECKS: Final = ("support", "interval", "calibration", "coverage")

_FEWEST_UNITS: Final = 2
_LEVEL: Final = 0.95  # of the limits of shares


@final
@dataclass(frozen=True)
class ClassEvidence:
    """What one test says about a class.

    Args:
        f1_interval: Low and high F1 in [0, 1]; None for a class without test samples.
        n_test: Test samples of the class.
        n_units: Independent units that hold them: samples, or blocks in a test by blocks.
        stated: Mean probability of the rows predicted as this class; None where there is none.
        right: Share of these rows that are of this class; None where there is none.
        predicted_units: Independent units that hold these rows.
        covered: Share of the class's test rows whose set holds it; None without sets, or where
            validation had too few rows of the class, so that it is in every set.
        has_places: Whether the units are places; else each sample stands for itself.
    """

    f1_interval: tuple[float, float] | None
    n_test: int
    n_units: int
    stated: float | None = None
    right: float | None = None
    predicted_units: int = 0
    covered: float | None = None
    has_places: bool = True


@final
@dataclass(frozen=True)
class TrustLimits:
    """What a class must reach.

    Args:
        f1: Least lower end of the F1 interval; 0 trusts every class that was tested.
        support: Fewer test samples than this are too few to say anything.
        overconfidence: Largest excess of the stated probability over the share of right answers,
            in [0, 1]; 1 switches the check off.
        coverage: Coverage that the sets promise, in (0, 1).
    """

    f1: float = 0.5
    support: int = 10
    overconfidence: float = 0.1
    coverage: float = 0.9


@final
@dataclass(frozen=True)
class Judgement:
    """A verdict and what it rests on.

    Args:
        verdict: `"trusted"`, `"weak"` or `"untested"`.
        failed: Checks that failed, of `CHECKS`.
        reason: In words, which checks failed and by how much.
    """

    verdict: Verdict
    failed: tuple[str, ...]
    reason: str


def judge(evidence: ClassEvidence, limits: TrustLimits | None = None) -> Judgement:
    """Judge a class by what its test can support, not by its score alone.

    Args:
        evidence: Of the class.
        limits: What it must reach; None takes the defaults.

    Example:
        >>> judge(ClassEvidence((0.62, 0.88), 40, 40)).verdict
        'trusted'
        >>> judge(ClassEvidence((0.31, 0.93), 12, 12)).reason
        'interval: F1 may be as low as 0.31, below 0.50'
        >>> judge(ClassEvidence((0.62, 0.88), 40, 40, covered=0.5)).failed
        ('coverage',)
    """
    limits = limits or TrustLimits()
    support = _support(evidence, limits)
    if support:
        return Judgement("untested", ("support",), f"support: {support}")
    found = {
        "interval": _interval(evidence, limits),
        "calibration": _calibration(evidence, limits),
        "coverage": _coverage(evidence, limits),
    }
    failed = tuple(name for name, text in found.items() if text)
    if failed:
        return Judgement("weak", failed, "; ".join(f"{name}: {found[name]}" for name in failed))
    low = 0.0 if evidence.f1_interval is None else evidence.f1_interval[0]
    passed = f"interval: F1 may be as low as {low:.2f}, at least {limits.f1:.2f}"
    return Judgement("trusted", (), passed + _not_checked(evidence))


def share_limit(share: float, units: int) -> float:
    """Highest true share that `share` of `units` independent units leave likely (Clopper, Pearson).

    Args:
        share: Observed, in [0, 1].
        units: Independent units, at least 1.

    Example:
        >>> round(share_limit(0.0, 10), 3), share_limit(1.0, 10)
        (0.308, 1.0)
    """
    if share >= 1:
        return 1.0
    hits = share * units
    return float(beta.ppf((1 + _LEVEL) / 2, hits + 1, units - hits))


def _support(evidence: ClassEvidence, limits: TrustLimits) -> str:
    if evidence.f1_interval is None or evidence.n_test < limits.support:
        return f"{counted(evidence.n_test, 'test sample')}, fewer than {max(limits.support, 1)}"
    if evidence.n_units < _FEWEST_UNITS:
        return f"{counted(evidence.n_test, 'test sample')} from one place only"
    return ""


def _interval(evidence: ClassEvidence, limits: TrustLimits) -> str:
    low = 0.0 if evidence.f1_interval is None else evidence.f1_interval[0]
    if low >= limits.f1:
        return ""
    return f"F1 may be as low as {low:.2f}, below {limits.f1:.2f}"


def _calibration(evidence: ClassEvidence, limits: TrustLimits) -> str:
    if evidence.stated is None or evidence.right is None:
        return ""
    possible = share_limit(evidence.right, evidence.predicted_units)
    if evidence.stated <= possible + limits.overconfidence:
        return ""
    return (
        f"where it is predicted, {100 * evidence.stated:.0f} % sure on average and right in "
        f"{100 * evidence.right:.0f} %"
    )


def _coverage(evidence: ClassEvidence, limits: TrustLimits) -> str:
    if evidence.covered is None or np.isnan(evidence.covered):
        return ""
    if share_limit(evidence.covered, evidence.n_units) >= limits.coverage:
        return ""
    return (
        f"sets hold it in {100 * evidence.covered:.0f} % of its test samples, "
        f"{100 * limits.coverage:g} % were promised"
    )


def _not_checked(evidence: ClassEvidence) -> str:
    absent = [
        name
        for name, value in (("calibration", evidence.stated), ("coverage", evidence.covered))
        if value is None
    ]
    if not evidence.has_places:
        absent.append("places (the images name no groups)")
    return f"; not checked: {', '.join(absent)}" if absent else ""
