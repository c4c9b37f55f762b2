import numpy as np
import pytest

from tailora.experiments.record import row_measures


def entry(level, **changes):
    scopes = ("all", "head", "middle", "tail")
    return {
        "worst_class_recall": level,
        "g_mean": level / 2,
        "accuracy_disparity": None,
        "shots": {"all": level, "many": level, "medium": None, "few": level},
        "ranking": {s: {"auroc": level, "auprc": level, "prevalence": 0.1} for s in scopes},
        "priors": {"uniform": {"accuracy": level, "macro_f1": level, "effective_rows": 9}},
        "scaling": {"none": {"ece": {}, "nll": dict.fromkeys(scopes, level)}},
        "coverage": {
            "by_group": dict.fromkeys(scopes, level),
            "size_by_group": dict.fromkeys(scopes, 10 * level),
        },
    } | changes


def test_means_and_deviations_are_over_seeds():
    levels = [0.2, 0.4, 0.9]
    found = row_measures([entry(level) for level in levels])
    wanted = {
        "mean": pytest.approx(np.mean(levels)),
        "deviation": pytest.approx(np.std(levels, ddof=1)),
    }
    assert found["worst_class_recall"] == wanted
    assert found["shots"]["few"] == wanted
    assert found["auroc"]["tail"] == found["auprc"]["all"] == wanted
    assert found["priors"]["uniform"]["macro_f1"] == found["nll"]["tail"] == wanted
    assert found["coverage"]["tail"] == wanted
    assert found["set_size"]["tail"]["mean"] == pytest.approx(5.0)


@pytest.mark.parametrize("name", ["accuracy_disparity", "relative_accuracy"])
def test_what_no_seed_has_is_null_and_not_zero(name):
    found = row_measures([entry(0.2), entry(0.4)])
    assert found[name] == found["shots"]["medium"] == {"mean": None, "deviation": None}


def test_one_seed_has_no_deviation():
    assert row_measures([entry(0.2)])["g_mean"] == {"mean": 0.1, "deviation": None}


def test_without_validation_there_is_no_coverage():
    found = row_measures([entry(0.2, coverage=None, scaling=None)])
    assert found["coverage"]["all"]["mean"] is found["nll"]["all"]["mean"] is None


def test_a_seed_of_an_earlier_version_leaves_the_row_blank():
    old = {"method": "lora", "macro_f1": {"all": 0.5}}
    assert row_measures([entry(0.2), old]) is None
