import math

import pytest
import torch

from tailora.errors import ConfigError
from tailora.heads import tau_normalise
from tailora.heads.tau_normalisation import TAUS, choose_tau

WEIGHT = [[6.0, 8.0], [0.3, -0.4], [0.0, 0.0]]


@pytest.mark.parametrize("tau", [0.0, 0.7, 1.0, 2.0])
def test_agrees_with_the_paper_term_by_term(tau):
    expected = []
    for row in WEIGHT[:2]:
        length = math.sqrt(sum(w * w for w in row))
        expected.append([w / length**tau for w in row])
    result = tau_normalise(torch.tensor(WEIGHT), tau=tau)
    assert result[:2].tolist() == [pytest.approx(row, rel=1e-5) for row in expected]
    assert result[2].tolist() == [0, 0]


def test_tau_zero_keeps_the_weights_and_tau_one_gives_length_one():
    weight = torch.tensor(WEIGHT)
    assert torch.equal(tau_normalise(weight, tau=0.0), weight)
    assert tau_normalise(weight)[:2].norm(dim=1).tolist() == pytest.approx([1, 1])


def test_the_paper_tries_zero_to_two_in_tenths():
    assert TAUS[0] == 0
    assert TAUS[7] == 0.7
    assert TAUS[-1] == 2
    assert len(TAUS) == 21


def test_chooses_the_tau_with_the_best_balanced_accuracy():
    """The long vector of the large class wins a tail row until tau passes log 2 / log 4 = .5."""
    weight = torch.tensor([[4.0, 0.0], [0.0, 1.0]])
    features = torch.tensor([[1.0, 0.0]] * 99 + [[1.0, 2.0]])
    labels = torch.tensor([0] * 99 + [1])
    assert choose_tau(weight, features, labels) == pytest.approx(0.6)


def test_accuracy_of_many_head_rows_does_not_outweigh_the_tail():
    """Above .5 ninety tail-like head rows are lost, but all the tail is won."""
    weight = torch.tensor([[4.0, 0.0], [0.0, 1.0]])
    features = torch.tensor([[1.0, 0.0]] * 60 + [[1.0, 2.1]] * 40 + [[1.0, 2.0]] * 2)
    labels = torch.tensor([0] * 100 + [1] * 2)
    assert choose_tau(weight, features, labels, taus=[0.0, 1.0]) == 1.0


def test_of_equal_taus_the_smallest_is_chosen_and_absent_classes_do_not_count():
    features, labels = torch.eye(2).numpy(), torch.tensor([0, 1]).numpy()
    assert choose_tau(torch.eye(3, 2), features, labels, taus=[0.9, 0.3, 0.5]) == 0.3


@pytest.mark.parametrize("tau", [-0.1, math.inf, math.nan])
def test_tau_out_of_range_is_refused(tau):
    with pytest.raises(ConfigError, match="tau must be finite and at least 0"):
        tau_normalise(torch.eye(2), tau=tau)


def test_no_taus_are_refused():
    with pytest.raises(ConfigError, match="taus is empty"):
        choose_tau(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), taus=[])
