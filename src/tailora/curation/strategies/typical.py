"""TypiClust: the most typical image of each of many clusters (Hacohen et al. 2022)."""

import warnings
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors

from tailora.curation.strategies.strategy import Candidates, Strategy

MOST_CLUSTERS: Final = 500
LEAST_SIZE: Final = 6
"""Smaller clusters are outliers, and come last."""
NEIGHBOURS: Final = 20


def typicality(
    features: NDArray[np.floating], *, neighbours: int = NEIGHBOURS
) -> NDArray[np.float64]:
    """One over the mean distance to the nearest others (rows,); fewer if there are fewer.

    Args:
        features: (rows, width).
        neighbours: How many, at least 1.

    Example:
        >>> typicality(np.array([[0.0, 0], [1, 0], [0, 1], [5, 5]]), neighbours=2).round(6).tolist()
        [1.0, 0.828427, 0.828427, 0.156174]
    """
    if len(features) < 2:
        return np.ones(len(features))
    count = min(neighbours, len(features) - 1)
    distances, _ = NearestNeighbors(n_neighbors=count).fit(features).kneighbors()
    return 1 / np.maximum(distances.mean(axis=1), 1e-12)


@final
class Typical(Strategy):
    """As many clusters as images to label; of each the image in the densest place.

    Reference:
        Hacohen et al., Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets,
        ICML 2022, section 4.
    """

    name = "typical"

    def choose(
        self, candidates: Candidates, budget: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Take the most typical of each cluster, large clusters first, then the next of each."""
        clusters = min(budget, MOST_CLUSTERS, len(candidates))
        with warnings.catch_warnings():  # of equal images, which are fewer clusters
            warnings.simplefilter("ignore", ConvergenceWarning)
            cluster = KMeans(
                clusters,
                n_init=1,  # pyright: ignore[reportArgumentType] - a number too
                random_state=candidates.seed,
            ).fit_predict(candidates.features)
        score = np.zeros(len(candidates))
        ranked: list[NDArray[np.int64]] = []
        for name in range(clusters):
            rows = np.flatnonzero(cluster == name)
            score[rows] = typicality(candidates.features[rows])
            ranked.append(rows[np.argsort(-score[rows], kind="stable")])
        ranked.sort(key=lambda rows: (len(rows) < LEAST_SIZE, -len(rows)))
        order = [rows[k] for k in range(max(map(len, ranked))) for rows in ranked if k < len(rows)]
        chosen = np.array(order[:budget], dtype=np.int64)
        return chosen, score[chosen]
