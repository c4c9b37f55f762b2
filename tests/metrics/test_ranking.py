import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from tailora.counts import Groups
from tailora.errors import DataError
from tailora.metrics.ranking import group_ranking, macro_auroc, ranking_scores


def random_case(seed, rows, *, levels):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, levels, (rows, 4)) / levels
    return scores, generator.choice(4, rows, p=[0.6, 0.25, 0.1, 0.05])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 60), st.sampled_from([2, 5, 10**6]))
def test_every_class_agrees_with_scikit_learn_ties_included(seed, rows, levels):
    scores, targets = random_case(seed, rows, levels=levels)
    found = ranking_scores(scores, targets)
    for c in range(4):
        own = targets == c
        if own.any() and not own.all():
            assert found.auroc[c] == pytest.approx(roc_auc_score(own, scores[:, c]))
            assert found.auprc[c] == pytest.approx(average_precision_score(own, scores[:, c]))
        else:
            assert np.isnan([found.auroc[c], found.auprc[c]]).all()
        assert found.prevalence[c] == pytest.approx(own.mean())


def test_macro_mean_agrees_with_scikit_learn_and_leaves_absent_classes_out():
    generator = np.random.default_rng(3)
    probabilities, targets = generator.dirichlet(np.ones(3), 50), generator.integers(0, 3, 50)
    expected = roc_auc_score(targets, probabilities, multi_class="ovr", average="macro")
    assert macro_auroc(probabilities, targets) == pytest.approx(expected)
    with_absent = np.hstack([probabilities, np.zeros((50, 1))])
    assert macro_auroc(with_absent, targets) == pytest.approx(expected)
    assert np.isnan(macro_auroc([[0.5, 0.5]], [0]))


def one_class(order):
    """Scores that rank rows as in `order` (1: positive), best first."""
    scores = np.linspace(1, 0.5, len(order))
    return np.stack([1 - scores, scores], axis=1), np.array(order)


@pytest.mark.parametrize("place", [1, 3, 6])
def test_mending_one_neighbouring_pair_raises_each_score_by_its_formula(place):
    order = [1, 0, 1, 0, 0, 1, 0, 1, 0]
    worse, better = list(order), list(order)
    worse[place : place + 2], better[place : place + 2] = [0, 1], [1, 0]
    positives, negatives = sum(worse), len(worse) - sum(worse)
    before, after = ranking_scores(*one_class(worse)), ranking_scores(*one_class(better))
    assert after.auroc[1] - before.auroc[1] == pytest.approx(1 / (positives * negatives))
    rank, above = place + 1, sum(worse[:place])
    expected = (above + 1) / (positives * rank * (rank + 1))
    assert after.auprc[1] - before.auprc[1] == pytest.approx(expected)


def test_average_precision_of_chance_is_the_prevalence_and_auroc_is_not_moved_by_it():
    # equal scores: every row is flagged at once
    found = ranking_scores(np.full((10, 2), 0.5), [0] * 8 + [1] * 2)
    assert found.auroc.tolist() == [0.5, 0.5]
    np.testing.assert_allclose(found.auprc, [0.8, 0.2])
    np.testing.assert_allclose(found.auprc, found.prevalence)


def test_groups_are_means_over_the_classes_that_are_defined():
    scores, targets = random_case(5, 40, levels=7)
    targets[targets == 3] = 0
    ranking = ranking_scores(scores, targets)
    found = group_ranking(ranking, Groups((0,), (1, 2), (3,)))
    assert found["head"].auroc == ranking.auroc[0]
    assert found["middle"].auprc == pytest.approx(ranking.auprc[1:3].mean())
    assert found["middle"].prevalence == pytest.approx(ranking.prevalence[1:3].mean())
    assert found["all"].prevalence == pytest.approx(ranking.prevalence[:3].mean())
    assert np.isnan([found["tail"].auroc, found["tail"].auprc, found["tail"].prevalence]).all()


@pytest.mark.parametrize(
    ("scores", "targets", "message"),
    [
        ([0.5, 0.5], [0, 1], r"must be \(rows, classes\)"),
        ([[0.5, 0.5]], [0, 1], "one row per target"),
        ([[np.nan, 0.5]], [0], "NaN"),
        ([[0.5, 0.5]], [2], r"targets must lie in \[0, 1\]"),
    ],
)
def test_what_cannot_be_ranked_is_refused(scores, targets, message):
    with pytest.raises(DataError, match=message):
        ranking_scores(scores, targets)
