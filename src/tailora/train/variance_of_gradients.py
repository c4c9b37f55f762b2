"""Variance of gradients (VoG): how much what an image shows the model changes while it is trained.

After each epoch the gradient of the logit of an image's label by its pixels says where the model
looks. Its spread over the epochs, mean over the pixels, is large for images that are hard to learn.

Reference: Agarwal et al., Estimating Example Difficulty using Variance of Gradients, CVPR 2022,
equations 1 to 3, with every epoch as a checkpoint. Here gradients are first averaged over bands and
over the cells of a grid, so that 100,000 images need megabytes instead of gigabytes. The paper's
normalisation within a class is left to whoever compares images.
"""

from collections.abc import Callable
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tailora.backbones import AnyEncoder

GRID: Final = 16
"""Cells of an image's side."""


@final
class VarianceOfGradients(nn.Module):
    """Adds up gradients after each epoch; part of what a checkpoint keeps.

    Args:
        samples: Numbers of the images to look at (rows,).
        images: Number of all images of the data.
        gradient: Gives the gradients of some sample numbers (rows, cells).
        batch_size: Images that are looked at together.
    """

    fresh: Tensor
    sums: Tensor
    squares: Tensor
    epochs: Tensor

    def __init__(
        self,
        samples: NDArray[np.int64],
        images: int,
        gradient: Callable[[NDArray[np.int64]], Tensor],
        batch_size: int,
    ) -> None:
        super().__init__()
        self.samples, self.gradient, self.batch_size = np.unique(samples), gradient, batch_size
        for name in ("fresh", "sums", "squares"):
            self.register_buffer(name, torch.zeros(images, GRID * GRID))
        self.register_buffer("epochs", torch.zeros(()))

    def look(self, share: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> None:
        """Look at this process's share of the images; all that learns is in evaluation mode."""
        own = share(self.samples)
        for start in range(0, len(own), self.batch_size):
            batch = own[start : start + self.batch_size]
            self.fresh[torch.from_numpy(batch).to(self.fresh.device)] = self.gradient(batch)

    @torch.no_grad()
    def end_epoch(self, fresh: Tensor) -> None:
        """Add the gradients of an epoch (images, cells), of all processes."""
        self.sums += fresh
        self.squares += fresh.square()
        self.epochs += 1
        self.fresh.zero_()  # last: `fresh` may be this

    def spread(self, samples: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean over the cells of the standard deviation over epochs (rows,); 0 after one epoch."""
        rows = torch.from_numpy(samples).to(self.sums.device)
        mean = self.sums[rows].double() / self.epochs
        squared = self.squares[rows].double() / self.epochs
        found = (squared - mean.square()).clamp(min=0).sqrt().mean(dim=1)
        return found.cpu().numpy()


def label_gradients(encoder: AnyEncoder, head: nn.Module, pixels: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the logit of each label by its image, averaged over bands and cells.

    Args:
        encoder: (rows, bands, height, width) to (rows, width).
        head: (rows, width) to (rows, classes).
        pixels: (rows, bands, height, width), stored values.
        labels: Class indices (rows,).

    Returns:
        (rows, GRID * GRID); images smaller than the grid repeat their pixels.
    """
    given = pixels.detach().float().requires_grad_()
    with torch.enable_grad():
        logits = head(encoder(given)).float()
        own = logits.gather(1, labels[:, None]).sum()
        (found,) = torch.autograd.grad(own, given)
    return functional.adaptive_avg_pool2d(found.mean(dim=1, keepdim=True), GRID).flatten(1)
