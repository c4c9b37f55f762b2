import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.heads import linear_probe
from tailora.heads.linear_probe import fit_linear_probe, predict_logits
from tailora.losses import LogitAdjustedLoss

SIZES = (90, 30, 12)
COUNTS = ClassCounts(("a", "b", "c"), SIZES)


def sample(seed=0, sizes=SIZES, dimensions=5):
    """Overlapping classes whose features have very different units and offsets."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    rows = rng.normal(size=(3, dimensions))[labels] + 1.3 * rng.normal(
        size=(len(labels), dimensions)
    )
    units = 10.0 ** np.arange(-2, dimensions - 2)
    return (rows * units + 3 * units).astype(np.float32), labels


def fit(x, y, loss=None, **options):
    return fit_linear_probe(
        x, y, loss=loss or nn.CrossEntropyLoss(), **{"num_classes": 3, "l2": 1e-2, **options}
    )


def probabilities(probe, x):
    return torch.from_numpy(predict_logits(probe.linear, x)).softmax(dim=1).numpy()


@pytest.mark.parametrize("l2", [1e-1, 1e-2, 1e-3])
def test_cross_entropy_agrees_with_scikit_learn(l2):
    x, y = sample()
    unseen, _ = sample(seed=1)
    scaler = StandardScaler().fit(x.astype(np.float64))
    # sum of losses x C + |W|^2 / 2 is the same objective for C = 1 / (l2 rows)
    peer = LogisticRegression(C=1 / (l2 * len(x)), tol=1e-10, max_iter=5000)
    peer.fit(scaler.transform(x.astype(np.float64)), y)
    expected = peer.predict_proba(scaler.transform(unseen.astype(np.float64)))
    np.testing.assert_allclose(probabilities(fit(x, y, l2=l2), unseen), expected, atol=2e-3)


def test_a_hard_objective_is_solved_to_its_end():
    """Many correlated features and a weak penalty: against scipy in double precision."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2, 3], [300, 140, 70, 30])
    mix = rng.normal(size=(150, 150)) * np.exp(-np.arange(150) / 25)[:, None]
    x = ((rng.normal(size=(4, 150))[y] + 1.5 * rng.normal(size=(len(y), 150))) @ mix).astype("f")
    mean, spread = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    z = (x - mean) / spread

    def objective(flat, l2=3e-3):
        weight, bias = flat[:600].reshape(4, 150), flat[600:]
        logs = log_softmax(z @ weight.T + bias, axis=1)
        errors = (np.exp(logs) - np.eye(4)[y]) / len(y)
        slope = np.concatenate([(errors.T @ z + l2 * weight).ravel(), errors.sum(axis=0)])
        return -logs[np.arange(len(y)), y].mean() + l2 / 2 * (weight**2).sum(), slope

    options = {"maxiter": 20000, "maxfun": 10**6, "gtol": 1e-10, "ftol": 0}
    best = minimize(objective, np.zeros(604), jac=True, method="L-BFGS-B", options=options)
    linear = fit(x, y, l2=3e-3, num_classes=4).linear
    folded = linear.weight.detach().double().numpy()
    bias = linear.bias.detach().double().numpy() + folded @ mean
    found, slope = objective(np.concatenate([(folded * spread).ravel(), bias]))
    assert found == pytest.approx(best.fun, rel=1e-5)
    assert abs(slope).max() < 1e-4


def test_the_gradient_of_the_logit_adjusted_objective_vanishes_at_the_solution():
    x, y = sample()
    linear, l2 = fit(x, y, LogitAdjustedLoss(COUNTS)).linear, 1e-2
    mean, spread = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    z = (x - mean) / spread
    folded = linear.weight.detach().double().numpy()
    weight, bias = folded * spread, linear.bias.detach().double().numpy() + folded @ mean
    logits = z @ weight.T + bias + np.log(np.array(SIZES) / sum(SIZES))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    errors = shares / shares.sum(axis=1, keepdims=True) - np.eye(3)[y]
    gradient = errors.T @ z / len(z) + l2 * weight
    assert abs(gradient).max() < 1e-4
    assert abs(errors.mean(axis=0)).max() < 1e-4
    assert abs(weight).max() > 0.1


def test_the_penalty_spares_the_bias():
    """Under a huge penalty the weights vanish and the bias alone gives the class shares."""
    x, y = sample()
    probe = fit(x, y, l2=1e4)
    shares = probabilities(probe, x).mean(axis=0)
    np.testing.assert_allclose(shares, np.array(SIZES) / sum(SIZES), atol=1e-3)


def test_standardisation_is_folded_in_so_units_do_not_matter():
    x, y = sample()
    units, shift = np.float32([4, 0.5, 8, 2, 0.25]), np.float32([1, -2, 0, 3, 0.5])
    first, second = fit(x, y), fit(x * units + shift, y)
    np.testing.assert_allclose(
        predict_logits(first.linear, x), predict_logits(second.linear, x * units + shift),
        atol=5e-3,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, -3e4])
def test_a_constant_dimension_is_ignored_and_harms_nothing(value, dtype):
    x, y = sample()
    x = x.astype(dtype)
    wide = np.column_stack([x, np.full(len(x), value, dtype)])
    narrow, probe = fit(x, y), fit(wide, y)
    assert abs(probe.linear.weight[:, -1]).max() < 1e-12
    np.testing.assert_allclose(
        predict_logits(probe.linear, wide), predict_logits(narrow.linear, x), atol=1e-3
    )


def test_a_dimension_that_varies_by_rounding_alone_cannot_decide_a_prediction():
    x, y = sample()
    noise = np.where(y == 2, np.nextafter(np.float32(5), 9), np.float32(5))  # even if it could
    probe = fit(np.column_stack([x, noise]), y)
    moved = np.column_stack([x, noise + np.float32(0.01)])
    np.testing.assert_allclose(
        predict_logits(probe.linear, moved), predict_logits(fit(x, y).linear, x), atol=0.05
    )


def test_a_class_without_rows_is_in_the_head_and_never_predicted():
    x, y = sample()
    probe = fit(x, y, num_classes=4)
    logits = predict_logits(probe.linear, x)
    assert logits.shape == (len(x), 4)
    assert np.isfinite(logits).all()
    assert (logits.argmax(axis=1) != 3).all()


def test_global_random_state_is_not_needed():
    x, y = sample()
    first = fit(x, y)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        second = fit(x, y)
    assert torch.equal(first.linear.weight, second.linear.weight)


# --- choosing a penalty ---


def chosen(scores):
    """Fit with a made-up validation score per penalty, from the strongest on."""
    x, y = sample()
    pending = list(scores.values())
    return fit(
        x, y, l2=list(scores)[::-1], validation=(x, y), score=lambda _truth, _guess: pending.pop(0)
    )  # fmt: skip


def test_the_best_validation_score_chooses_the_penalty():
    probe = chosen({0.1: 0.2, 0.01: 0.7, 0.001: 0.4})
    assert probe.l2 == 0.01
    assert probe.scores == {0.1: 0.2, 0.01: 0.7, 0.001: 0.4}


@pytest.mark.parametrize(
    ("scores", "l2"),
    [
        ({0.1: 0.5, 0.01: 0.5, 0.001: 0.5}, 0.1),
        ({0.1: 0.2, 0.01: 0.5, 0.001: 0.5}, 0.01),
        ({0.1: 0.0, 0.01: 0.0, 0.001: 0.0}, 0.1),
        ({0.1: np.nan, 0.01: np.nan, 0.001: np.nan}, 0.1),
    ],
)
def test_of_equal_scores_the_strongest_penalty_wins(scores, l2):
    assert chosen(scores).l2 == l2


def test_the_chosen_head_is_that_of_its_penalty_whatever_the_search_began_with():
    x, y = sample()
    searched = chosen({0.1: 0.2, 0.01: 0.7, 0.001: 0.4})
    alone = fit(x, y, l2=0.01)
    np.testing.assert_allclose(
        probabilities(searched, x), probabilities(alone, x), atol=2e-3
    )  # fmt: skip


def test_the_score_sees_validation_targets_and_what_the_head_predicts_for_them():
    (x, y), (other, truth) = sample(), sample(seed=1)
    seen = []
    probe = fit(
        x, y, l2=[0.1, 0.01], validation=(other, truth),
        score=lambda t, p: seen.append((t, p)) or -len(seen),
    )  # fmt: skip
    assert probe.l2 == 0.1
    assert np.array_equal(seen[0][0], truth)
    by_hand = other @ probe.linear.weight.detach().numpy().T + probe.linear.bias.detach().numpy()
    assert np.array_equal(seen[0][1], by_hand.argmax(axis=1))


def test_one_penalty_needs_no_validation():
    x, y = sample()
    for l2 in (0.01, [0.01]):
        probe = fit(x, y, l2=l2)
        assert (probe.l2, probe.scores) == (0.01, {})


# --- logits ---


@pytest.mark.parametrize("batch_size", [1, 5, 64, 1000])
def test_logits_are_weights_times_features_plus_bias(batch_size):
    x, y = sample()
    linear = fit(x, y).linear
    by_hand = x.astype(np.float64) @ linear.weight.detach().double().numpy().T
    by_hand += linear.bias.detach().double().numpy()
    found = predict_logits(linear, x, batch_size=batch_size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand, atol=1e-3)


def test_no_rows_have_no_logits():
    x, y = sample()
    assert predict_logits(fit(x, y).linear, x[:0]).shape == (0, 3)


# --- refusals ---


@pytest.mark.parametrize("l2", [0.0, -1.0, [0.1, 0.0], [], float("nan")])
def test_a_penalty_that_is_not_positive_is_refused(l2):
    x, y = sample()
    with pytest.raises(ConfigError, match="probe l2 must be positive"):
        fit(x, y, l2=l2, validation=(x, y), score=lambda _truth, _guess: 0.0)


@pytest.mark.parametrize("given", [{}, {"validation": True}, {"score": True}])
def test_several_penalties_need_something_to_choose_by(given):
    x, y = sample()
    options = {
        name: (x, y) if name == "validation" else (lambda _truth, _guess: 0.0) for name in given
    }
    with pytest.raises(ConfigError, match="selecting among several l2 needs validation samples"):
        fit(x, y, l2=[0.1, 0.01], **options)


def broken(value):
    x, _ = sample()
    x[3, 2] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (broken(np.nan), sample()[1], "features contain NaN or infinite values"),
        (broken(np.inf), sample()[1], "features contain NaN or infinite values"),
        (sample()[0], sample()[1][:-1], r"got \(132, 5\) and \(131,\)"),
        (sample()[0][:0], sample()[1][:0], "at least one row"),
        (sample()[0], sample()[1] + 1, r"labels must lie in \[0, 2\], got 1..3"),
        (sample()[0], sample()[1] - 1, r"labels must lie in \[0, 2\], got -1..1"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(x, y, message):
    with pytest.raises(DataError, match=message):
        fit(x, y)


def test_blocks_of_rows_change_nothing(monkeypatch):
    """Seven rows at a time, of features of unlike units."""
    rng = np.random.default_rng(2)
    features = (rng.normal(size=(100, 5)) * [1, 100, 0.01, 3, 7]).astype("f")
    labels = (features[:, 0] + features[:, 3] > 0).astype(int)
    fit = {"loss": torch.nn.functional.cross_entropy, "num_classes": 2, "l2": 0.1}
    at_once = fit_linear_probe(features, labels, **fit).linear
    monkeypatch.setattr(linear_probe, "_BLOCK_BYTES", 7 * 5 * 8)
    by_blocks = fit_linear_probe(features, labels, **fit).linear
    rows = torch.from_numpy(features)
    torch.testing.assert_close(by_blocks(rows), at_once(rows), rtol=1e-3, atol=1e-3)
