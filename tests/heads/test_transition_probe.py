"""Factored heads: what they tie together, against heads fitted another way."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from tailora.counts import ClassCounts, make_groups
from tailora.errors import ConfigError
from tailora.heads.probe import CHOSEN, ProbeData
from tailora.heads.probes import find_probe
from tailora.transitions import parse_transitions

CLASSES = ("a → a", "b → b", "a → b", "b → a", "b → c", "c → b", "c → c")
WIDTH, ROWS = 3, 160


def draw(seed):
    """Pairs of dates in both orders, whose features are those of their land cover with noise."""
    rng, found = np.random.default_rng(seed), parse_transitions(CLASSES)
    labels = rng.choice(len(CLASSES), ROWS, p=[0.25, 0.25, 0.1, 0.1, 0.1, 0.1, 0.1])
    centres = 2 * np.random.default_rng(9).normal(size=(4, WIDTH))
    first, second = (
        centres[cover] + rng.normal(size=(ROWS, WIDTH)) for cover in found.table[labels].T
    )
    apart = np.abs(first - second)
    rows = np.concatenate(
        [np.hstack([first, second, apart]), np.hstack([second, first, apart])]
    ).astype("f")
    return rows, np.concatenate([labels, found.inverse[labels]])


@pytest.fixture(scope="module")
def data():
    features, labels = draw(0)
    counts = ClassCounts.from_labels(labels, names=CLASSES)
    return ProbeData(
        features, labels, *draw(1), counts, make_groups(counts),
        lambda true, said: float((true == said).mean()), l2=(0.1,),
    )  # fmt: skip


def standard(rows):
    """Mean and spread of both dates together, and of their difference."""
    dates = np.concatenate([rows[:, :WIDTH], rows[:, WIDTH : 2 * WIDTH]]).astype("d")
    apart = rows[:, 2 * WIDTH :].astype("d")
    return (dates.mean(0), dates.std(0)), (apart.mean(0), apart.std(0))


def test_a_factored_head_is_the_minimum_of_its_objective(data):
    """scipy minimises the sum of both land covers and of change over the same rows."""
    found = parse_transitions(CLASSES)
    dates, apart = standard(data.features)
    first, second, differ = (
        (data.features[:, part * WIDTH : (part + 1) * WIDTH] - mean) / spread
        for part, (mean, spread) in enumerate((dates, dates, apart))
    )
    prior = 0.5 * np.log(np.array(data.counts.values) / sum(data.counts.values))

    def logits(x):
        cover = x[: 3 * WIDTH].reshape(3, WIDTH)
        change = differ @ x[3 * WIDTH : 4 * WIDTH]
        said = np.empty((len(first), len(CLASSES)))
        for t, (i, j) in enumerate(found.table - 1):
            own = x[4 * WIDTH + t] + x[4 * WIDTH + found.inverse[t]]
            said[:, t] = first @ cover[i] + second @ cover[j] + own + change * (i != j)
        return said

    def objective(x):
        own = log_softmax(logits(x) + prior, axis=1)[np.arange(len(first)), data.labels]
        return -own.mean() + 0.1 / 2 * np.square(x[: 4 * WIDTH]).sum()

    best = minimize(objective, np.zeros(4 * WIDTH + len(CLASSES)), options={"gtol": 1e-7})
    head = find_probe("factored").fit(data)
    with torch.inference_mode():
        said = head(torch.from_numpy(data.features)).numpy()
    np.testing.assert_allclose(softmax(said, axis=1), softmax(logits(best.x), axis=1), atol=1e-3)


@pytest.mark.parametrize("name", ["factored", "post-classification"])
def test_swapped_dates_have_swapped_transitions(name, data):
    head, inverse = find_probe(name).fit(data), parse_transitions(CLASSES).inverse
    with torch.inference_mode():
        there, back = head(torch.from_numpy(data.features)).split(ROWS)
    np.testing.assert_allclose(there, back[:, inverse], atol=1e-5)


def test_post_classification_adds_the_land_covers_of_both_dates(data):
    """scikit-learn classifies single dates; without a margin sums of logits decide."""
    found, (dates, _) = parse_transitions(CLASSES), standard(data.features)
    first = (data.features[:, :WIDTH] - dates[0]) / dates[1]
    known = LogisticRegression(C=1 / (0.1 * len(first)), tol=1e-8, max_iter=5000)
    said = known.fit(first, found.table[data.labels, 0]).decision_function(first)
    sums = said[:ROWS][:, found.table[:, 0] - 1] + said[ROWS:][:, found.table[:, 1] - 1]
    head = find_probe("post-classification").fit(data, {"margin": 0.25})
    with torch.inference_mode():
        found_sums = head(torch.from_numpy(data.features[:ROWS])).numpy()
    expected = sums - 0.25 * found.changed
    np.testing.assert_allclose(
        log_softmax(found_sums, axis=1), log_softmax(expected, axis=1), atol=2e-3
    )


def test_the_margin_calls_as_many_validation_rows_changed_as_did(data):
    changed = parse_transitions(CLASSES).changed
    head = find_probe("post-classification").fit(data)
    with torch.inference_mode():
        said = head(torch.from_numpy(data.val_features)).argmax(dim=1).numpy()
    share = changed[data.val_labels].mean()
    margin = getattr(head, CHOSEN)["margin"]
    assert margin >= 0
    assert changed[said].mean() == pytest.approx(share, abs=0.02) or margin == 0
    alone = replace(data, val_features=data.val_features[:0], val_labels=data.val_labels[:0])
    assert getattr(find_probe("post-classification").fit(alone), CHOSEN) == {"margin": 0.0}


def test_equal_dates_are_never_a_change_to_post_classification(data):
    date = data.features[:, :WIDTH]
    head = find_probe("post-classification").fit(data)
    with torch.inference_mode():
        said = head(torch.from_numpy(np.hstack([date, date, 0 * date]))).argmax(dim=1).numpy()
    assert not parse_transitions(CLASSES).changed[said].any()


def test_a_loss_of_kappa_agrees_more_where_it_changed(data):
    """Of the training rows, whose loss has it."""

    def kappa(options):
        head, changed = (
            find_probe("factored").fit(data, options),
            parse_transitions(CLASSES).changed,
        )
        with torch.inference_mode():
            shares = head(torch.from_numpy(data.features)).softmax(dim=1).numpy()
        own = changed[data.labels]
        return shares[own, data.labels[own]].mean()

    assert kappa({"sek": 2.0}) > kappa({}) + 0.02


def test_masks_of_change_have_a_logit_of_change_alone(data):
    names = ("no change", "change")
    labels = parse_transitions(CLASSES).changed[data.labels].astype(np.int64)
    counts = ClassCounts.from_labels(labels, names=names)
    binary = replace(
        data, labels=labels, val_labels=labels, val_features=data.features, counts=counts
    )
    head = find_probe("factored").fit(binary)
    with torch.inference_mode():
        said = head(torch.from_numpy(data.features)).argmax(dim=1).numpy()
    assert (said == labels).mean() > 0.8
    with pytest.raises(ConfigError, match="needs masks of land cover"):
        find_probe("post-classification").fit(binary)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("factored", {"margin": 1}, "has no option 'margin'; it has tau, sek"),
        ("factored", {"sek": -0.5}, "above 0, got -0.5"),
        ("factored", {"sek": 0.5, "mode": "fix"}, "unknown mode of SeK 'fix'"),
        ("factored", {"mode": "released"}, "add its weight, e.g. sek=0.5"),
        ("factored", {"tau": -1.0}, "tau"),
        ("post-classification", {"margin": -1.0}, "at least 0, got -1.0"),
        ("post-classification", {"margin": "best"}, "'prevalence' or finite"),
    ],
)
def test_wrong_options_are_refused(name, options, says, data):
    with pytest.raises(ConfigError, match=says):
        find_probe(name).check(options, data.counts)


def test_classes_that_are_no_transitions_are_refused():
    counts = ClassCounts(("a", "b"), (3, 3))
    with pytest.raises(ConfigError, match="probe 'factored' is for task 'change': class 'a'"):
        find_probe("factored").check({}, counts)
