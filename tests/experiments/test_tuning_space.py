"""What `--tune` reads, and what it refuses before anything is trained."""

import numpy as np
import pytest

from tailora.errors import ConfigError
from tailora.experiments.tuning_space import Choices, Range, Tuning, parse_tune, space_key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("deblora.pull=0..1", Range("deblora.pull", 0.0, 1.0)),
        ("deblora.clusters=8..64", Range("deblora.clusters", 8, 64)),
        ("deblora.clusters = 8 .. 64 , log", Range("deblora.clusters", 8, 64, log=True)),
        ("train.lr=1e-4..1e-2,log", Range("train.lr", 1e-4, 1e-2, log=True)),
        ("train.weight_decay=0..0.1", Range("train.weight_decay", 0.0, 0.1)),
        ("deblora.move=shrink,shift", Choices("deblora.move", ("shrink", "shift"))),
        ("deblora.pull=adaptive,0.5", Choices("deblora.pull", ("adaptive", 0.5))),
        ("deblora.clusters=8,16,8", Choices("deblora.clusters", (8, 16))),
        ("deblora.standardize=true,false", Choices("deblora.standardize", (True, False))),
        ("backbone.name=../a,../b", Choices("backbone.name", ("../a", "../b"))),
    ],
)
def test_a_space_is_read(text, expected):
    found = parse_tune(text)
    assert found == expected
    assert [type(value) for value in found.ends] == [type(value) for value in expected.ends]
    assert parse_tune(f"{found.key}={found.text()}") == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("deblora.pul=0..1", "did you mean 'deblora.pull'"),
        ("deblora.pull", "key=low..high"),
        ("deblora.pull=", "key=low..high"),
        ("deblora.pull=0.5", "one value to choose from"),
        ("deblora.pull=1..0", "empty range"),
        ("deblora.pull=0.5..0.5", "empty range"),
        ("deblora.pull=0..", "numbers at both ends"),
        ("deblora.pull=..1", "numbers at both ends"),
        ("deblora.pull=low..high", "numbers at both ends"),
        ("deblora.pull=0..inf", "numbers at both ends"),
        ("deblora.clusters=2.5..8", "must be int"),
        ("deblora.clusters=two..8", "must be int"),
        ("deblora.standardize=false..true", "numbers at both ends"),
        ("train.lr=0..1e-2,log", "lower end above 0"),
        ("train.lr=1e-4..1e-2,lg", "did you mean 'log'"),
        ("deblora.clusters=8,many", "must be int"),
        ("probe.l2=0.1,0.2", "must be list"),
    ],
)
def test_another_space_is_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        parse_tune(text)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"space": ()}, "nothing to tune"),
        ({"space": (Range("a", 0, 1), Choices("a", (1, 2)))}, "a is tuned twice"),
        ({"by": "tial"}, "did you mean 'tail'"),
        ({"trials": 1}, "at least 2"),
    ],
)
def test_another_tuning_is_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        Tuning(**{"space": (Range("a", 0, 1),), **changes})


@pytest.mark.parametrize("by", ["all", "head", "tail", "groups"])
def test_a_trial_is_judged_by_what_was_asked_for(by):
    scores = {"all": 0.5, "head": 0.9, "middle": 0.6, "tail": 0.3}
    expected = np.mean([0.9, 0.6, 0.3]) if by == "groups" else scores[by]
    assert Tuning((Range("a", 0, 1),), by=by).value(scores) == pytest.approx(expected)


def test_a_group_without_validation_samples_is_left_out_of_the_mean():
    tuning = Tuning((Range("a", 0, 1),), by="groups")
    assert tuning.value({"all": 0.5, "head": 0.9, "middle": None, "tail": 0.3}) == 0.6
    assert tuning.value({}) is None


def test_a_chosen_number_is_short_and_inside():
    assert Range("a", 0.0, 1.0).short(0.99999) == 1.0
    assert Range("a", 0.0, 0.33336).short(0.33336) == 0.33336
    assert Range("a", 1e-5, 1e-2, log=True).short(0.000123456) == 0.0001235
    assert Range("a", 1, 9).short(7) == 7


def test_a_study_is_named_after_all_that_it_depends_on():
    one, two = Range("a", 0, 1), Choices("b", (1, 2))
    assert space_key([one, two], ["data"]) == space_key([two, one], ["data"])
    others = [space_key([one], ["data"]), space_key([one, two], ["other"])]
    assert space_key([one, two], ["data"]) not in others
