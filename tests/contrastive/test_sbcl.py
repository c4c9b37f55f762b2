import math

import pytest
import torch
from torch.nn import functional

from tailora.contrastive import SBCLLoss, SupConLoss
from tailora.errors import ConfigError, DataError

FEATURES = functional.normalize(
    torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0)), dim=2
)
TARGETS = [0, 0, 0, 1, 1]
PARTS = [0, 1, 0, 2, 2]
WARMTH = [0.2, 0.1]


def by_loops(second):
    rows = FEATURES.flatten(0, 1).tolist()
    y, part, image = (
        [v for v in values for _ in range(2)] for values in (TARGETS, PARTS, range(5))
    )
    dot = [[sum(a * b for a, b in zip(p, q, strict=True)) for q in rows] for p in rows]
    everyone = range(len(rows))
    total = 0.0
    for i in everyone:
        first = [p for p in everyone if p != i and part[p] == part[i]]
        below = sum(math.exp(dot[i][a] / 0.1) for a in everyone if a != i)
        l1 = -sum(dot[i][p] / 0.1 - math.log(below) for p in first) / len(first)
        tau = WARMTH[y[i]]
        twin = [a for a in everyone if a != i and image[a] == image[i]]
        kin = [p for p in everyone if y[p] == y[i] and part[p] != part[i]] + twin
        rivals = [a for a in everyone if part[a] != part[i]] + twin
        below = sum(math.exp(dot[i][a] / tau) for a in rivals)
        l2 = -sum(dot[i][p] / tau - math.log(below) for p in kin) / len(kin)
        total += 0.1 / 0.07 * l1 + second * l2
    return total / len(rows)


@pytest.mark.parametrize("second", [0.0, 0.25, 2.0])
def test_agrees_with_the_paper_term_by_term(second):
    value = SBCLLoss(second=second)(
        FEATURES, torch.tensor(TARGETS), torch.tensor(PARTS), torch.tensor(WARMTH)
    )
    assert value.item() == pytest.approx(by_loops(second), rel=1e-5)


def test_with_one_subclass_a_class_the_first_level_is_supcon():
    targets = torch.tensor(TARGETS)
    value = SBCLLoss(base_temperature=0.1, second=0.0)(FEATURES, targets, targets)
    assert value.item() == pytest.approx(SupConLoss()(FEATURES, targets).item(), rel=1e-6)


def test_without_temperatures_all_classes_have_the_first_levels():
    targets, parts = torch.tensor(TARGETS), torch.tensor(PARTS)
    loss = SBCLLoss(temperature=0.3)
    same = loss(FEATURES, targets, parts, torch.tensor([0.3, 0.3]))
    assert loss(FEATURES, targets, parts).item() == pytest.approx(same.item(), rel=1e-6)


def test_what_cannot_be_is_refused():
    targets = torch.tensor(TARGETS)
    with pytest.raises(DataError, match="two views"):
        SBCLLoss()(FEATURES[:, :1], targets, targets)
    with pytest.raises(ConfigError, match="base_temperature must be"):
        SBCLLoss(base_temperature=0.0)
    with pytest.raises(ConfigError, match="second must be finite and at least 0"):
        SBCLLoss(second=-1.0)
