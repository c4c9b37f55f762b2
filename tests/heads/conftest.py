"""Three well-separated classes of very different size."""

import pytest
import torch


@pytest.fixture
def blobs():
    """Features (rows, 4) and labels: 200, 20 and 3 rows around three centres."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[4.0, 0, 0, 1], [0, 4.0, 0, 1], [0, 0, 4.0, 1]])
    labels = torch.tensor([0] * 200 + [1] * 20 + [2] * 3)
    return centres[labels] + 0.3 * torch.randn(223, 4, generator=generator), labels
