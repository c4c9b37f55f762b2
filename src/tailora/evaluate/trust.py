"""One word per class: may its predictions be relied on?"""

from typing import Final, Literal

Verdict = Literal["trusted", "weak", "untested"]

_FEWEST_UNITS: Final = 2


def verdict(
    f1_interval: tuple[float, float] | None,
    n_test: int,
    n_units: int,
    *,
    min_f1: float = 0.5,
    min_test: int = 10,
) -> Verdict:
    """Judge a class by what its test can support, not by its score alone.

    Args:
        f1_interval: Low and high F1 in [0, 1]; None for a class without test samples.
        n_test: Test samples of the class.
        n_units: Independent units that hold them: samples, or blocks in a test by blocks.
        min_f1: The interval's lower end must reach this; 0 trusts every class that was tested.
        min_test: Fewer samples than this are too few to say anything.

    Returns:
        `"untested"` with fewer than `min_test` samples or fewer than 2 units, `"trusted"` if the
        lower end of the interval reaches `min_f1`, else `"weak"`.

    Example:
        >>> verdict((0.62, 0.88), 40, 40)
        'trusted'
        >>> verdict((0.31, 0.93), 12, 12)
        'weak'
        >>> verdict((0.62, 0.88), 40, 1)
        'untested'
    """
    if f1_interval is None or n_test < min_test or n_units < _FEWEST_UNITS:
        return "untested"
    return "trusted" if f1_interval[0] >= min_f1 else "weak"
