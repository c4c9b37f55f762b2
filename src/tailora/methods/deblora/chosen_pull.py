"""Choose the pull of each class on validation, in feature space: no adapter is trained.

*Reading*: the paper's pull depends on the imbalance alone, whether or not a class benefits.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.counts import ClassCounts
from tailora.heads.linear_probe import fit_linear_probe, predict_logits
from tailora.losses import LogitAdjustedLoss
from tailora.methods.deblora.calibrate import Calibration
from tailora.methods.deblora.moves import move_classes
from tailora.metrics.confusion import present_macro_f1

CANDIDATES: Final = (0.25, 0.5, 0.75, 1.0)  # besides 0
_EQUAL: Final = 1e-9  # means of the same F1 scores may differ by rounding

Validation = tuple[NDArray[np.floating], NDArray[np.int64]]


def choose_pull(
    found: Calibration,
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    validation: Validation,
    *,
    counts: ClassCounts,
    move: str,
) -> list[float]:
    """Choose 0, .25, .5, .75 or 1 for every calibrated class, the rarest first.

    All start at 0. Class by class, with all others fixed, the pull is chosen for which a linear
    probe on the moved training features has the highest macro-F1 on the (unmoved) validation
    features. Ties go to the smallest pull; a class without validation samples stays at 0, since its
    F1 cannot be measured. This fits one probe, plus four per class.

    Args:
        found: A calibration of these features, with any pull.
        features: Training features (rows, features).
        labels: Their class indices (rows,).
        validation: Features and class indices of the validation samples.
        counts: Training samples per class.
        move: See `move_classes`.

    Returns:
        A pull for each class, 0 for those that are not calibrated.
    """

    def score(pulls: NDArray[np.float64]) -> float:
        moved = move_classes(
            features, labels, found.centers, 1 - pulls, how=move, spread=found.spread
        )
        return probe_score(moved, labels, validation, counts)

    pulls = np.zeros(len(counts.values))
    best = score(pulls)
    seen = [c for c in found.moved if c in validation[1]]
    for c in sorted(seen, key=lambda c: (counts.values[c], c)):
        chosen = pulls
        for candidate in CANDIDATES:
            trial = pulls.copy()
            trial[c] = candidate
            reached = score(trial)
            if reached > best + _EQUAL:
                best, chosen = reached, trial
        pulls = chosen
    return pulls.tolist()


def probe_score(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    validation: Validation,
    counts: ClassCounts,
) -> float:
    """Return the validation macro-F1 of a linear probe, over the classes that validation has.

    The probe has a fixed penalty and few iterations: accurate enough to rank pulls.
    """
    probe = fit_linear_probe(
        features,
        labels,
        loss=LogitAdjustedLoss(counts),
        num_classes=len(counts.names),
        l2=0.1,
        max_iter=30,
    )
    rows, targets = validation
    predicted = predict_logits(probe.linear, rows).argmax(axis=1)
    return present_macro_f1(targets, predicted, num_classes=len(counts.names))
