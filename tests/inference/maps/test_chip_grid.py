import itertools

import numpy as np
import pytest
from scipy.integrate import quad

from tailora.errors import ConfigError
from tailora.inference.maps.chip_grid import Axis, ChipGrid


def window(u, chip, step):
    """The weight of a position in a chip, written down point by point."""
    ramp = min(chip - step, chip / 2)
    near = min(u, chip - u)
    if ramp == 0 or near >= ramp:
        return 1.0
    return 0.5 - 0.5 * np.cos(np.pi * near / ramp)


@pytest.mark.parametrize(
    ("chip", "step", "tokens"), [(10, 5, 1), (10, 3, 1), (10, 8, 1), (9, 9, 1), (10, 5, 4)]
)
def test_weights_are_integrals_of_the_window_over_cells(chip, step, tokens):
    axis = Axis(47, chip, step, tokens)
    first, weights = axis.weights(2, 4)
    for i, x in enumerate(axis.starts[2:4]):
        for token in range(tokens):
            low, high = x + token * chip / tokens, x + (token + 1) * chip / tokens
            for cell in range(weights.shape[1]):
                a = max(low, (first + cell) * axis.cell)
                b = min(high, (first + cell + 1) * axis.cell, 47)
                expected = 0.0
                if b > a:
                    breaks = [x + e for e in (chip - step, step, chip / 2) if a < x + e < b]
                    args = {"points": breaks} if breaks else {}
                    expected = quad(lambda y, x=x: window(y - x, chip, step), a, b, **args)[0]
                assert weights[i * tokens + token, cell] == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(("length", "chip", "step"), [(47, 10, 4), (31, 9, 9), (7, 10, 5)])
def test_weights_of_pixels_are_those_of_any_parts_to_the_bit(length, chip, step):
    axis = Axis(length, chip, step, chip)
    for i in range(len(axis.starts)):
        weights = np.diagonal(axis.weights(i, i + 1)[1])
        assert np.array_equal(axis.of_pixels()[: len(weights)], weights)


@pytest.mark.parametrize(("chip", "step"), [(16, 8), (16, 12), (16, 16)])
def test_weights_of_all_chips_sum_to_the_pixels_of_a_cell_inside_the_scene(chip, step):
    axis = Axis(chip + 9 * step, chip, step)
    first, weights = axis.weights(0, len(axis.starts))
    assert first == 0
    inside = weights.sum(axis=0)[2:-2]
    np.testing.assert_allclose(inside, axis.cell, rtol=1e-5)


@pytest.mark.parametrize("length", [3, 10, 11, 57, 64])
@pytest.mark.parametrize(
    ("chip", "step", "tokens"), [(10, 5, 1), (10, 10, 1), (10, 1, 1), (10, 5, 3)]
)
def test_every_cell_is_covered_and_own_ground_divides_the_scene(length, chip, step, tokens):
    axis = Axis(length, chip, step, tokens)
    n = len(axis.starts)
    _, weights = axis.weights(0, n)
    assert weights.shape[1] == axis.cells == -(-length // axis.cell)
    assert (weights.sum(axis=0) > 0).all()
    edges = [axis.own(i, i + 1) for i in range(n)]
    assert edges[0][0] == 0
    assert edges[-1][1] == length
    assert all(a[1] == b[0] for a, b in itertools.pairwise(edges))
    assert axis.finished(n) == axis.cells


def test_shifted_chips_start_half_a_step_later_and_still_cover_both_ends():
    assert Axis(50, 16, 8, shift=4).starts.tolist() == [0, 4, 12, 20, 28, 34]
    assert Axis(10, 16, 8, shift=4).starts.tolist() == [0]


def test_strips_hold_every_chip_once_in_blocks_that_fill_a_batch():
    grid = ChipGrid((400, 1000), 32, 16)
    seen = np.zeros((len(grid.rows.starts), len(grid.columns.starts)), dtype=int)
    for strip in grid.strips():
        for block in strip:
            seen[block.i0 : block.i1, block.j0 : block.j1] += 1
    assert (seen == 1).all()
    assert len(ChipGrid((32, 2000), 32, 16).strips()[0]) == 2  # one row of 124 chips


@pytest.mark.parametrize(("chip", "step"), [(3, 1), (16, 0), (16, 17)])
def test_sizes_out_of_range_are_refused(chip, step):
    with pytest.raises(ConfigError, match=r"must (be at least|lie in)"):
        ChipGrid((100, 100), chip, step)
