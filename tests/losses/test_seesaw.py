"""Seesaw loss, against values that were checked by hand."""

import numpy as np
import pytest
import torch

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.losses import CrossEntropyLoss, SeesawLoss

COUNTS = ClassCounts(("a", "b", "c"), (1000, 100, 10))
LOGITS = torch.tensor([[2.0, 1.0, 0.0]])


@pytest.mark.parametrize(("target", "value"), [(0, 0.059876), (1, 3.051349), (2, 6.050946)])
def test_values_are_those_computed_by_hand(target, value):
    assert SeesawLoss(COUNTS)(LOGITS, torch.tensor([target])).item() == pytest.approx(
        value, abs=1e-5
    )


def test_factors_are_those_of_the_paper():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(8, 3)) * 2, rng.integers(0, 3, 8)
    n, expected = np.array(COUNTS.values), []
    for row, i in zip(logits, targets, strict=True):
        s = np.exp(row) / np.exp(row).sum()
        factor = np.minimum(1, (n / n[i]) ** 0.5) * np.maximum(1, (s / s[i]) ** 1.5)
        expected.append(np.log((factor * np.exp(row)).sum() / np.exp(row[i])))
    loss = SeesawLoss(COUNTS, mitigation=0.5, compensation=1.5)
    found = loss(torch.from_numpy(logits), torch.from_numpy(targets))
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_without_factors_it_is_cross_entropy_and_factors_have_no_gradient():
    plain = SeesawLoss(COUNTS, mitigation=0, compensation=0)
    targets = torch.tensor([2])
    assert torch.equal(plain(LOGITS, targets), CrossEntropyLoss(COUNTS)(LOGITS, targets))
    logits = LOGITS.clone().requires_grad_()
    SeesawLoss(COUNTS)(logits, targets).backward()
    factor = torch.tensor([np.exp(2) ** 2, np.exp(1) ** 2, 1.0])
    weighted = factor * LOGITS[0].exp()
    expected = weighted / weighted.sum() - torch.tensor([0.0, 0, 1])
    torch.testing.assert_close(logits.grad[0], expected.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("options", [{"mitigation": -1}, {"compensation": float("nan")}])
def test_exponents_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match="must be finite and at least 0"):
        SeesawLoss(COUNTS, **options)


def test_a_class_without_samples_is_refused():
    with pytest.raises(DataError, match="seesaw"):
        SeesawLoss(ClassCounts(("a", "b"), (3, 0)))
