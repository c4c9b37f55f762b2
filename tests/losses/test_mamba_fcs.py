"""The loss of Mamba-FCS, term by term in numpy, from probabilities of transitions."""

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score, log_loss

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.losses.mamba_fcs import MambaFCSLoss
from tailora.losses.parts import noted_parts

NAMES = ("a → a", "b → b", "c → c", "a → b", "b → a", "a → c", "c → a")
BEFORE, AFTER = np.array([[name[0], name[-1]] for name in NAMES]).T
CHANGED = BEFORE != AFTER
COUNTS = ClassCounts(NAMES, (9, 8, 7, 3, 2, 2, 1))


def rows(count=40, *, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, len(NAMES))) * 2, rng.integers(len(NAMES), size=count)


def parts_of(logits, targets, **options):
    with noted_parts() as parts:
        total = MambaFCSLoss(COUNTS, **options)(torch.tensor(logits), torch.tensor(targets))
    assert sum(parts.values()).item() == pytest.approx(total.item())
    return {name: value.item() for name, value in parts.items()}


def test_cross_entropies_are_of_change_and_of_land_cover_where_it_changed():
    logits, targets = rows()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = parts_of(logits, targets)
    is_change, change = CHANGED[targets], p[:, CHANGED].sum(1)
    assert found["change"] == pytest.approx(log_loss(is_change, change))
    for date, cover in enumerate((BEFORE, AFTER), start=1):
        shares = np.stack([p[:, CHANGED & (cover == c)].sum(1) for c in "abc"], axis=1)
        shares /= shares.sum(1, keepdims=True)
        expected = log_loss(cover[targets][is_change], shares[is_change], labels=list("abc"))
        assert found[f"land cover {date}"] == pytest.approx(expected / 2)


def test_what_stays_is_to_have_one_land_cover_at_both_dates():
    logits, targets = rows()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    both = [np.stack([p[:, cover == c].sum(1) for c in "abc"], axis=1) for cover in (BEFORE, AFTER)]
    apart = ((both[0] - both[1]) ** 2).mean(1)[~CHANGED[targets]].mean()
    assert parts_of(logits, targets)["what stays"] == pytest.approx(apart / 20)


def test_overlap_of_sure_answers_is_what_iou_leaves():
    _, targets = rows(60)
    _, said = rows(60, seed=1)
    found = parts_of(np.eye(len(NAMES))[said] * 200.0, targets)
    ious = jaccard_score(CHANGED[targets], CHANGED[said], average=None)
    assert found["overlap of change"] == pytest.approx((1 - ious).mean() / 2, abs=1e-5)
    # rows that are said to stay have no land cover among changes: only those called changed count
    both = CHANGED[targets] & CHANGED[said]
    sure = parts_of(np.eye(len(NAMES))[said[both]] * 200.0, targets[both])
    for date, cover in enumerate((BEFORE, AFTER), start=1):
        true, told = cover[targets[both]], cover[said[both]]
        ious = jaccard_score(true, told, labels=sorted(set(true)), average=None)
        assert sure[f"overlap {date}"] == pytest.approx((1 - ious).mean() / 2, abs=1e-5)


def test_what_is_all_right_costs_nothing_and_swapped_dates_the_same():
    logits, targets = rows()
    sure = parts_of(np.eye(len(NAMES))[targets] * 200.0, targets)
    assert sum(sure.values()) == pytest.approx(0, abs=1e-4)
    inverse = [NAMES.index(f"{name[-1]} → {name[0]}") for name in NAMES]
    back = parts_of(logits[:, inverse], np.array(inverse)[targets])
    assert sum(back.values()) == pytest.approx(sum(parts_of(logits, targets).values()))


def test_rows_that_do_not_count_change_nothing_and_no_row_is_no_loss():
    logits, targets = rows()
    more = np.concatenate([logits, rows(5, seed=3)[0]])
    padded = np.concatenate([targets, [-1, -100, -1, -2, -1]])
    expected = sum(parts_of(logits, targets).values())
    assert sum(parts_of(more, padded).values()) == pytest.approx(expected)
    given = torch.tensor(logits, requires_grad=True)
    none = MambaFCSLoss(COUNTS)(given, torch.full((len(targets),), -1))
    none.backward()
    assert none.item() == 0
    assert given.grad.abs().sum() == 0
    nothing_changed = targets[~CHANGED[targets]]
    found = parts_of(logits[: len(nothing_changed)], nothing_changed)
    assert found["separated kappa"] == found["land cover 1"] == 0


@pytest.mark.parametrize(
    "names",
    [("a → a", "b → b", "c → c", "a → b", "b → a"), ("no change", "change")],
    ids=["a land cover that never changes", "change alone"],
)
def test_gradients_are_finite_for(names):
    loss = MambaFCSLoss(ClassCounts(names, (3,) * len(names)))
    given = torch.zeros(len(names), len(names), requires_grad=True)
    value = loss(given, torch.arange(len(names)))
    value.backward()
    assert value.isfinite()
    assert given.grad.isfinite().all()
    assert given.grad.abs().sum() > 0


def test_gradients_are_those_of_finite_differences():
    logits, targets = rows(12)
    loss = MambaFCSLoss(COUNTS).double()
    given = torch.tensor(logits, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, torch.tensor(targets)), given)


def test_the_released_mode_is_that_of_the_released_code():
    logits, targets = rows()
    logits = logits + 3 * np.eye(len(NAMES))[targets]  # a kappa below 0 is NaN as released
    fixed, released = (parts_of(logits, targets, mode=mode) for mode in ("fixed", "released"))
    assert fixed["separated kappa"] != pytest.approx(released["separated kappa"])
    assert fixed["change"] == released["change"]


def test_what_cannot_be_a_loss_of_changes_is_refused():
    with pytest.raises(ConfigError, match=r"unknown mode of SeK 'fix'.*'fixed'"):
        MambaFCSLoss(COUNTS, mode="fix")
    with pytest.raises(DataError, match="no transition"):
        MambaFCSLoss(ClassCounts(("forest", "mine"), (3, 2)))
