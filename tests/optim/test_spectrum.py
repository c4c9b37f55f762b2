import math

import pytest
import torch

from tailora.errors import ConfigError, DataError
from tailora.optim.spectrum import spectrum


def rotated(values, rows=6, columns=4):
    """A matrix with these singular values and random vectors."""
    generator = torch.Generator().manual_seed(0)
    u = torch.linalg.qr(torch.randn(rows, rows, generator=generator).double())[0]
    v = torch.linalg.qr(torch.randn(columns, columns, generator=generator).double())[0]
    middle = torch.zeros(rows, columns).double()
    middle.diagonal().copy_(torch.tensor(values).double())
    return u @ middle @ v


def test_by_hand():
    energies = [4 / 10, 3 / 10, 2 / 10, 1 / 10]
    values = [math.sqrt(q) for q in energies]
    shares = [s / sum(values) for s in values]
    result = spectrum(rotated(values), top=2)
    entropy = -sum(q * math.log(q) for q in energies)
    assert result.entropy == pytest.approx(entropy / math.log(4))
    assert result.effective_rank == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))
    assert result.top_energy == pytest.approx(0.7)
    assert result.quartile_ratio == pytest.approx(0.325 / 0.175)


def test_effective_rank_is_of_singular_values_not_of_their_squares():
    """Values 2 and 1: shares 2/3 and 1/3 give 1.890; squares, 4/5 and 1/5, would give 1.649."""
    assert spectrum(torch.diag(torch.tensor([2.0, 1.0]))).effective_rank == pytest.approx(
        1.890, abs=1e-3
    )


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_a_scaled_rotation_uses_all_directions_alike(size):
    result = spectrum(size * rotated([1.0] * 4), top=1)
    assert result.entropy == pytest.approx(1)
    assert result.effective_rank == pytest.approx(4)
    assert result.top_energy == pytest.approx(0.25)
    assert result.quartile_ratio == pytest.approx(1)


def test_one_direction():
    result = spectrum(torch.ones(3, 5))
    assert result.entropy == pytest.approx(0, abs=1e-9)
    assert result.effective_rank == pytest.approx(1)
    assert result.top_energy == pytest.approx(1)
    assert spectrum(torch.diag(torch.tensor([1.0, 0, 0, 0]))).quartile_ratio == math.inf
    assert spectrum(torch.ones(1, 5)).entropy == 1


def test_what_has_no_spectrum_is_refused():
    with pytest.raises(DataError, match="zero matrix"):
        spectrum(torch.zeros(2, 2))
    with pytest.raises(DataError, match="finite numbers"):
        spectrum(torch.full((2, 2), torch.nan))
    with pytest.raises(DataError, match="finite numbers"):
        spectrum(torch.ones(3))
    with pytest.raises(ConfigError, match=r"top must lie in \[1, 2\]"):
        spectrum(torch.ones(2, 3), top=3)
