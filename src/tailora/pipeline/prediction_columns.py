"""What stands beside a prediction: whether to trust it, and which classes it may be."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailora.evaluate import ValidationFit, prediction_sets


def set_texts(
    probabilities: NDArray[np.floating], fit: ValidationFit | None, names: Sequence[str]
) -> list[str]:
    r"""Write the prediction set of each row as class names joined by semicolons.

    Args:
        probabilities: (rows, classes).
        fit: What was fitted on validation; None leaves every set unknown, which is written as an
            empty text.
        names: Class names in index order; a semicolon in one is written `\;`.

    Returns:
        One text a row; `"-"` for a set that is empty: the image resembles no class as calibrated.
    """
    if fit is None:
        return [""] * len(probabilities)
    shown = [name.replace("\\", "\\\\").replace(";", "\\;") for name in names]
    sets = prediction_sets(probabilities, fit.sets)
    return [";".join(shown[int(c)] for c in np.flatnonzero(row)) or "-" for row in sets]


def set_names(
    probabilities: NDArray[np.floating], fit: ValidationFit | None, names: Sequence[str]
) -> list[list[str] | None]:
    """List the prediction set of each row; None where no sets were calibrated."""
    if fit is None:
        return [None] * len(probabilities)
    sets = prediction_sets(probabilities, fit.sets)
    return [[names[int(c)] for c in np.flatnonzero(row)] for row in sets]


def yes_no(verdict: str) -> str:
    """Say whether a verdict means that predictions may be relied on."""
    return "yes" if verdict == "trusted" else "no"
