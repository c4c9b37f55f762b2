"""The loss of the separated kappa against published values, and those computed by hand."""

import math

import pytest
import torch
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.separated_kappa import SekLoss, separated_kappa_loss

SHARES = torch.tensor(
    [[0.1, 0.7, 0.1, 0.1], [0.1, 0.2, 0.6, 0.1], [0.05, 0.8, 0.1, 0.05], [0.1, 0.1, 0.1, 0.7]],
    dtype=torch.float64,
)
CLASSES = ("a → a", "b → b", "a → b", "b → a", "a → c", "c → a")


def both_dates(truth):
    return SHARES.expand(2, -1, -1), functional.one_hot(torch.tensor(truth), 4).double().expand(
        2, -1, -1
    )


@pytest.mark.parametrize(
    ("truth", "floored", "released"),
    [
        ([1, 2, 1, 3], 1.452868, 0.0),
        ([1, 2, 1, 2], 2.133876, 7.857723),
        ([2, 1, 3, 1], 16.719379, math.nan),
    ],
)
def test_values_are_those_computed_from_the_formula(truth, floored, released):
    assert separated_kappa_loss(*both_dates(truth), mode="floored").item() == pytest.approx(
        floored, abs=3e-5
    )
    single = [part.float() for part in both_dates(truth)]  # 1 + 1e-7 is rounded there
    found = separated_kappa_loss(*single, mode="released").item()
    assert found == pytest.approx(released, abs=3e-5, nan_ok=True)


def test_the_smooth_floor_only_matters_near_no_agreement():
    for truth, close in (([1, 2, 1, 3], True), ([2, 1, 3, 1], False)):
        shares, target = both_dates(truth)
        shares = shares.clone().requires_grad_()
        smooth = separated_kappa_loss(shares, target)
        smooth.backward()
        hard = separated_kappa_loss(shares.detach(), target, mode="floored")
        assert (abs(smooth.item() - hard.item()) < 1e-5) == close
        assert shares.grad.abs().sum() > 0.1  # also where the hard floor has none


def test_what_is_all_right_has_no_loss_and_rows_that_did_not_change_none():
    truth = functional.one_hot(torch.tensor([1, 2, 3, 0]), 4).double().expand(2, -1, -1).clone()
    truth[:, 3] = 0
    sure = truth.clone()
    sure[:, 3] = 0.25  # whatever is said of a row that did not change
    assert separated_kappa_loss(sure, truth).item() == pytest.approx(0, abs=1e-9)
    shares = sure.clone().requires_grad_()
    none = separated_kappa_loss(shares, 0 * truth)
    none.backward()
    assert none.item() == 0
    assert torch.isfinite(shares.grad).all()


def test_land_cover_of_transitions_adds_up_and_others_are_none():
    """Shares of the land cover at both dates by hand."""
    counts = ClassCounts(CLASSES, (4, 4, 2, 2, 1, 1))
    logits = torch.randn((5, 6), generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([2, 3, 4, 0, -1])
    p = logits[:3].softmax(dim=1)
    none, zero = p[:, 0] + p[:, 1], torch.zeros(3)
    before = torch.stack([none, p[:, 2] + p[:, 4], p[:, 3], p[:, 5]], dim=1)
    after = torch.stack([none, p[:, 3] + p[:, 5], p[:, 2], p[:, 4]], dim=1)
    assert (before.sum(dim=1) - 1 + zero).abs().max() < 1e-6
    truth = [functional.one_hot(torch.tensor(c), 4).float() for c in ([1, 2, 1], [2, 1, 3])]
    expected = functional.cross_entropy(logits[:4], targets[:4]) + 0.25 * separated_kappa_loss(
        torch.stack([before, after]), torch.stack(truth)
    )
    assert SekLoss(counts, weight=0.25)(logits, targets).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("options", "says"),
    [({"weight": 0.0}, "above 0, got 0.0"), ({"mode": "fix"}, "did you mean 'fixed'")],
)
def test_wrong_options_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        SekLoss(ClassCounts(CLASSES, (1,) * 6), **options)
