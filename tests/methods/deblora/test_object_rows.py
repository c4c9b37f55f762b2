"""Objects of decisions by flooding their places; moved rows by hand."""

from functools import partial

import numpy as np
import pytest

from tailora.decisions import labelled
from tailora.methods.deblora.calibrate import calibrate
from tailora.methods.deblora.object_rows import calibrate_objects, objects_of


def flood(mask, start):
    seen, todo = {start}, [start]
    while todo:
        *lead, row, column = todo.pop()
        for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            at = (*lead, row + step[0], column + step[1])
            inside = all(0 <= k < n for k, n in zip(at, mask.shape, strict=True))
            if inside and at not in seen and mask[at] == mask[start]:
                seen.add(at)
                todo.append(at)
    return frozenset(seen)


@pytest.mark.parametrize("grid", [(5, 4), (2, 3, 4)])
def test_objects_are_connected_areas_of_one_image_and_map(grid):
    targets = np.random.default_rng(0).integers(-1, 3, (4, *grid))
    decisions = labelled(np.array([3, 5, 6, 9]), targets)
    found = objects_of(decisions, grid)
    rows = [
        (image, flood(mask, at))
        for image, mask in zip((3, 5, 6, 9), targets, strict=True)
        for at in np.ndindex(grid)
        if mask[at] >= 0
    ]
    number = dict(zip(rows, found, strict=True))
    assert [number[one] for one in rows] == found.tolist()  # one number for each object,
    assert len(set(number.values())) == len(number)  # another for each other,
    assert set(found) == set(range(len(number)))  # and none left out


def test_rows_move_as_the_mean_of_their_object_does():
    rng = np.random.default_rng(1)
    objects = np.repeat(np.arange(40), rng.integers(1, 6, 40))
    labels = np.where(objects < 30, 0, np.where(objects < 37, 1, 2))
    x = rng.normal(size=(len(objects), 3)).astype(np.float32) + labels[:, None]
    alone = partial(calibrate, clusters=4, pull=0.5, classes="all", seed=0)
    found = calibrate_objects(x, labels, objects, alone)
    means = np.stack([x[objects == k].mean(axis=0) for k in range(40)])
    own = alone(means, np.repeat([0, 1, 2], [30, 7, 3]))
    expected = [x[i] + own.features[k] - means[k] for i, k in enumerate(objects)]
    np.testing.assert_allclose(found.features, expected, atol=1e-5)
    np.testing.assert_allclose(found.keep, own.keep)
    assert found.clusters.labels.tolist() == own.clusters.labels[objects].tolist()
