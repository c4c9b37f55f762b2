"""Trials on disk: seeded by their number, gone on with after a kill, none repeated."""

import sys

import pytest

from tailora.errors import ConfigError
from tailora.experiments.tuning_space import Choices, Range
from tailora.experiments.tuning_study import Study, Trial, import_optuna

optuna = pytest.importorskip("optuna")

SPACE = (Range("x", 0.0, 1.0), Range("k", 2, 64, log=True), Choices("m", ("a", "b")))
OWN = {"x": "adaptive", "k": 8, "m": "a"}


def value(values):
    """Best at x = 0.7."""
    return 1 - (values["x"] - 0.7) ** 2


def go_on(folder, trials, *, seed=0, space=SPACE, own=OWN):
    """Do trials up to a number, and give all."""
    study = Study(folder, "row", space, seed)
    for number in range(len(study.trials()), trials):
        values = study.propose(own) if number else {}
        if values is None:
            break
        found = value(values) if "x" in values else 0.5
        study.add(Trial(number, values, found, {"all": found}, 1.5), own)
    return study.trials()


def test_values_lie_in_the_space(tmp_path):
    for trial in go_on(tmp_path, 15)[1:]:
        assert 0 <= trial.values["x"] <= 1
        assert trial.values["k"] in range(2, 65)
        assert trial.values["m"] in ("a", "b")
        assert trial.values["x"] == float(f"{trial.values['x']:.4g}")


def test_a_study_that_broke_off_goes_on_as_if_it_had_not(tmp_path):
    whole = go_on(tmp_path / "whole", 14)
    for trials in (1, 5, 12, 14):
        found = go_on(tmp_path / "parts", trials)
    assert found == whole
    assert [trial.number for trial in whole] == list(range(14))


def test_another_seed_tries_other_values(tmp_path):
    one, two = (go_on(tmp_path / str(seed), 4, seed=seed) for seed in (0, 1))
    assert [t.values for t in one[1:]] != [t.values for t in two[1:]]


def test_it_learns_where_the_best_values_lie(tmp_path):
    found = go_on(tmp_path, 40, space=(Range("x", 0.0, 1.0),), own={"x": 0.1})
    late = [abs(trial.values["x"] - 0.7) for trial in found[25:]]
    assert sum(late) / len(late) < 0.15  # of random ones: 0.29


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
    whole = go_on(tmp_path, 6)
    log = tmp_path / "study.log"
    for cut in (1, 30):
        log.write_bytes(log.read_bytes()[:-cut])
        found = go_on(tmp_path, 6)
        assert found == whole


def test_nothing_is_tried_twice_and_a_small_space_is_used_up(tmp_path):
    space, own = (Range("k", 2, 4), Choices("m", ("a", "b"))), {"k": 3, "m": "b"}
    found = go_on(tmp_path, 20, space=space, own=own)
    tried = [{**own, **trial.values} for trial in found]
    assert len(found) == 6
    assert all(tried.count(values) == 1 for values in tried)


def test_values_that_could_not_be_tried_are_kept_with_the_reason(tmp_path):
    study = Study(tmp_path, "row", SPACE, 0)
    study.add(Trial(0, {}, 0.5, {"all": 0.5}, 1.0), OWN)
    values = study.propose(OWN)
    study.add(Trial(1, values, None, {}, 0.1, "too many clusters"), OWN)
    assert study.trials()[1] == Trial(1, values, None, {}, 0.1, "too many clusters")
    assert study.propose(OWN) != values


def test_optunas_own_tools_read_the_study(tmp_path):
    go_on(tmp_path, 3)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log"))
    storage = optuna.storages.JournalStorage(backend)
    study = optuna.load_study(study_name="row", storage=storage)
    assert len(study.trials) == 3
    assert study.best_value == max(trial.value for trial in go_on(tmp_path, 3))


def test_without_optuna_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.setitem(sys.modules, "optuna.storages.journal", None)
    with pytest.raises(ConfigError, match=r'pip install "tailora\[tune\]"'):
        import_optuna()
