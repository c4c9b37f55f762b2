"""What the optimiser of matrices promises, whatever the gradient."""

import pytest
import torch
from torch import nn

from tailora import optim as shelf
from tailora.optim.muon import MatrixMuon, orthogonalised
from tailora.registry import reference, summary


def draw(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_everything_listed_is_described():
    assert set(shelf.__all__) == {"adamw", "muon"}
    for name in shelf.__all__:
        assert summary(getattr(shelf, name)).endswith(".")
        assert any(char.isdigit() for char in reference(getattr(shelf, name)))


@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e15, 1e30])
def test_a_step_is_finite_and_bounded(size):
    parameter = nn.Parameter(torch.zeros(6, 4))
    parameter.grad = size * draw(6, 4).sign()
    MatrixMuon([parameter], lr=1.0).step()
    assert torch.isfinite(parameter).all()
    # no singular value above 1.2, times the scale of a tall matrix
    assert torch.linalg.matrix_norm(parameter.detach(), 2) < 1.25 * (6 / 4) ** 0.5


def test_the_size_of_a_gradient_does_not_matter():
    one, other = (orthogonalised(s * draw(5, 3), dtype=torch.float32) for s in (1.0, 1e4))
    assert torch.allclose(one, other, atol=1e-5)


def test_does_not_depend_on_how_rows_and_columns_are_numbered():
    rows, columns = torch.tensor([2, 0, 4, 1, 3]), torch.tensor([1, 2, 0])
    matrix = draw(5, 3, dtype=torch.float64)
    before = orthogonalised(matrix, dtype=torch.float64)
    after = orthogonalised(matrix[rows][:, columns], dtype=torch.float64)
    assert torch.allclose(after, before[rows][:, columns])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_parameters_keep_their_dtype_and_device(dtype):
    parameter = nn.Parameter(draw(3, 5).to(dtype))
    parameter.grad = torch.ones_like(parameter)
    optimizer = MatrixMuon([parameter])
    optimizer.step()
    assert parameter.dtype == optimizer.state[parameter]["momentum"].dtype == dtype
    elsewhere = nn.Parameter(torch.zeros(3, 5, device="meta"))
    elsewhere.grad = torch.zeros(3, 5, device="meta")
    MatrixMuon([elsewhere]).step()
    assert elsewhere.device.type == "meta"
