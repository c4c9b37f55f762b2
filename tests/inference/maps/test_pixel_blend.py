"""A map with a class for every pixel: the same weighted means as of any parts of chips."""

import numpy as np
import pytest

from tailora.inference.maps.blend import Blend
from tailora.inference.maps.chip_grid import ChipGrid


@pytest.mark.parametrize("shape", [(13, 17), (6, 6), (4, 9)])
def test_pixels_are_weighted_means_of_the_windows_over_them(shape):
    rng = np.random.default_rng(0)
    grid = ChipGrid(shape, chip=6, step=4, tokens=6)
    assert (grid.cell, grid.map_shape) == (1, shape)
    rows, columns = len(grid.rows.starts), len(grid.columns.starts)
    shares = rng.random((rows, columns, 6, 6, 3)).astype(np.float32)
    usable = rng.random((rows, columns)) < 0.8
    sums, weights = np.zeros((*shape, 3)), np.zeros(shape)
    for i, j in np.argwhere(usable):
        top, left = grid.rows.starts[i], grid.columns.starts[j]
        for r in range(min(6, shape[0] - top)):
            for c in range(min(6, shape[1] - left)):
                across = grid.columns.weights(j, j + 1)[1][c, c]
                weight = grid.rows.weights(i, i + 1)[1][r, r] * across
                sums[top + r, left + c] += weight * shares[i, j, r, c]
                weights[top + r, left + c] += weight
    blend, found = Blend(grid, 3), []
    for strip in grid.strips():
        for block in strip:
            part = np.s_[block.i0 : block.i1, block.j0 : block.j1]
            top, bottom = grid.rows.own(block.i0, block.i1)
            left, right = grid.columns.own(block.j0, block.j1)
            valid = np.ones((bottom - top, right - left), dtype=bool)
            blend.add(block, shares[part][usable[part]], usable[part], valid)
        found.append(blend.take(strip[0].i1))
    with np.errstate(invalid="ignore"):
        expected = sums / weights[..., None]
    np.testing.assert_allclose(np.concatenate([one for one, _ in found]), expected, rtol=1e-5)
    assert np.concatenate([has for _, has in found]).all()


def test_blocks_of_pixels_stay_small():
    grid = ChipGrid((3000, 4000), chip=256, step=128, tokens=256)
    blocks = [block for strip in grid.strips() for block in strip]
    assert {block.i1 - block.i0 for block in blocks} <= {1, 2}
    most = max((b.i1 - b.i0) * (b.j1 - b.j0) for b in blocks)
    assert most * 256**2 <= 2**19
    assert sum((b.i1 - b.i0) * (b.j1 - b.j0) for b in blocks) == len(grid)
