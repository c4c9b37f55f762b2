"""What a recipe says of objects, and which of them it writes as names."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from tailora import registry
from tailora.counts import ClassCounts
from tailora.errors import RunError
from tailora.heads.linear_probe import zero_linear
from tailora.losses import FocalLoss, LDAMLoss
from tailora.objects import as_given, describe, given_again, same
from tailora.samplers import OversamplingSampler

COUNTS = ClassCounts(("a", "b", "c"), (9, 4, 2))
FACTS = {"counts": COUNTS}


class Mine(nn.Module):
    def __init__(self, counts, *, strength=1.0):
        super().__init__()
        self.strength = strength
        self.secret = [1, 2]
        self.register_buffer("prior", torch.from_numpy(counts.prior()))


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", {})


# --- what is said ---


def test_an_object_is_described_by_its_values_and_a_hash_of_its_tensors():
    told = describe(Mine(COUNTS, strength=2.5))
    values = torch.from_numpy(COUNTS.prior())
    expected = hashlib.sha256(b"prior torch.float64 (3,) " + values.numpy().tobytes()).hexdigest()
    assert told == {
        "repr": "Mine()", "values": {"strength": 2.5}, "state": f"sha256:{expected}",
    }  # fmt: skip


def test_addresses_and_lines_are_left_out_and_long_texts_are_cut():
    class Plain:
        def __init__(self):
            self.rows, self.odd, self._own = np.arange(3), object(), 3

    told = describe(Plain())
    assert told["repr"].endswith("Plain object>")
    assert "values" not in told
    other = Plain()
    other.rows = np.array([0, 1, 3])
    assert describe(other)["state"] != told["state"]
    long = describe(nn.Sequential(*[zero_linear(1, 1) for _ in range(9)]))
    assert len(long["repr"]) == 200
    assert "\n" not in long["repr"]


# --- names ---


@pytest.mark.parametrize(
    ("loss", "name", "options"),
    [
        (LDAMLoss(COUNTS), "ldam", {}),
        (LDAMLoss(COUNTS, scale=12.0), "ldam", {"scale": 12.0}),
        (FocalLoss(COUNTS, gamma=1.5), "focal", {"gamma": 1.5}),
    ],
)
def test_an_object_that_a_name_gives_is_written_as_the_name(loss, name, options):
    given = as_given("losses", loss, facts=FACTS)
    assert (given.name, given.options, given.lent) == (name, options, {})
    twin = registry.build(registry.find("losses", given.name), FACTS, given.options)
    assert describe(twin) == describe(loss)


def test_one_that_no_name_gives_is_written_as_an_object():
    spoilt = LDAMLoss(COUNTS)
    spoilt.margins[0] += 1e-3
    for loss in (spoilt, LDAMLoss(ClassCounts(COUNTS.names, (9, 4, 3))), nn.CrossEntropyLoss()):
        given = as_given("losses", loss, facts=FACTS)
        assert given.name == f"object:{type(loss).__module__}.{type(loss).__qualname__}"
        assert given.options == describe(loss)


def test_a_registered_class_counts_and_what_it_hides_makes_it_an_object():
    registry.register("losses", "mine", Mine)
    loss = Mine(COUNTS, strength=3.0)
    assert as_given("losses", loss, facts=FACTS).name == "mine"
    assert as_given("losses", loss, facts=FACTS).options == {"strength": 3.0}
    loss.secret = [1, 3]
    assert as_given("losses", loss, facts=FACTS).name.startswith("object:")


def test_a_seed_of_the_run_is_no_option_of_a_sampler():
    labels = np.array([0, 0, 0, 1, 1, 2])
    facts, usual = {"labels": labels}, {"seed": 4}
    given = as_given("samplers", OversamplingSampler(labels, seed=4), facts=facts, usual=usual)
    assert (given.name, given.options) == ("oversampling", {})
    given = as_given("samplers", OversamplingSampler(labels, seed=5), facts=facts, usual=usual)
    assert (given.name, given.options) == ("oversampling", {"seed": 5})


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": [1, (2.0, "x")]}, {"a": [1, (2.0, "x")]}, True),
        ({"a": [1]}, {"a": [True]}, False),
        ([1, 2], [1], False),
        (np.arange(3), np.arange(3), True),
        (np.arange(3), np.arange(1, 4), False),
        (torch.ones(2), torch.ones(3), False),
        (COUNTS, ClassCounts(("a", "b", "c"), (9, 4, 2)), True),
        (COUNTS, ClassCounts(("a", "b", "c"), (9, 4, 1)), False),
        (lambda: 1, lambda: 1, False),
        (zero_linear(1, 2), zero_linear(1, 2), True),
        (zero_linear(1, 2), zero_linear(2, 1), False),
    ],
)
def test_what_is_the_same(one, other, expected):
    assert same(one, other) is expected


def test_what_goes_round_in_circles_is_not_certain():
    one, other = Mine(COUNTS), Mine(COUNTS)
    one.secret, other.secret = [one], [other]
    assert not same(one, other)


# --- names that stand for objects ---


def test_a_name_stands_for_copies_of_the_object_within_and_for_nothing_afterwards():
    loss = Mine(COUNTS)
    given = as_given("losses", loss)
    with registry.lent(given.lent):
        made = registry.build(registry.find("losses", given.name), FACTS, given.options)
        assert made is not loss
        assert describe(made) == describe(loss)
    assert given.name not in registry.names("losses")
    with pytest.raises(registry.ConfigError, match=r"as loss=\.\.\., to tailora\.fit"):
        registry.find("losses", given.name)


def test_another_object_than_a_run_was_fitted_with_is_refused():
    given = as_given("losses", Mine(COUNTS))
    again = as_given("losses", Mine(COUNTS))
    assert given_again("losses", given.name, given.options, again) is again
    other = as_given("losses", Mine(COUNTS, strength=2.0))
    with pytest.raises(RunError, match=r"Mine \(its values or weights differ\): give that one"):
        given_again("losses", given.name, given.options, other)
    other = as_given("losses", nn.CrossEntropyLoss())
    with pytest.raises(RunError, match=r"Mine \(got torch\.nn\.modules\.loss\.CrossEntropyLoss\)"):
        given_again("losses", given.name, given.options, other)
    with pytest.raises(RunError, match="the run has loss 'focal', which is found by its name"):
        given_again("losses", "focal", {}, given)
