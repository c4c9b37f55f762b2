"""Made long tails: sizes by hand, nothing else changed."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailora.data import Dataset, Imbalance, make_imbalanced, parse_imbalance
from tailora.data.imbalance import profile_counts, profile_shares
from tailora.errors import ConfigError, DataError
from tests.data.conftest import ArrayImages

SIZES = {
    # int(500 * 0.1^(c / 3)): 500, 232.07.., 107.7.., 50
    "exponential": (Imbalance("exponential", 10), 4, [500, 232, 107, 50]),
    "step": (Imbalance("step", 10), 4, [500, 500, 50, 50]),
    "step, a quarter small": (Imbalance("step", 10, minority=0.25), 4, [500, 500, 500, 50]),
    "step of two classes": (Imbalance("step", 10, minority=0.9), 2, [500, 50]),
    "linear": (Imbalance("linear", 10), 4, [500, 350, 200, 50]),
    "balanced": (Imbalance("linear", 1), 3, [500, 500, 500]),
}
WRONG = {
    "an unknown profile": ("exponental", "did you mean 'exponential'"),
    "an unknown option": ("step:ration=3", "did you mean 'ratio'"),
    "no number": ("step:ratio=many", "'many'"),
    "a ratio below one": ("step:ratio=0.5", "at least 1"),
    "no finite ratio": ("step:ratio=nan", "finite"),
    "a minority of everything": ("step:minority=1", "(0, 1)"),
    "a minority where it has no effect": ("linear:minority=0.5", "has no effect for 'linear'"),
}


@pytest.mark.parametrize("case", SIZES)
def test_sizes_follow_the_formula(case):
    wanted, classes, expected = SIZES[case]
    found = profile_counts(np.full(classes, 500), wanted)
    assert found.tolist() == expected


def test_larger_classes_stay_larger_and_none_is_asked_for_more_than_it_has():
    available = np.array([40, 1000, 90, 300])
    found = profile_counts(available, Imbalance("exponential", 8))
    # shares 1, 1/2, 1/4, 1/8 go to 1000, 300, 90, 40; n_max = min(1000, 600, 360, 320)
    assert found.tolist() == [40, 320, 80, 160]


@given(
    available=st.lists(st.integers(5, 2000), min_size=2, max_size=12),
    profile=st.sampled_from(["exponential", "step", "linear"]),
    ratio=st.floats(1, 5),
)
def test_profile_fits_into_what_there_is(available, profile, ratio):
    sizes = np.array(available)
    found = profile_counts(sizes, Imbalance(profile, ratio))
    assert (found <= sizes).all()
    order = np.argsort(-sizes, kind="stable")
    assert (np.diff(found[order]) <= 0).all()
    shares = profile_shares(Imbalance(profile, ratio), len(sizes))
    assert shares.max() / shares.min() == pytest.approx(ratio)
    # one more of the largest class could not be had
    assert ((found.max() + 1) * shares + 1e-6 > sizes[order]).any()


def test_a_ratio_that_empties_a_class_is_refused():
    with pytest.raises(DataError, match="lower the ratio"):
        profile_counts(np.array([50, 50]), Imbalance("step", 51))


@pytest.mark.parametrize("case", WRONG)
def test_bad_words_are_refused(case):
    text, message = WRONG[case]
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_imbalance(text)


def make(sizes, held_out=8):
    labels, splits = [], []
    for c, size in enumerate(sizes):
        for split, count in (("train", size), ("val", held_out), ("test", held_out)):
            labels += [c] * count
            splits += [split] * count
    images = [np.zeros((3, 2, 2), dtype=np.uint8)] * len(labels)
    names = tuple(f"class {c}" for c in range(len(sizes)))
    return Dataset("made", ArrayImages(images), np.array(labels), names, np.array(splits))


def test_training_and_validation_are_thinned_and_the_test_is_whole():
    whole = make([80, 40, 40])
    thin = make_imbalanced(whole, Imbalance("step", 4, minority=0.34), seed=3)
    # shares 1, 1, 1/4 for 80, 40, 40: n_max = min(80, 40, 160) = 40
    assert thin.counts("train").values == (40, 40, 10)
    assert thin.counts("val").values == (4, 8, 2)  # 8 times a half, 1 and a quarter
    assert thin.counts("test").values == whole.counts("test").values
    assert set(thin.ids()) <= set(whole.ids())
    assert len(set(thin.ids())) == len(thin)
    assert "90 of 160" in thin.notes[-1]
    labels = dict(zip(whole.ids(), whole.labels, strict=True))
    assert [labels[name] for name in thin.ids()] == thin.labels.tolist()


def test_the_seed_decides_which_samples_stay():
    whole, wanted = make([40, 40]), Imbalance("linear", 4)
    first, again, other = (make_imbalanced(whole, wanted, seed=s) for s in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_a_rare_class_keeps_a_validation_sample():
    thin = make_imbalanced(make([60, 60], held_out=2), Imbalance("step", 30))
    assert thin.counts("val").values == (2, 1)
