"""A verdict per class: can its predictions be relied on, and if not, why.

Four checks, each relative to what the test split supports:

- **support**: enough test samples, from more than one independent place;
- **interval**: the lower end of the F1 interval reaches a threshold;
- **calibration**: the mean confidence of predictions of the class does not exceed their precision
  by more than a threshold, beyond chance;
- **coverage**: prediction sets reach their target coverage for the class, within chance.

Without support the class is *untested*; otherwise one failed check makes it *weak*. A check that
cannot be made (no rows, no validation) does not fail.
"""

from dataclasses import dataclass
from typing import Final, Literal, final

import numpy as np
from scipy.stats import beta

from tailora.metrics.intervals import FEWEST_UNITS
from tailora.numbers import counted

Verdict = Literal["trusted", "weak", "untested"]
CHECKS: Final = ("support", "interval", "calibration", "coverage")

_LEVEL: Final = 0.95  # of the limits of shares


@final
@dataclass(frozen=True)
class ClassEvidence:
    """Evidence of one test split about a class.

    Args:
        f1_interval: Low and high F1 in [0, 1]; None for a class without test samples, and in a test
            split of a single group.
        n_test: Test samples of the class.
        n_units: Independent units of these: samples, or spatial blocks.
        stated: Mean confidence of the rows predicted as this class; None if there are none.
        right: Their precision; None if there are none.
        predicted_units: Independent units of these rows.
        covered: Share of the class's test rows whose set contains it; None without sets, or if
            validation had too few rows of the class, so that it is in every set.
        has_places: Whether the units are places; otherwise samples count as independent.
        ap_interval: Low and high average precision (AP50) of the class where objects must be found;
            None where there is nothing to find.
    """

    f1_interval: tuple[float, float] | None
    n_test: int
    n_units: int
    stated: float | None = None
    right: float | None = None
    predicted_units: int = 0
    covered: float | None = None
    has_places: bool = True
    ap_interval: tuple[float, float] | None = None


@final
@dataclass(frozen=True)
class TrustLimits:
    """Thresholds of the checks.

    Args:
        f1: Minimum lower end of the F1 interval; 0 trusts every tested class.
        support: Minimum number of test samples.
        overconfidence: Maximum excess of confidence over precision, in [0, 1]; 1 turns the check
            off.
        coverage: Target coverage of the sets, in (0, 1).
    """

    f1: float = 0.5
    support: int = 10
    overconfidence: float = 0.1
    coverage: float = 0.9


@final
@dataclass(frozen=True)
class Judgement:
    """A verdict and its reasons.

    Args:
        verdict: `"trusted"`, `"weak"` or `"untested"`.
        failed: Checks that failed, of `CHECKS`.
        reason: Text: which checks failed and by how much.
    """

    verdict: Verdict
    failed: tuple[str, ...]
    reason: str


def judge(evidence: ClassEvidence, limits: TrustLimits | None = None) -> Judgement:
    """Judge a class by what its test split supports, not by its score alone.

    Args:
        evidence: Evidence about the class.
        limits: Thresholds; None uses the defaults.

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
    """Return the upper confidence limit of a share over `units` units (Clopper, Pearson).

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
    if not evidence.n_test or evidence.n_test < limits.support:
        return f"{counted(evidence.n_test, 'test sample')}, fewer than {max(limits.support, 1)}"
    if evidence.n_units < FEWEST_UNITS:
        return f"{counted(evidence.n_test, 'test sample')} from one place only"
    return ""


def _interval(evidence: ClassEvidence, limits: TrustLimits) -> str:
    lows = {"F1": 0.0 if evidence.f1_interval is None else evidence.f1_interval[0]}
    if evidence.ap_interval is not None:
        lows["AP50"] = evidence.ap_interval[0]
    return ", ".join(
        f"{name} may be as low as {low:.2f}, below {limits.f1:.2f}"
        for name, low in lows.items()
        if low < limits.f1
    )


def _calibration(evidence: ClassEvidence, limits: TrustLimits) -> str:
    if evidence.stated is None or evidence.right is None:
        return ""
    possible = share_limit(evidence.right, evidence.predicted_units)
    if evidence.stated <= possible + limits.overconfidence:
        return ""
    return (
        f"mean confidence {100 * evidence.stated:.0f} %, but precision {100 * evidence.right:.0f} %"
    )


def _coverage(evidence: ClassEvidence, limits: TrustLimits) -> str:
    if evidence.covered is None or np.isnan(evidence.covered):
        return ""
    if share_limit(evidence.covered, evidence.n_units) >= limits.coverage:
        return ""
    return (
        f"prediction sets contain it in {100 * evidence.covered:.0f} % of its test samples, "
        f"target {100 * limits.coverage:g} %"
    )


def _not_checked(evidence: ClassEvidence) -> str:
    absent = [
        name
        for name, value in (("calibration", evidence.stated), ("coverage", evidence.covered))
        if value is None
    ]
    if not evidence.has_places:
        absent.append("places (the images have no groups)")
    return f"; not checked: {', '.join(absent)}" if absent else ""
