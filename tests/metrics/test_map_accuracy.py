"""Olofsson's estimators against the published numbers, against loops, and over repeated samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import binomtest

from tailora.errors import DataError
from tailora.metrics.map_accuracy import allocate_points, estimate_map_accuracy

NAMES = ("a", "b", "c", "d")
GOLDEN = np.array([[97, 3, 0], [3, 45, 2], [2, 1, 47]])
SHARES = np.array([0.8, 0.15, 0.05])
# table 8 of Olofsson et al. 2014: deforestation, forest gain, stable forest, stable non-forest
PUBLISHED = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
PUBLISHED_PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])


def points(counts):
    """Indices on the map and by the labels of the points that an error matrix counts."""
    return (np.repeat(one.ravel(), counts.ravel()) for one in np.indices(counts.shape))


def estimate(counts, areas, **options):
    return estimate_map_accuracy(*points(counts), NAMES[: len(counts)], areas=areas, **options)


def test_the_golden_values():
    found = estimate(GOLDEN, SHARES)
    assert found.overall.value == pytest.approx(0.958)
    area = [one.area_share for one in found.classes]
    assert [one.value for one in area] == pytest.approx([0.787, 0.160, 0.053])
    assert [one.standard_error for one in area] == pytest.approx(
        [0.014696, 0.015181, 0.004529], abs=1e-6
    )
    assert [one.users.value for one in found.classes] == pytest.approx([0.97, 0.90, 0.94])
    assert [one.producers.value for one in found.classes] == pytest.approx(
        [0.986023, 0.84375, 0.886792], abs=1e-6
    )
    assert found.counts == tuple(map(tuple, GOLDEN.tolist()))


def test_the_example_of_the_paper():
    found = estimate(PUBLISHED, PUBLISHED_PIXELS)
    loss = found.classes[0]
    hectares = loss.area_share.times(PUBLISHED_PIXELS.sum() * 0.09)  # pixels of 30 m
    assert hectares.value == pytest.approx(21_158, abs=1)
    assert 1.96 * hectares.standard_error == pytest.approx(6_158, abs=1)
    assert found.overall.value == pytest.approx(0.95, abs=0.005)
    assert [one.users.value for one in found.classes] == pytest.approx(
        [0.88, 0.73, 0.93, 0.96], abs=0.005
    )
    assert [one.producers.value for one in found.classes] == pytest.approx(
        [0.75, 0.85, 0.93, 0.96], abs=0.005
    )


def test_standard_errors_are_those_of_the_equations():
    """Equations 5 to 7 and 10 of the paper, cell by cell."""
    found = estimate(GOLDEN, SHARES)
    n, users = GOLDEN.sum(axis=1), np.diag(GOLDEN) / GOLDEN.sum(axis=1)
    overall = sum(SHARES[i] ** 2 * users[i] * (1 - users[i]) / (n[i] - 1) for i in range(3))
    assert found.overall.standard_error == pytest.approx(overall**0.5)
    for j, one in enumerate(found.classes):
        assert one.users.standard_error**2 == pytest.approx(users[j] * (1 - users[j]) / (n[j] - 1))
        area = sum(SHARES[i] * GOLDEN[i, j] / n[i] for i in range(3))
        own = SHARES[j] ** 2 * (1 - one.producers.value) ** 2 * users[j] * (1 - users[j])
        others = sum(
            SHARES[i] ** 2 * GOLDEN[i, j] / n[i] * (1 - GOLDEN[i, j] / n[i]) / (n[i] - 1)
            for i in range(3)
            if i != j
        )
        expected = own / (n[j] - 1) + one.producers.value**2 * others
        assert one.producers.standard_error**2 == pytest.approx(expected / area**2)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(28, 30, 0.787, 0.982), (0, 20, 0, 0.161), (20, 20, None, 1)]
)
def test_the_interval_of_users_accuracy_is_wilsons(right, n, low, high):
    counts = np.array([[right, n - right], [0, 40]])
    users = estimate(counts, [0.3, 0.7]).classes[0].users
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert (users.low, users.high) == pytest.approx((expected.low, expected.high))
    assert low is None or users.low == pytest.approx(low, abs=5e-4)
    assert users.high == pytest.approx(high, abs=5e-4)


def wilson(k, n):
    return binomtest(int(k), int(n)).proportion_ci(method="wilson")


@pytest.mark.parametrize("counts", [GOLDEN, np.array([[50, 0, 0], [0, 30, 0], [5, 0, 25]])])
def test_the_other_intervals_add_wilson_distances_in_quadrature(counts):
    found = estimate(counts, SHARES)
    n = counts.sum(axis=1)
    for j, one in enumerate(found.classes):
        ends = [wilson(counts[i, j], n[i]) for i in range(3)]
        p = counts[:, j] / n
        down = np.array([p[i] - ends[i].low for i in range(3)]) * SHARES
        up = np.array([ends[i].high - p[i] for i in range(3)]) * SHARES
        assert one.area_share.low == pytest.approx(SHARES @ p - np.linalg.norm(down))
        assert one.area_share.high == pytest.approx(SHARES @ p + np.linalg.norm(up))
        kept, missed = SHARES[j] * p[j], SHARES @ p - SHARES[j] * p[j]
        rest = np.arange(3) != j

        def below(share, kept=kept, missed=missed, down=down[j], up=up[rest]):
            spread = np.hypot((1 - share) * down, share * np.linalg.norm(up))
            return (1 - share) * kept - share * missed - spread

        def above(share, kept=kept, missed=missed, up=up[j], down=down[rest]):
            spread = np.hypot((1 - share) * up, share * np.linalg.norm(down))
            return (1 - share) * kept - share * missed + spread

        assert one.producers.low == pytest.approx(brentq(below, 0, one.producers.value))
        if missed:
            assert one.producers.high == pytest.approx(brentq(above, one.producers.value, 1))
        else:
            assert one.producers.high == 1


def test_many_points_give_the_usual_interval():
    found = estimate(GOLDEN * 400, SHARES)
    estimates = [found.overall, *(one.area_share for one in found.classes)]
    estimates += [one.producers for one in found.classes]
    for one in estimates:
        assert one.high - one.value == pytest.approx(1.96 * one.standard_error, rel=0.1)
        assert one.value - one.low == pytest.approx(1.96 * one.standard_error, rel=0.1)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Few points and a large class, where plus or minus 1.96 standard errors does not."""
    shares, n, draws = np.array([0.9, 0.08, 0.02]), (60, 30, 30), 400
    confusion = np.array([[0.96, 0.03, 0.01], [0.08, 0.9, 0.02], [0.05, 0.15, 0.8]])
    cells = shares[:, None] * confusion
    truth = [
        np.trace(cells), *np.diag(confusion), *(np.diag(cells) / cells.sum(axis=0)),
        *cells.sum(axis=0),
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    mapped = np.repeat(np.arange(3), n)
    covered, usual = np.zeros((2, len(truth)))
    for _ in range(draws):
        drawn = [rng.choice(3, k, p=row) for k, row in zip(n, confusion, strict=True)]
        found = estimate_map_accuracy(mapped, np.concatenate(drawn), NAMES[:3], areas=shares)
        estimates = [found.overall]
        for kind in ("users", "producers", "area_share"):
            estimates += [getattr(one, kind) for one in found.classes]
        usual += [
            abs(one.value - true) <= 1.96 * one.standard_error
            for one, true in zip(estimates, truth, strict=True)
        ]
        covered += [one.low <= true <= one.high for one, true in zip(estimates, truth, strict=True)]
    assert (covered / draws >= 0.92).all()  # three standard errors of 95 % in 400 draws
    assert covered.mean() / draws <= 0.98
    producers, area = 6, 9  # of the rare class, as docs/maps.md states
    assert (usual[[producers, area]] / draws < 0.6).all()


def test_pixels_of_unequal_area_count_by_their_area():
    """Over repeated samples: no bias, and the standard error is the spread of the estimates."""
    rng = np.random.default_rng(1)
    size = np.repeat([1.0, 0.2], 3000)  # of pixels, as at the equator and near a pole
    mapped = np.tile([0, 0, 0, 1], 1500)
    # errors are more frequent where pixels are small
    wrong = rng.random(6000) < np.where(size == 1, 0.05, 0.5)
    truth = np.where(wrong, 1 - mapped, mapped)
    areas = np.bincount(mapped, size)
    right = size[truth == mapped].sum() / size.sum()
    of_one = size[truth == 1].sum() / size.sum()
    found = []
    for _ in range(300):
        drawn = np.concatenate(
            [rng.choice(np.flatnonzero(mapped == k), 80, replace=False) for k in (0, 1)]
        )
        found.append(
            estimate_map_accuracy(
                mapped[drawn], truth[drawn], NAMES[:2], areas=areas, pixels=np.bincount(mapped),
                point_areas=size[drawn],
            )
        )  # fmt: skip
    for true, estimates in (
        (right, [one.overall for one in found]),
        (of_one, [one.classes[1].area_share for one in found]),
    ):
        values = np.array([one.value for one in estimates])
        errors = np.array([one.standard_error for one in estimates])
        assert values.mean() == pytest.approx(true, abs=4 * values.std() / 300**0.5 + 0.003)
        assert errors.mean() == pytest.approx(values.std(), rel=0.12)
        covered = [one.low <= true <= one.high for one in estimates]
        assert np.mean(covered) >= 0.91
    assert abs(np.mean(truth == mapped) - right) > 0.1  # counting pixels would be far off


def test_equal_areas_change_nothing():
    mapped, reference = points(GOLDEN)
    found = estimate_map_accuracy(
        mapped, reference, NAMES[:3], areas=SHARES, point_areas=np.full(len(mapped), 7.0)
    )
    plain = estimate(GOLDEN, SHARES)
    for one, other in zip(found.classes, plain.classes, strict=True):
        assert one.producers.standard_error == pytest.approx(other.producers.standard_error)
        assert one.area_share.high == pytest.approx(other.area_share.high)


def test_a_class_whose_every_pixel_was_labelled_is_certain():
    found = estimate(GOLDEN, SHARES, pixels=[10**9, 10**9, 50])
    last = found.classes[2].users
    assert (last.low, last.value, last.high, last.standard_error) == (0.94, 0.94, 0.94, 0)
    few = estimate(np.array([[90, 5], [1, 8]]), [0.9, 0.1], pixels=[10**9, 9]).classes[1]
    assert few.enough_map_points  # nine of nine are all there is to know
    assert not few.enough_reference_points
    half = estimate(GOLDEN, SHARES, pixels=[10**9, 10**9, 100]).classes[2].users
    whole = estimate(GOLDEN, SHARES).classes[2].users
    assert half.standard_error == pytest.approx(whole.standard_error / 2**0.5)
    assert half.high - half.value == pytest.approx((whole.high - whole.value) / 2**0.5)


def test_a_class_without_points_is_left_out_of_the_estimates_and_told():
    counts = np.array([[80, 20, 0], [5, 45, 0], [0, 0, 0]])
    found = estimate(counts, [0.6, 0.3, 0.1])
    assert found.assessed_share == pytest.approx(0.9)
    assert found.overall.value == pytest.approx((0.6 * 0.8 + 0.3 * 0.9) / 0.9)
    last = found.classes[2]
    assert (last.users, last.producers, last.area_share.value) == (None, None, 0)
    assert last.area_share.high == pytest.approx(
        np.hypot(wilson(0, 100).high * 0.6, wilson(0, 50).high * 0.3) / 0.9
    )


def test_one_point_says_almost_nothing():
    found = estimate(np.array([[1, 0], [0, 60]]), [0.5, 0.5])
    users = found.classes[0].users
    assert (users.value, users.standard_error) == (1, 0.5)
    assert users.low < 0.25
    assert not found.classes[0].enough_map_points
    assert found.classes[1].enough_map_points


def test_a_class_that_is_never_right():
    found = estimate(np.array([[40, 10], [50, 0]]), [0.9, 0.1]).classes[1]
    assert (found.users.value, found.producers.value) == (0, 0)
    assert 0 < found.producers.high < 0.1
    assert found.reference_points == 10
    assert not found.enough_reference_points


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mapped": [0, 5]}, "mapped classes"),
        ({"reference": [0, -1]}, "reference classes"),
        ({"reference": [0]}, "one of each"),
        ({"areas": [1, 1, 1]}, "one of each"),
        ({"areas": [0, 1]}, "without area"),
        ({"point_areas": [1, 0]}, "without area"),
        ({"mapped": [], "reference": []}, "non-empty"),
    ],
)
def test_points_that_cannot_be_used_are_refused(change, says):
    given = {"mapped": [0, 1], "reference": [0, 1], "areas": [1, 1]} | change
    given = {name: np.array(values, dtype=int) for name, values in given.items()}
    with pytest.raises(DataError, match=says):
        estimate_map_accuracy(names=("a", "b"), **given)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=12), st.integers(0, 60), st.data())
def test_every_class_gets_its_least_and_the_rest_is_in_proportion(pixels, least, data):
    pixels = np.array(pixels)
    fewest = np.minimum(pixels, least)
    total = data.draw(st.integers(int(fewest.sum()), int(pixels.sum())))
    found = allocate_points(pixels, total, least)
    assert found.sum() == total
    assert (found >= fewest).all()
    assert (found <= pixels).all()
    above = found > fewest  # the same share of pixels, but for rounding
    if above.any():
        rate = found[above].sum() / pixels[above].sum()
        assert (np.abs(found[above] - rate * pixels[above]) <= 2).all()


@pytest.mark.parametrize("total", [59, 201])
def test_an_impossible_number_of_points_is_refused(total):
    with pytest.raises(DataError, match="cannot be shared out"):
        allocate_points([100, 100], total, 30)
