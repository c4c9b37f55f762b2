"""Probes by name: each equals what another way of computing it gives."""

import inspect
import io
import json
import re
from dataclasses import replace
from functools import cache, partial

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from torch import nn

from tailora import registry
from tailora.counts import ClassCounts, make_groups
from tailora.errors import ConfigError, RunError
from tailora.experts.aggregation import view_agreement
from tailora.heads.classifier_retraining import fresh_linear
from tailora.heads.expert_probes import fit_experts
from tailora.heads.probe import ProbeData, as_logits
from tailora.heads.probes import find_probe, probe_names
from tailora.losses import LDAMLoss
from tailora.runs.weights import HeadFacts, load_head, save_head

COUNTS = (120, 40, 8)
OTHER_INPUT = ("text", "maps", "transitions")
FITTED = [n for n in probe_names() if not any(getattr(find_probe(n), a) for a in OTHER_INPUT)]


def fit_probe(name, data, options=None):
    return as_logits(find_probe(name).fit(data, options or {}))


def macro_f1(targets, predictions):
    return float(f1_score(targets, predictions, average="macro", zero_division=0))


def trained_along(features, labels):
    """A linear head of raw features, as an adapter's training would leave it."""
    known = LogisticRegression(max_iter=20_000).fit(features, labels)
    head = nn.Linear(features.shape[1], 3)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(known.coef_))
        head.bias.copy_(torch.from_numpy(known.intercept_))
    return head


@pytest.fixture(scope="module")
def data():
    """Three overlapping Gaussians in eight dimensions of very different units."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 8)) * 1.2
    units = np.logspace(-2, 2, 8)

    def draw(counts):
        labels = np.repeat(np.arange(3), counts)
        return ((centres[labels] + rng.normal(size=(len(labels), 8))) * units).astype("f"), labels

    features, labels = draw(COUNTS)
    val_features, val_labels = draw((30, 30, 30))
    counts = ClassCounts.from_labels(labels, names=("a", "b", "c"))
    views = tuple(
        (val_features + 0.3 * units * rng.normal(size=val_features.shape)).astype("f")
        for _ in range(2)
    )
    return ProbeData(
        features, labels, val_features, val_labels, counts, make_groups(counts), macro_f1,
        views=views, own=trained_along(features, labels), l2=(0.1, 0.01),
    )  # fmt: skip


@pytest.fixture(scope="module")
def test_rows():
    rng = np.random.default_rng(1)
    centres = np.random.default_rng(0).normal(size=(3, 8)) * 1.2
    labels = np.repeat(np.arange(3), 200)
    rows = (centres[labels] + rng.normal(size=(600, 8))) * np.logspace(-2, 2, 8)
    return rows.astype("f"), labels


@pytest.fixture(scope="module")
def heads(data):
    """Fitted heads by name, with default options; each is fitted once for all tests."""
    return cache(lambda name: find_probe(name).fit(data))


@pytest.fixture(scope="module")
def fitted(heads, test_rows):
    """Logits of a probe for the test rows, by name."""
    return cache(lambda name: as_logits(heads(name))(test_rows[0]))


def standardised(data, rows):
    return (rows - data.features.mean(0, dtype=np.float64)) / data.features.std(0, dtype=np.float64)


@pytest.mark.parametrize("name", FITTED)
def test_every_probe_gives_finite_logits_and_beats_chance(name, fitted, test_rows):
    logits = fitted(name)
    assert logits.shape == (600, 3)
    assert np.isfinite(logits).all()
    assert macro_f1(test_rows[1], logits.argmax(1)) > 0.5


@pytest.mark.parametrize("name", [name for name in FITTED if name != "own"])
def test_no_probe_depends_on_the_unit_of_a_dimension(name, fitted, data, test_rows):
    def scaled(rows):
        return (rows * np.float32(4)).astype("f")  # a power of two: no rounding of its own

    other = ProbeData(
        **{**vars(data), "features": scaled(data.features),
           "val_features": scaled(data.val_features),
           "views": tuple(scaled(view) for view in data.views)}
    )  # fmt: skip
    mine = fitted(name).argmax(1)
    theirs = fit_probe(name, other)(scaled(test_rows[0])).argmax(1)
    assert (mine == theirs).mean() > 0.99


@pytest.mark.parametrize("name", FITTED)
def test_the_same_seed_gives_the_same_probe(name, fitted, data, test_rows):
    first = fitted(name)
    state = torch.get_rng_state()
    assert np.array_equal(fit_probe(name, data)(test_rows[0]), first)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("k", "tau"), [(20, 1.0), (7, 0.0), (500, 0.5)])
def test_knn_is_scikit_learns_vote_over_the_prior(k, tau, data, test_rows):
    known = KNeighborsClassifier(min(k, sum(COUNTS)), metric="cosine")
    known.fit(standardised(data, data.features), data.labels)
    votes = known.n_neighbors * known.predict_proba(standardised(data, test_rows[0]))
    prior = np.array(COUNTS) / sum(COUNTS)
    expected = np.log((votes + prior) / prior**tau)
    found = fit_probe("knn", data, {"k": k, "tau": tau})(test_rows[0])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_knn_corrected_for_the_prior_finds_the_rare_class(data, test_rows):
    rows, labels = test_rows
    plain, corrected = (fit_probe("knn", data, {"tau": tau})(rows).argmax(1) for tau in (0.0, 1.0))
    assert (plain[labels == 2] == 2).mean() < (corrected[labels == 2] == 2).mean() - 0.3


def test_knn_chooses_its_options_on_validation(data):
    scores = {
        tau: macro_f1(
            data.val_labels, fit_probe("knn", data, {"tau": tau})(data.val_features).argmax(1)
        )
        for tau in (0.0, 0.5, 1.0)
    }
    head = find_probe("knn").fit(data, {"tau": [0.0, 0.5, 1.0]})
    assert head.chosen_options["tau"] == max(scores, key=scores.get)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k of a knn probe must be a whole number of at least 1, got 0"),
        ({"k": 2.5}, "k of a knn probe must be a whole number of at least 1, got 2.5"),
        ({"tau": -1}, "tau of a knn probe must be at least 0, got -1"),
        ({"tau": "x"}, "tau of a knn probe must be at least 0, got 'x'"),
        ({"n": 3}, "probe 'knn' has no option 'n'; it has k, tau"),
    ],
)
def test_knn_refuses(options, said, data):
    with pytest.raises(ConfigError, match=re.escape(said)):
        find_probe("knn").fit(data, options)


@pytest.mark.parametrize(("kappa", "tau"), [(40.0, 1.0), (3.0, 0.5), (20.0, 0.0)])
def test_density_is_the_mean_kernel_of_each_class(kappa, tau, data, test_rows):
    known, asked = (standardised(data, rows) for rows in (data.features, test_rows[0]))
    cosines = cosine_similarity(asked, known)
    expected = np.stack(
        [
            logsumexp(kappa * cosines[:, data.labels == c], axis=1)
            - np.log(size)
            + (1 - tau) * np.log(size / sum(COUNTS))
            for c, size in enumerate(COUNTS)
        ],
        axis=1,
    )
    found = fit_probe("density", data, {"kappa": kappa, "tau": tau})(test_rows[0])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_density_keeps_a_random_sample_of_a_large_class(data, monkeypatch):
    monkeypatch.setattr("tailora.heads.density.MOST", 30)
    head = find_probe("density").fit(data)
    (inner,) = (one for one in head.modules() if hasattr(one, "labels"))
    assert np.bincount(inner.labels).tolist() == [min(size, 30) for size in COUNTS]
    np.testing.assert_allclose(inner.shares, np.array(COUNTS) / sum(COUNTS), rtol=1e-6)


@pytest.mark.parametrize("options", [{"kappa": 0}, {"kappa": True}, {"tau": -1}, {"tau": "x"}])
def test_density_refuses(options, data):
    (name,) = options
    with pytest.raises(ConfigError, match=f"{name} of a density probe must be a number from"):
        find_probe("density").fit(data, options)


def test_the_own_head_is_the_one_that_was_trained_along(data):
    assert find_probe("own").fit(data) is data.own
    with pytest.raises(ConfigError, match="the linear head of an adapter's own training"):
        find_probe("own").fit(replace(data, own=None))


def test_cross_entropy_is_scikit_learns_logistic_regression(data, test_rows):
    one = ProbeData(**{**vars(data), "l2": (0.1,)})
    mine = torch.from_numpy(fit_probe("cross-entropy", one)(test_rows[0])).softmax(1).numpy()
    peer = LogisticRegression(C=1 / (0.1 * len(data.labels)), tol=1e-8, max_iter=5000)
    peer.fit(standardised(data, data.features), data.labels)
    theirs = peer.predict_proba(standardised(data, test_rows[0]))
    assert mine == pytest.approx(theirs, abs=2e-3)


def test_balanced_softmax_is_logit_adjustment_of_strength_one(fitted):
    one, other = fitted("balanced-softmax"), fitted("logit-adjusted")
    assert one == pytest.approx(other, abs=1e-4)


def test_logit_adjustment_of_strength_zero_is_cross_entropy(fitted, data, test_rows):
    adjusted = fit_probe("logit-adjusted", data, {"tau": 0.0})(test_rows[0])
    assert adjusted == pytest.approx(fitted("cross-entropy"), abs=1e-5)


@pytest.mark.parametrize("name", ["balanced-softmax", "logit-adjusted", "post-hoc"])
def test_adjusted_probes_beat_cross_entropy_on_the_tail(name, fitted, test_rows):
    def tail(probe):
        return f1_score(test_rows[1] == 2, fitted(probe).argmax(1) == 2)

    assert tail(name) > tail("cross-entropy")


def test_post_hoc_takes_the_log_prior_off(fitted):
    prior = np.array(COUNTS) / sum(COUNTS)
    expected = fitted("cross-entropy") - np.log(prior)
    assert fitted("post-hoc") == pytest.approx(expected, abs=1e-5)


def test_nearest_class_mean_is_scikit_learns(data, test_rows):
    peer = NearestCentroid().fit(standardised(data, data.features), data.labels)
    mine = fit_probe("ncm-un", data)(test_rows[0]).argmax(1)
    assert np.array_equal(mine, peer.predict(standardised(data, test_rows[0])))


def test_without_validation_tau_is_one_and_class_vectors_have_length_one(data):
    alone = ProbeData(
        **{**vars(data), "val_features": data.val_features[:0], "val_labels": data.val_labels[:0],
           "l2": (0.1,)}
    )  # fmt: skip
    logits = fit_probe("tau-normalised", alone)
    # logits are linear without bias in standardised rows: probe with the axes themselves
    mean, spread = data.features.mean(0, dtype=np.float64), data.features.std(0, dtype=np.float64)
    weights = logits((mean + np.eye(8) * spread).astype("f")).T
    assert np.linalg.norm(weights, axis=1) == pytest.approx(np.ones(3), abs=1e-2)
    assert logits(mean[None].astype("f")) == pytest.approx(np.zeros((1, 3)), abs=1e-2)


def test_tau_is_the_best_on_validation_and_not_on_training_rows(data):
    """Brute force, class vectors by scikit-learn: training rows would choose another."""
    one = replace(data, l2=(0.1,))
    rows, val = (standardised(data, x) for x in (data.features, data.val_features))
    peer = LogisticRegression(C=1 / (0.1 * len(data.labels)), tol=1e-8, max_iter=5000)
    weight = peer.fit(rows, data.labels).coef_
    lengths = np.linalg.norm(weight, axis=1, keepdims=True)
    taus = [step / 10 for step in range(21)]

    def best(x, labels):
        scores = [
            balanced_accuracy_score(labels, (x @ (weight / lengths**tau).T).argmax(axis=1))
            for tau in taus
        ]
        return taus[int(np.argmax(scores))]  # of equals the smallest

    logits = fit_probe("tau-normalised", one)
    mean, spread = data.features.mean(0, dtype=np.float64), data.features.std(0, dtype=np.float64)
    found = logits((mean + np.eye(8) * spread).astype("f")).T
    gaps = [np.abs(found - weight / lengths**tau).max() for tau in taus]
    assert taus[int(np.argmin(gaps))] == best(val, data.val_labels)
    assert best(rows, data.labels) != best(val, data.val_labels)


def test_lws_only_rescales_the_logits_of_cross_entropy(fitted):
    logits, plain = fitted("lws"), fitted("cross-entropy")
    for c in range(3):
        assert np.corrcoef(logits[:, c], plain[:, c])[0, 1] == pytest.approx(1, abs=1e-3)
    assert np.ptp([np.std(logits[:, c]) / np.std(plain[:, c]) for c in range(3)]) > 1e-3


def test_cosine_logits_do_not_know_the_length_of_a_feature(heads, data):
    fitted = as_logits(heads("cosine"))
    mean = data.features.mean(0, dtype=np.float64)
    row = data.features[:1] - mean
    assert fitted((mean + row).astype("f")) == pytest.approx(
        fitted((mean + 3 * row).astype("f")), abs=1e-2
    )
    assert np.abs(fitted(data.features)).max() <= 30.001


@pytest.mark.parametrize("scale", [30.0, 12.0])
def test_ldam_s_head_is_bounded_by_its_scale(scale, data):
    """Its margins are cosines; a linear head would grow past them."""
    found = fit_probe("ldam", data, {"scale": scale})(data.features)
    assert scale / 3 < np.abs(found).max() <= scale * 1.0001


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("logit-adjustd", {}, "did you mean 'logit-adjusted'"),
        ("crt", {"tau": 1}, "has no options"),
        ("logit-adjusted", {"tao": 1}, "no option 'tao'"),
        ("logit-adjusted", {"tau": -1}, "tau"),
    ],
)
def test_what_does_not_fit_is_refused(name, options, says, data):
    with pytest.raises(ConfigError, match=says):
        find_probe(name).check(options, data.counts)


def test_views_that_agree_leave_the_experts_mixed_evenly(fitted, data, test_rows):
    same = replace(data, views=(data.val_features, data.val_features))
    evenly = fitted("sade")
    assert np.allclose(fit_probe("sade-test-time", same)(test_rows[0]), evenly, atol=1e-4)


def test_the_mix_of_experts_is_the_most_stable_one(fitted, data, test_rows):
    scaler = partial(standardised, data)
    head = fit_experts(
        "sade", scaler(data.features).astype("f"), data.labels, data.counts, seed=data.seed
    )
    with torch.no_grad():
        rows, *views = (
            head.branches(torch.from_numpy(scaler(x).astype("f")))
            for x in (test_rows[0], *data.views)
        )
    found = fitted("sade-test-time")
    # three logits of a row give the three weights back
    weights = np.linalg.lstsq(
        rows.flatten(1).T.double().numpy(), found.ravel().astype(float), rcond=None
    )[0]
    assert weights.sum() == pytest.approx(1, abs=1e-3)
    evenly = torch.full((3,), 1 / 3)
    learnt = torch.from_numpy(weights).float()
    assert view_agreement(*views, learnt) > view_agreement(*views, evenly)


def test_a_probe_that_needs_views_says_so(data):
    with pytest.raises(ConfigError, match="needs two views"):
        fit_probe("sade-test-time", replace(data, views=None))


def test_a_head_of_class_names_is_taken_as_it_is(data, test_rows):
    head = fresh_linear(8, 3, seed=0)
    logits = fit_probe("clip-zero-shot", replace(data, text=lambda: head))(test_rows[0])
    with torch.no_grad():
        assert np.array_equal(logits, head(torch.from_numpy(test_rows[0])).numpy())
    with pytest.raises(ConfigError, match="text encoder"):
        fit_probe("clip-zero-shot", data)


# --- kept by a run ---


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in FITTED), ("ldam", {"scale": 12.0})]
)
def test_a_head_that_was_saved_gives_the_same_logits_to_the_bit(
    name, options, heads, data, test_rows, tmp_path
):
    head = find_probe(name).fit(data, options) if options else heads(name)
    save_head(head, tmp_path / "head.safetensors", HeadFacts(name, options, 8, 3))
    is_linear_layer = find_probe(name).is_linear or name == "own"
    assert (tmp_path / "head.json").exists() == (not is_linear_layer)
    state = torch.get_rng_state()
    loaded = load_head(tmp_path / "head.safetensors", classes=3, features=8)
    assert torch.equal(state, torch.get_rng_state())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for some in (1, 64, 600):
        rows = test_rows[0][:some]
        assert np.array_equal(as_logits(loaded)(rows), as_logits(head)(rows))


@pytest.mark.parametrize("name", FITTED)
def test_a_head_of_another_name_cannot_be_read(name, heads, tmp_path):
    """Its weights are of another shape, or its file is not there."""
    head = heads(name)
    other = "crt" if name in ("reslt", "lws") else "reslt"
    save_head(head, tmp_path / "head.safetensors", HeadFacts(name, {}, 8, 3))
    facts = {"name": other, "options": {}, "width": 8, "classes": 3}
    (tmp_path / "head.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match=r"head.safetensors' are damaged .*--force"):
        load_head(tmp_path / "head.safetensors")


def test_options_are_kept_with_their_defaults(data, tmp_path):
    """A later version may have others."""
    head = find_probe("ldam").fit(data, {"scale": 12.0})
    save_head(head, tmp_path / "head.safetensors", HeadFacts("ldam", {"scale": 12.0}, 8, 3))
    kept = json.loads((tmp_path / "head.json").read_text())["options"]
    known = inspect.signature(LDAMLoss).parameters
    assert kept == {name: known[name].default for name in kept} | {"scale": 12.0}
    assert "max_margin" in kept


def test_a_linear_head_takes_the_place_of_another(heads, tmp_path):
    for name in ("crt", "cross-entropy"):
        head = heads(name)
        save_head(head, tmp_path / "head.safetensors", HeadFacts(name, {}, 8, 3))
    assert [path.name for path in tmp_path.iterdir()] == ["head.safetensors"]
    assert type(load_head(tmp_path / "head.safetensors")) is nn.Linear


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged: name"),
        ('{"name": 3, "options": {}, "width": 8, "classes": 3}', "damaged: name"),
        ('{"name": "crt", "options": [], "width": 8, "classes": 3}', "damaged: options"),
        ('{"name": "crt", "options": {}, "width": 0, "classes": 3}', "damaged: width"),
        ('{"name": "crt", "options": {}, "width": 8.0, "classes": 3}', "damaged: width"),
        ('{"name": "crt", "options": {}, "width": 9, "classes": 3}', "3 classes by 9 features"),
        ('{"name": "crt", "options": {}, "width": 8, "classes": 4}', "4 classes by 8 features"),
        ('{"name": "crd", "options": {}, "width": 8, "classes": 3}', "did you mean 'crt'"),
        ('{"name": "crt", "options": {"tau": 1}, "width": 8, "classes": 3}', "no option 'tau'"),
        ('{"name": "ldam", "options": {"scale": -1}, "width": 8, "classes": 3}', "scale must be"),
        ('{"name": "ldam", "options": {"scale": "x"}, "width": 8, "classes": 3}', "head.json"),
    ],
)
def test_a_damaged_description_of_a_head_is_named(content, says, heads, tmp_path):
    save_head(heads("crt"), tmp_path / "head.safetensors", HeadFacts("crt", {}, 8, 3))
    (tmp_path / "head.json").write_text(content)
    with pytest.raises(RunError, match=re.escape(says)) as caught:
        load_head(tmp_path / "head.safetensors", classes=3, features=8)
    assert "head.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FITTED)
def test_a_head_is_exported_whole(name, heads, test_rows):
    """As one graph, its standardisation within."""
    head = heads(name).eval()
    rows = torch.from_numpy(test_rows[0][:64])
    program = torch.export.export(head, (rows,)).module()
    torch.testing.assert_close(program(rows), head(rows), atol=1e-5, rtol=1e-5)


# its rule for experts adds in logarithms, which the exporter by tracing does not know
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", [name for name in FITTED if name != "tlc"])
def test_onnx_says_what_the_head_says(name, heads, test_rows):
    head = heads(name).eval()
    rows, buffer = test_rows[0][:64], io.BytesIO()
    torch.onnx.export(
        head, (torch.from_numpy(rows),), buffer, dynamo=False, input_names=["features"]
    )
    evaluator = ReferenceEvaluator(onnx.load_from_string(buffer.getvalue()))
    [found] = evaluator.run(None, {"features": rows})
    assert found == pytest.approx(as_logits(head)(rows), rel=1e-4, abs=1e-4)


def test_of_several_values_of_an_option_the_best_on_validation_is_taken(data):
    taus = [0.0, 0.5, 1.0, 2.0]
    scores = []
    for tau in taus:
        logits = fit_probe("logit-adjusted", data, {"tau": tau})
        scores.append(macro_f1(data.val_labels, logits(data.val_features).argmax(axis=1)))
    assert max(scores) > min(scores)
    best = fit_probe("logit-adjusted", data, {"tau": taus[int(np.argmax(scores))]})
    chosen = fit_probe("logit-adjusted", data, {"tau": taus})
    np.testing.assert_array_equal(chosen(data.val_features), best(data.val_features))


def test_several_values_need_a_validation_split_and_none_is_no_value(data):
    alone = replace(
        data, val_features=data.val_features[:0], val_labels=data.val_labels[:0], l2=(1,)
    )
    with pytest.raises(ConfigError, match="no validation sample to choose by; give one value"):
        find_probe("logit-adjusted").fit(alone, {"tau": [0.5, 1.0]})
    with pytest.raises(ConfigError, match="must not be empty lists"):
        find_probe("logit-adjusted").check({"tau": []}, data.counts)
    with pytest.raises(ConfigError, match="tau"):
        find_probe("logit-adjusted").check({"tau": [1.0, "a"]}, data.counts)


def by_hand(data, rows):
    """The penalty by validation on some rows, then the head on all rows with it."""
    scores = {}
    for l2 in data.l2:
        one = replace(
            data, features=data.features[rows], labels=data.labels[rows], l2=(l2,), as_they_are=0
        )
        found = fit_probe("cross-entropy", one)(data.val_features).argmax(axis=1)
        scores[l2] = macro_f1(data.val_labels, found)
    best = max(scores.values())
    chosen = max(l2 for l2, score in scores.items() if score == best)  # of equals the strongest
    return fit_probe("cross-entropy", replace(data, l2=(chosen,), as_they_are=0))


def test_the_penalty_is_selected_on_images_as_they_are(data, test_rows):
    count = len(data.labels)
    turned = replace(
        data, features=np.concatenate([data.features, 0.5 * data.features]),
        labels=np.tile(data.labels, 2), as_they_are=count, l2=(1.0, 0.1, 0.01),
    )  # fmt: skip
    expected = by_hand(turned, np.arange(count))(test_rows[0])
    found = fit_probe("cross-entropy", turned)(test_rows[0])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_of_many_rows_some_are_drawn_to_select_the_penalty(data, test_rows, monkeypatch):
    monkeypatch.setattr("tailora.heads.loss_probe.MOST_TO_SELECT", 50)
    some = replace(data, l2=(1.0, 0.1, 0.01), seed=3)
    rows = np.sort(np.random.default_rng(3).choice(len(data.labels), 50, replace=False))
    found = fit_probe("cross-entropy", some)(test_rows[0])
    np.testing.assert_allclose(found, by_hand(some, rows)(test_rows[0]), rtol=1e-3, atol=1e-3)


def test_the_names_read_from_source_are_those_of_the_heads():
    assert set(registry.head_texts()) == set(probe_names())


def test_post_hoc_with_tau_is_norcal_without_a_background(data, test_rows):

    rows, _ = test_rows
    plain, shifted = (
        as_logits(find_probe("post-hoc").fit(data, {"tau": tau}))(rows) for tau in (0.0, 0.6)
    )
    weighed = np.exp(plain.astype(np.float64)) / data.counts.array() ** 0.6
    found = np.exp(shifted.astype(np.float64))
    np.testing.assert_allclose(
        found / found.sum(axis=1, keepdims=True),
        weighed / weighed.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-7,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="it has tau"):
        find_probe("post-hoc").check({"gamma": 1}, data.counts)
