"""A linear classifier on frozen features, trained to convergence (stage 6 of debLoRA).

The objective is convex for cross-entropy and its re-weighted or logit-adjusted variants, so L-BFGS
reaches the same head from any initialisation: adapters are compared, not the luck of an optimiser.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.errors import ConfigError, DataError

L2_GRID: Final = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
_CURVATURE: Final = 0.1  # of a softmax in its logits, about; only speed depends on it
Loss = Callable[[Tensor, Tensor], Tensor]
Score = Callable[[NDArray[np.int64], NDArray[np.int64]], float]
Validation = tuple[NDArray[np.floating], NDArray[np.int64]]


_ROUNDING = 1e-6  # of single precision, a few times over
_BLOCK_BYTES: Final = 2**28


def unit_spread(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the standard deviation of each dimension, 1 if it varies only by rounding.

    Args:
        features: (rows, features).

    Returns:
        (features,), positive: divisors that make dimensions comparable.
    """
    mean, spread = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    return np.where(spread > _ROUNDING * np.abs(mean), spread, 1.0)


def standardised(features: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return features (rows, width) with zero mean and `unit_spread`."""
    return (features - features.mean(axis=0, dtype=np.float64)) / unit_spread(features)


@dataclass(frozen=True)
class LinearProbe:
    """A trained linear head.

    Attributes:
        linear: `nn.Linear` on unstandardised features (standardisation is folded in).
        l2: Selected penalty.
        scores: Validation score of each penalty tried; empty without a selection.
    """

    linear: nn.Linear
    l2: float
    scores: dict[float, float]


def fit_linear_probe(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    loss: Loss,
    num_classes: int,
    l2: float | Sequence[float] = L2_GRID,
    validation: Validation | None = None,
    score: Score | None = None,
    max_iter: int = 1000,
) -> LinearProbe:
    """Minimise mean loss + l2 / 2 * |W|^2 over features standardised by this training set.

    Args:
        features: (rows, features).
        labels: (rows,) in [0, num_classes).
        loss: Takes logits (rows, classes) and targets (rows,); its mean over rows.
        num_classes: Number of classes of the head, including those without a row.
        l2: Penalty > 0 on the weights (not the bias), or several to select from by validation; ties
            go to the strongest.
        validation: Features and labels for the selection.
        score: Higher is better, of validation targets and predictions.
        max_iter: Maximum L-BFGS iterations per penalty, each warm-started from the previous one;
            stops when the gradient vanishes.

    Raises:
        ConfigError: A penalty is not positive, or there are several without validation.
        DataError: Shapes disagree, a label is out of range, or a feature is not finite.

    Reference: stage 6 of debLoRA (linear probe); its public scripts use SGD with early stopping.
    """
    grid = penalties(l2, validation, score)
    check_rows(features, labels, num_classes)
    axes = PrincipalAxes(features)
    x = torch.from_numpy(axes.project(features))
    y = torch.from_numpy(labels.astype(np.int64))
    linear = zero_linear(x.shape[1], num_classes)

    def solve(penalty: float) -> nn.Linear:
        scale = axes.scale(penalty)
        scaled, weights = x * scale, penalty * scale.square()
        minimise(
            linear.parameters(),
            lambda: loss(linear(scaled), y) + (weights / 2 * linear.weight.square()).sum(),
            max_iter,
        )
        return axes.fold(linear, scale)

    return best_penalty(grid, solve, validation, score)


def penalties(
    l2: float | Sequence[float], validation: Validation | None, score: Score | None
) -> list[float]:
    """Return the penalties to try, the strongest first.

    Raises:
        ConfigError: One is not positive, or there are several without validation.
    """
    grid = sorted([l2] if isinstance(l2, float | int) else l2, reverse=True)
    if not grid or not all(0 < penalty < np.inf for penalty in grid):
        raise ConfigError(f"probe l2 must be positive, got {l2!r}")
    if len(grid) > 1 and (validation is None or score is None):
        raise ConfigError("selecting among several l2 needs validation samples; give one number")
    return grid


def best_penalty(
    grid: Sequence[float],
    solve: Callable[[float], nn.Linear],
    validation: Validation | None,
    score: Score | None,
) -> LinearProbe:
    """Solve with each penalty and keep the head that is best on validation, of equals the first.

    Args:
        grid: From `penalties`.
        solve: Trains a head with a penalty; may start where the previous one ended.
        validation: See `fit_linear_probe`.
        score: See `fit_linear_probe`.
    """
    heads: dict[float, nn.Linear] = {}
    scores: dict[float, float] = {}
    for penalty in grid:
        heads[penalty] = solve(penalty)
        if len(grid) > 1 and validation is not None and score is not None:
            predicted = predict_logits(heads[penalty], validation[0]).argmax(1)
            scores[penalty] = score(validation[1], predicted)
    best = max(heads, key=lambda penalty: scores.get(penalty, 0.0))  # of equals the first
    return LinearProbe(heads[best], best, scores)


def predict_logits(
    head: Callable[[Tensor], Tensor], features: NDArray[np.floating], *, batch_size: int = 64
) -> NDArray[np.float32]:
    """Return the logits (rows, classes) of features (rows, features).

    Rows are processed in batches like images at prediction, because a matrix product of another
    shape may differ in the last bit.
    """
    rows = torch.from_numpy(np.array(features, dtype=np.float32))
    with torch.inference_mode():
        # no rows are one empty batch
        batches = [head(rows[i : i + batch_size]) for i in range(0, max(len(rows), 1), batch_size)]
        return torch.cat(batches).numpy()


class PrincipalAxes:
    """Principal axes of standardised features.

    Features are strongly correlated, and first-order methods converge slowly along weak directions.
    Along the principal axes the curvature is nearly known, so each axis can be scaled to curvature
    one; the rotation preserves |W|^2 and the scaling is undone, so the minimum is the same.
    """

    def __init__(self, features: NDArray[np.floating]) -> None:
        self.mean, self.spread = features.mean(axis=0, dtype=np.float64), unit_spread(features)
        squares = sum(x.T @ x for _, x in self._blocks(features))
        variances, self.rotation = np.linalg.eigh(squares / len(features))
        self.variances = np.maximum(variances, 0.0)

    def scale(self, penalty: float) -> Tensor:
        """Factors (features,) that give each axis a curvature of about one."""
        return torch.from_numpy((_CURVATURE * self.variances + penalty) ** -0.5).float()

    def project(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Standardise `features` (rows, features) and turn them to the axes."""
        projected = np.empty(features.shape, dtype=np.float32)
        for rows, x in self._blocks(features):
            projected[rows] = x @ self.rotation
        return projected

    def _blocks(
        self, features: NDArray[np.floating]
    ) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Standardised features, some rows at a time: in double precision all may not fit."""
        step = max(1, _BLOCK_BYTES // (8 * features.shape[1]))
        for start in range(0, len(features), step):
            rows = slice(start, start + step)
            yield rows, (features[rows] - self.mean) / self.spread

    def fold(self, linear: nn.Linear, scale: Tensor) -> nn.Linear:
        """Return the head on plain features that equals `linear` on scaled axes."""
        rotated = linear.weight.detach().double().numpy() * scale.double().numpy()
        weight = rotated @ self.rotation.T / self.spread
        bias = linear.bias.detach().double().numpy() - weight @ self.mean
        folded = zero_linear(linear.in_features, linear.out_features)
        with torch.no_grad():
            folded.weight.copy_(torch.from_numpy(weight))
            folded.bias.copy_(torch.from_numpy(bias))
        return folded


def minimise(
    parameters: Iterable[nn.Parameter], objective: Callable[[], Tensor], max_iter: int
) -> None:
    """Bring `parameters` to the minimum of a convex objective by L-BFGS."""
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=max_iter,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective()
        value.backward()
        return value

    optimizer.step(closure)


def zero_linear(features: int, classes: int) -> nn.Linear:
    """Build a zero linear layer without using torch's global generator."""
    linear = cast("nn.Linear", nn.utils.skip_init(nn.Linear, features, classes))
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def check_rows(features: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int) -> None:
    """Reject training rows that no head can be fitted to.

    Raises:
        DataError: See `fit_linear_probe`.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1] or not len(labels):
        raise DataError(
            "features must be (rows, features) and labels (rows,) with at least one row, got "
            f"{features.shape} and {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"labels must lie in [0, {num_classes - 1}], got {labels.min()}..{labels.max()}"
        )
    if not np.isfinite(features).all():
        raise DataError(
            "features contain NaN or infinite values; train the encoder with a lower learning "
            "rate (train.lr)"
        )
