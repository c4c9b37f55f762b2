"""Overlap and suppression of 2,000 oriented boxes against the same by shapely's polygons.

    python -m benchmarks.speed.boxes

Both find pairs that may overlap through a tree and treat all pairs at once; only the area that two
boxes share is computed otherwise. They take turns, and a ratio is the median over turns of the
seconds of both. What they return is compared as well.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from benchmarks.speed.ratios import RESULTS, alternate, write_result
from tailora.boxes import iou_matrix, rotated_nms, to_corners

OVERLAP = 0.1
SIDES = (10.0, 60.0)  # pixels


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/boxes.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--boxes", type=int, default=2000)
    options.add_argument("--repeats", type=int, default=9)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    rows = [measured(name, given.boxes, given.repeats, given.seed) for name in SCENES]
    result = {"boxes": given.boxes, "overlap": OVERLAP, "rows": rows}
    write_result("boxes", result, seed=given.seed, arguments=arguments, out=given.out)


def spread(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Centres of objects side by side: about one neighbour in reach (n, 2)."""
    return rng.uniform(0, 40 * n**0.5, (n, 2))


def crowded(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Centres as a detector gives them: twenty around each object (n, 2)."""
    objects = rng.uniform(0, 15 * n**0.5, (n // 20 + 1, 2))
    return np.repeat(objects, 20, axis=0)[:n] + rng.normal(scale=3, size=(n, 2))


SCENES = {"spread": spread, "crowded": crowded}


def measured(name: str, n: int, repeats: int, seed: int) -> dict[str, Any]:
    """Time both ways on one arrangement of boxes."""
    rng = np.random.default_rng(seed)
    boxes = np.column_stack([
        SCENES[name](n, rng), rng.uniform(*SIDES, (n, 2)), rng.uniform(-1.5, 1.5, n),
    ])  # fmt: skip
    corners, scores = to_corners(boxes), rng.uniform(size=n)
    apart = np.abs(iou_matrix(corners, corners) - shapely_iou(corners)).max()
    kept, other = rotated_nms(corners, scores, threshold=OVERLAP), shapely_nms(corners, scores)
    return {
        "scene": name,
        "pairs": int((iou_matrix(corners, corners) > 0).sum() - n) // 2,
        "kept": len(kept),
        "same_kept": bool(np.array_equal(kept, other)),
        "largest_difference": float(apart),
        "overlap": alternate(
            lambda: shapely_iou(corners), lambda: iou_matrix(corners, corners), repeats=repeats
        ),
        "suppression": alternate(
            lambda: shapely_nms(corners, scores),
            lambda: rotated_nms(corners, scores, threshold=OVERLAP),
            repeats=repeats,
        ),
    }


def shapely_iou(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of all pairs by polygons (boxes, boxes)."""
    shapes = np.asarray(shapely.polygons(corners))
    rows, columns = shapely.STRtree(shapes).query(shapes)
    shared = shapely.area(shapely.intersection(shapes[rows], shapes[columns]))
    areas = shapely.area(shapes)
    matrix = np.zeros((len(shapes), len(shapes)))
    matrix[rows, columns] = shared / (areas[rows] + areas[columns] - shared)
    return matrix


def shapely_nms(corners: NDArray[np.float64], scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Select the best of overlapping boxes by polygons, best first."""
    order = np.argsort(-scores, kind="stable")
    close = shapely_iou(corners[order]) > OVERLAP
    kept = np.ones(len(order), dtype=bool)
    for i in range(len(order)):
        if kept[i]:
            kept[i + 1 :] &= ~close[i, i + 1 :]
    return order[kept]


if __name__ == "__main__":
    main(sys.argv[1:])
