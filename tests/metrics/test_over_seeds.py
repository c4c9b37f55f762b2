import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, jaccard_score

from tailora.counts import Groups
from tailora.errors import ConfigError, DataError
from tailora.metrics import PlaceOutcome, SeedOutcome, compare_over_seeds
from tailora.metrics.bootstrap import bootstrap_f1
from tailora.metrics.intervals import undetected_share
from tailora.metrics.method_metrics import plain
from tailora.metrics.segmentation import PixelSums

GROUPS = Groups(head=(0,), middle=(1,), tail=(2, 3))
CLASSES = ("a", "b", "c", "d")
TWO = Groups(head=(0,), middle=(), tail=(1,))


def noisy(targets, accuracy, generator, num_classes=4):
    wrong = generator.integers(0, num_classes, len(targets))
    return np.where(generator.random(len(targets)) < accuracy, targets, wrong)


def outcome(targets, predictions, *, groups=TWO, classes=("x", "y"), units=None):
    return SeedOutcome(targets, groups, predictions, units, classes)


def noisy_seeds(n_seeds, *, units=None, per_class=30):
    generator = np.random.default_rng(3)
    targets = np.repeat(np.arange(4), per_class)
    return [
        outcome(
            targets,
            {
                "good": noisy(targets, 0.75, generator),
                "bad": noisy(targets, 0.6, generator),
                "other": noisy(targets, 0.6, generator),
            },
            groups=GROUPS,
            classes=CLASSES,
            units=units,
        )
        for _ in range(n_seeds)
    ]


def row_of(result, name):
    return next(row for row in result.rows if row.name == name)


def test_means_deviations_and_ranks_of_two_seeds_by_hand():
    targets = [0, 0, 1, 1]
    seeds = [
        outcome(targets, {"p": [0, 0, 1, 1], "q": [0, 0, 0, 1]}),  # tail F1 1 and 2/3
        outcome(targets, {"p": [0, 0, 0, 0], "q": [0, 0, 0, 1]}),  # tail F1 0 and 2/3
    ]
    result = compare_over_seeds(seeds, against=None, shared_test=True, replicates=20)
    p, q = result.rows
    assert p.scores["tail"].per_seed == (1.0, 0.0)
    assert p.scores["tail"].mean == 0.5
    assert p.scores["tail"].deviation == pytest.approx(math.sqrt(0.5))
    assert q.scores["tail"].deviation == 0
    assert q.scores["head"].mean == pytest.approx(0.8)
    assert p.scores["middle"] == type(p.scores["middle"])(None, None, (None, None))
    assert p.difference is q.difference is None
    assert result.mean_ranks["tail"] == {"p": 1.5, "q": 1.5}
    assert result.mean_ranks["middle"] == {"p": None, "q": None}
    assert (p.per_class[1].name, p.per_class[1].mean) == ("y", 0.5)


def test_scores_are_those_of_scikit_learn():
    seeds = noisy_seeds(3)
    result = compare_over_seeds(seeds, against=None, shared_test=True, replicates=1)
    for row in result.rows:
        f1 = [f1_score(s.targets, s.predictions[row.name], average=None) for s in seeds]
        assert row.scores["tail"].mean == pytest.approx(np.mean(f1, axis=0)[2:].mean())
        macro = [one.mean() for one in f1]
        assert row.scores["all"].per_seed == pytest.approx(macro)
        assert row.scores["all"].deviation == pytest.approx(stats.tstd(macro))
        assert [one.mean for one in row.per_class] == pytest.approx(np.mean(f1, axis=0))
        assert [one.deviation for one in row.per_class] == pytest.approx(stats.tstd(f1))


def test_tied_rows_share_the_mean_of_their_ranks():
    right, wrong = [0, 0, 1, 1], [1, 1, 0, 0]
    seeds = [outcome(right, {"a": right, "b": wrong, "c": wrong, "d": right})] * 2
    ranks = compare_over_seeds(seeds, against=None, shared_test=True, replicates=1).mean_ranks
    assert ranks["all"] == {"a": 1.5, "b": 3.5, "c": 3.5, "d": 1.5}


@pytest.mark.parametrize("units", [None, np.arange(120) % 25])
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_the_half_width_is_the_quadrature_of_both_sources(units, n_seeds):
    seeds = noisy_seeds(n_seeds, units=units)
    result = compare_over_seeds(
        seeds, against="bad", shared_test=True, replicates=150, confidence=0.9, seed=5
    )
    good = row_of(result, "good")
    for scope, members in (("tail", [2, 3]), ("all", [0, 1, 2, 3])):
        drawn = []
        for one in seeds:
            first, second = (
                bootstrap_f1(
                    one.targets, one.predictions[name], 4, replicates=150, seed=5, units=units
                ).replicates
                for name in ("good", "bad")
            )
            drawn.append(np.nanmean(first[:, members], axis=1))
            drawn[-1] = drawn[-1] - np.nanmean(second[:, members], axis=1)
        n_units = 30
        if units is not None:
            n_units = min(len(set(units[one.targets == c])) for c in members)
        sampled = stats.norm.ppf(0.95) * stats.tstd(np.mean(drawn, axis=0))
        sampled *= math.sqrt(n_units / (n_units - 1))
        each = np.subtract(
            good.scores[scope].per_seed, row_of(result, "bad").scores[scope].per_seed
        )
        trained = 0.0
        if n_seeds > 1:
            trained = stats.sem(each) * stats.t.ppf(0.95, n_seeds - 1)
        found = good.difference[scope]
        assert found.mean == pytest.approx(each.mean())
        assert found.high - found.mean == pytest.approx(math.hypot(sampled, trained))
        assert found.mean - found.low == pytest.approx(math.hypot(sampled, trained))


def test_the_smallest_class_of_a_scope_says_how_far_its_spread_falls_short():
    """Of 50, 30, 12 and 7 rows: 12 / 11 for the middle, 7 / 6 for the tail and for all."""
    generator = np.random.default_rng(4)
    counts = (50, 30, 12, 7)
    targets = np.repeat(np.arange(4), counts)
    said = {name: noisy(targets, share, generator) for name, share in (("p", 0.7), ("q", 0.5))}
    groups = Groups(head=(0,), middle=(1, 2), tail=(3,))
    seeds = [outcome(targets, said, groups=groups, classes=CLASSES)]
    options = {"shared_test": True, "replicates": 300, "seed": 1}
    found = compare_over_seeds(seeds, against="q", **options).rows[0].difference
    first, second = (
        bootstrap_f1(targets, said[name], 4, replicates=300, seed=1).replicates for name in "pq"
    )
    members = {"all": [0, 1, 2, 3], "head": [0], "middle": [1, 2], "tail": [3]}
    for scope, classes in members.items():
        drawn = np.nanmean(first[:, classes], axis=1) - np.nanmean(second[:, classes], axis=1)
        fewest = min(counts[c] for c in classes)
        half = stats.norm.ppf(0.975) * stats.tstd(drawn) * math.sqrt(fewest / (fewest - 1))
        assert found[scope].mean - found[scope].low == pytest.approx(half)


def test_splits_drawn_anew_take_the_spread_over_seeds_alone():
    result = compare_over_seeds(noisy_seeds(4), against="bad", shared_test=False, replicates=10)
    good, bad = row_of(result, "good"), row_of(result, "bad")
    each = np.subtract(good.scores["all"].per_seed, bad.scores["all"].per_seed)
    low, high = stats.t.interval(0.95, 3, loc=each.mean(), scale=stats.sem(each))
    found = good.difference["all"]
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_seed_of_its_own_split_has_the_interval_of_the_test():
    alone = [
        compare_over_seeds(noisy_seeds(1), against="bad", shared_test=shared, replicates=30)
        for shared in (True, False)
    ]
    first, second = (row_of(result, "good") for result in alone)
    assert first.difference == second.difference
    assert first.scores["all"].deviation is None
    assert first.difference["all"].high > first.difference["all"].low


def test_identical_predictions_differ_by_exactly_nothing():
    seeds = noisy_seeds(2)
    for one in seeds:
        one.predictions["bad"] = one.predictions["good"]
    result = compare_over_seeds(seeds, against="bad", shared_test=True, replicates=20)
    assert row_of(result, "bad").difference is None
    for found in row_of(result, "good").difference.values():
        assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_each_row_may_be_compared_with_a_row_of_its_own():
    seeds = noisy_seeds(2)
    options = {"shared_test": True, "replicates": 40}
    mapped = compare_over_seeds(seeds, against={"good": "other", "other": "other"}, **options)
    plain = compare_over_seeds(seeds, against="other", **options)
    assert row_of(mapped, "good") == row_of(plain, "good")
    assert row_of(mapped, "bad").difference is row_of(mapped, "other").difference is None


def test_swapped_rows_have_the_mirrored_interval():
    seeds = noisy_seeds(3)
    options = {"shared_test": True, "replicates": 40}
    one = row_of(compare_over_seeds(seeds, against="bad", **options), "good").difference["tail"]
    two = row_of(compare_over_seeds(seeds, against="good", **options), "bad").difference["tail"]
    assert (one.mean, one.low, one.high) == pytest.approx((-two.mean, -two.high, -two.low))


def test_a_class_that_resampling_cannot_vary_adds_what_its_units_may_hide():
    # three samples of the rare class, all right in one row and all wrong in the other
    targets = [0] * 40 + [1] * 3
    seeds = [outcome(targets, {"p": targets, "q": [0] * 43})]
    found = compare_over_seeds(seeds, against="q", shared_test=True, replicates=60).rows[0]
    tail = found.difference["tail"]
    assert (tail.mean, tail.high) == (1, 1)
    assert tail.low == pytest.approx(1 - undetected_share(3))


def test_a_class_in_one_unit_leaves_its_difference_open():
    targets, units = [0, 0, 1, 1, 0], ["n", "n", "s", "s", "s"]
    seeds = [outcome(targets, {"p": targets, "q": [0] * 5}, units=units)] * 2
    for replicates in (1, 60):
        found = compare_over_seeds(seeds, against="q", shared_test=True, replicates=replicates)
        tail = found.rows[0].difference["tail"]
        assert (tail.low, tail.mean, tail.high) == (0, 1, 1)


def test_a_class_counts_only_where_its_seed_has_it():
    seeds = [
        outcome([0, 1, 1], {"p": [0, 1, 1], "q": [0, 0, 0]}),
        outcome([0, 0, 0], {"p": [0, 0, 0], "q": [0, 0, 1]}),
        outcome([1, 1, 0, 2], {"p": [0, 1, 0, 2], "q": [0, 0, 0, 2]},
                groups=Groups((2,), (), (0, 1)), classes=("y", "z", "x")),
    ]  # fmt: skip
    result = compare_over_seeds(seeds, against="q", shared_test=False, replicates=10)
    row = result.rows[0]
    by_name = {entry.name: entry for entry in row.per_class}
    assert list(by_name) == ["x", "y", "z"]
    assert by_name["z"].deviation is None
    assert by_name["z"].mean == pytest.approx(2 / 3)
    assert by_name["y"].mean == pytest.approx((1 + 2 / 3) / 2)
    assert row.scores["tail"].per_seed[1] is None
    assert row.difference["tail"].low is not None


def test_a_scope_tested_in_one_of_several_seeds_has_a_difference_without_interval():
    seeds = [
        outcome([0, 1, 1], {"p": [0, 1, 1], "q": [0, 0, 0]}),
        outcome([0, 0, 0], {"p": [0, 0, 0], "q": [0, 0, 1]}),
    ]
    tail = compare_over_seeds(seeds, against="q", shared_test=False).rows[0].difference["tail"]
    assert (tail.mean, tail.low, tail.high) == (1, None, None)


def test_a_scope_without_samples_is_undefined_and_json_stays_plain():
    result = compare_over_seeds(
        [outcome([0, 0], {"p": [0, 0], "q": [0, 1]})] * 2,
        against="q", shared_test=True, replicates=10,
    )  # fmt: skip
    entry = plain(asdict(result))
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry
    assert entry["rows"][0]["difference"]["tail"] == {"mean": None, "low": None, "high": None}
    assert entry["rows"][0]["scores"]["tail"]["per_seed"] == [None, None]
    assert entry["rows"][0]["ranks"] == {"all": 1, "head": 1, "middle": None, "tail": None}
    assert entry["rows"][0]["per_class"][1] == {"name": "y", "mean": None, "deviation": None}
    assert entry["rows"][1]["difference"] is None
    assert set(entry) == {"rows", "num_seeds", "shared_test", "replicates", "confidence"}


@pytest.mark.parametrize(
    ("seeds", "options", "kind", "message"),
    [
        ([], {}, DataError, "at least one seed, got none"),
        ([{}], {}, DataError, "at least one row"),
        ([{"lora": [0, 1]}], {"against": "loar"}, ConfigError, "did you mean 'lora'"),
        ([{"p": [0, 1]}], {"against": {"p": "q"}}, ConfigError, "unknown reference row 'q'"),
        ([{"p": [0, 1], "q": [0, 1]}, {"p": [0, 1]}], {}, DataError, r"seed 2 of 2 lacks .*'q'"),
        ([{"p": [0, 1]}], {"confidence": 95}, ConfigError, "strictly between 0 and 1"),
        ([{"p": [0, 1]}], {"replicates": 0}, ConfigError, "at least 1, got 0"),
        ([{"p": [0, 1, 1]}], {}, DataError, "2 targets and 3 predictions"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(seeds, options, kind, message):
    found = [outcome([0, 1], predictions) for predictions in seeds]
    with pytest.raises(kind, match=message) as caught:
        compare_over_seeds(found, **{"against": None, "shared_test": True, **options})
    assert "\n" not in str(caught.value)


def test_groups_that_miss_a_class_are_refused():
    wrong = outcome([0, 1], {"p": [0, 1]}, groups=Groups((0,), (), (2,)))
    with pytest.raises(DataError, match="must contain each of the 2 classes once"):
        compare_over_seeds([wrong], against=None, shared_test=True)


@pytest.mark.parametrize(
    "change",
    [
        {"targets": [1, 0]},
        {"units": [0, 1]},
        {"classes": ("y", "x")},
        {"groups": Groups((), (0,), (1,))},
    ],
)
def test_a_test_said_to_be_shared_must_be(change):
    first = outcome([0, 1], {"p": [0, 1]})
    second = outcome(**{"targets": [0, 1], "predictions": {"p": [0, 1]}, **change})
    with pytest.raises(DataError, match="seed 2 of 2 was not tested on the samples of the first"):
        compare_over_seeds([first, second], against=None, shared_test=True)
    compare_over_seeds([first, second], against=None, shared_test=False)


RECALL = {"p": 0.75, "q": 0.65}
SIZES = np.array([60, 40])
TRAINING_NOISE = 0.05


def trained_recall(name, generator, size=(2,)):
    return np.clip(RECALL[name] + generator.normal(0, TRAINING_NOISE, size), 0, 1)


def population_f1(recall):
    """F1 of the second class when class c is recognised at `recall[..., c]`."""
    hits = recall * SIZES
    return 2 * hits[..., 1] / (hits[..., 1] + SIZES[1] + (SIZES - hits)[..., 0])


def one_experiment(generator, *, n_seeds, resplit):
    """Two methods trained `n_seeds` times; recall varies with training, hits with the test."""
    targets = np.repeat([0, 1], SIZES)
    difficulty = generator.random(len(targets))  # of each sample, shared by both methods
    seeds = []
    for _ in range(n_seeds):
        if resplit:
            difficulty = generator.random(len(targets))
        predictions = {
            name: np.where(
                difficulty < trained_recall(name, generator)[targets], targets, 1 - targets
            )
            for name in RECALL
        }
        seeds.append(outcome(targets, predictions))
    return seeds


def coverage(n_seeds, *, resplit=False, experiments=300):
    generator = np.random.default_rng(11)
    truth = [population_f1(trained_recall(name, generator, (20_000, 2))).mean() for name in RECALL]
    hits = 0
    for _ in range(experiments):
        seeds = one_experiment(generator, n_seeds=n_seeds, resplit=resplit)
        found = compare_over_seeds(seeds, against="q", shared_test=not resplit, replicates=80)
        tail = found.rows[0].difference["tail"]
        hits += tail.low <= truth[0] - truth[1] <= tail.high
    return hits / experiments


@pytest.mark.parametrize(("n_seeds", "resplit"), [(3, False), (5, False), (4, True)])
def test_the_interval_covers_the_true_difference_about_as_often_as_it_says(n_seeds, resplit):
    assert 0.92 <= coverage(n_seeds, resplit=resplit) <= 0.99


def test_one_seed_covers_less_since_it_knows_nothing_of_training():
    assert coverage(1) < 0.9


def masks_of(truth, said):
    """Hits, true and predicted pixels of each class in each image, pixel by pixel."""
    pairs = zip(truth, said, strict=True)
    return np.array(
        [
            [
                [int(((t == c) & (p == c)).sum()) for c in range(4)],
                [int((t == c).sum()) for c in range(4)],
                [int((p == c).sum()) for c in range(4)],
            ]
            for t, p in pairs
        ]
    )


def test_rows_of_pixels_are_scored_by_iou_and_resampled_by_image():
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 4, (12, 30))
    said = {
        name: [noisy(truth.ravel(), accuracy, rng).reshape(12, 30) for _ in range(2)]
        for name, accuracy in (("good", 0.8), ("bad", 0.5))
    }
    units = np.repeat(np.arange(6), 2)
    sums = {name: [masks_of(truth, one) for one in found] for name, found in said.items()}
    seeds = [
        PlaceOutcome(
            {name: PixelSums(units, found[k]) for name, found in sums.items()},
            "mean IoU",
            GROUPS,
            CLASSES,
        )
        for k in range(2)
    ]
    result = compare_over_seeds(seeds, against="bad", shared_test=True, replicates=400)
    expected = {
        name: [jaccard_score(truth.ravel(), one.ravel(), average=None) for one in found]
        for name, found in said.items()
    }
    good, bad = result.rows
    assert good.scores["tail"].per_seed == pytest.approx(
        tuple(float(one[2:].mean()) for one in expected["good"])
    )
    assert [one.mean for one in bad.per_class] == pytest.approx(np.mean(expected["bad"], axis=0))
    gains = [a.mean() - b.mean() for a, b in zip(expected["good"], expected["bad"], strict=True)]
    assert good.difference["all"].mean == pytest.approx(np.mean(gains))

    def mean_iou(images, one):
        hits, true, called = one[images].sum(axis=0)
        return (hits / (true + called - hits)).mean()

    drawn = []
    for _ in range(400):
        blocks = rng.integers(0, 6, 6)
        images = np.concatenate([np.flatnonzero(units == block) for block in blocks])
        drawn.append(mean_iou(images, sums["good"][0]) - mean_iou(images, sums["bad"][0]))
    half = stats.norm.ppf(0.975) * np.std(drawn, ddof=1) * math.sqrt(6 / 5)
    alone = compare_over_seeds(seeds[:1], against="bad", shared_test=True, replicates=400).rows[0]
    low, high = alone.difference["all"].ends
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)


def test_masks_of_unlike_tests_are_not_resampled_together():
    truth = np.array([[0, 1], [1, 1]])
    one, other = (
        PlaceOutcome(
            {"p": PixelSums(np.arange(2), masks_of(t, truth))}, "mean IoU", TWO, ("x", "y")
        )
        for t in (truth, truth[::-1])
    )
    assert one.units_per_class().tolist() == [1, 2, 0, 0]
    with pytest.raises(DataError, match="not tested on the samples of the first"):
        compare_over_seeds([one, other], against=None, shared_test=True)
