"""What training saw of each image: how sure, how steady and how hard it was in its epochs.

Measured on the looks that training takes anyway, each augmented and before the step that learns
from it, so that nothing is encoded twice. Over epochs that change the encoder as well as the head
these say what a head on finished features cannot.

Reference: EL2N, Paul et al., NeurIPS 2021, equation 2; forgetting, Toneva et al., ICLR 2019,
section 3, counted between epochs; confidence and variability, Swayamdipta et al., Dataset
Cartography, EMNLP 2020, section 2; self-influence, Pruthi et al., NeurIPS 2020 (TracIn), of the
last layer, every epoch weighing the same.
"""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.train.variance_of_gradients import VarianceOfGradients

_LOOKS, _RIGHT, _CHANCE, _SQUARED, _ERROR, _GRADIENT = range(6)
_SUMS: Final = 6
_IS_RIGHT, _WAS_EVER, _FORGOTTEN = range(3)


@final
@dataclass(frozen=True, eq=False)
class SeenImages:
    """What training saw of the images that it learnt from, by sample number.

    Args:
        samples: Their numbers (images,).
        looks: How often each was learnt from (images,).
        confidence: Mean probability of the label, in [0, 1].
        variability: Standard deviation of that probability, in [0, 0.5].
        el2n: Mean length of the error p - y, in [0, sqrt 2].
        self_influence: Mean squared length of the head's gradient.
        forgotten: Epochs in which it was wrong after one in which it was right.
        learnt: Whether it was right in any epoch.
        vog: Variance of gradients; None where it was not asked for.
    """

    samples: NDArray[np.int64]
    looks: NDArray[np.int64]
    confidence: NDArray[np.float64]
    variability: NDArray[np.float64]
    el2n: NDArray[np.float64]
    self_influence: NDArray[np.float64]
    forgotten: NDArray[np.int64]
    learnt: NDArray[np.bool_]
    vog: NDArray[np.float64] | None = None


@final
class ImageHistory(nn.Module):
    """Adds up what each look at an image shows; part of what a checkpoint keeps.

    Args:
        images: Number of all images of the data; those never looked at are in no result.

    Attributes:
        gradients: Looks at images after each epoch, if that is asked for.
    """

    fresh: Tensor
    sums: Tensor
    course: Tensor
    gradients: VarianceOfGradients | None

    def __init__(self, images: int) -> None:
        super().__init__()
        self.gradients = None
        for name, width in (("fresh", _SUMS), ("sums", _SUMS), ("course", 3)):
            self.register_buffer(name, torch.zeros(images, width))

    @torch.no_grad()
    def note(
        self, samples: NDArray[np.int64], features: Tensor, logits: Tensor, labels: Tensor
    ) -> None:
        """Add a batch.

        Args:
            samples: Sample numbers (batch,).
            features: What the head saw (batch, width).
            logits: What it said (batch, classes).
            labels: Class index of each image (batch,).
        """
        chances = logits.float().softmax(dim=1)
        own = chances.gather(1, labels[:, None])[:, 0]
        error = (chances.square().sum(dim=1) - 2 * own + 1).clamp(min=0)  # (p - y) squared
        gradient = error * (features.float().square().sum(dim=1) + 1)
        right = (logits.argmax(dim=1) == labels).to(own)
        looks = [torch.ones_like(own), right, own, own.square(), error.sqrt(), gradient]
        rows = torch.from_numpy(samples).to(self.fresh.device)
        self.fresh.index_add_(0, rows, torch.stack(looks, dim=1).to(self.fresh))

    @torch.no_grad()
    def end_epoch(self, fresh: Tensor) -> None:
        """End an epoch in which all processes together saw `fresh`, and begin another.

        An image is right in an epoch if it was in half of its looks or more.
        """
        seen = fresh[:, _LOOKS] > 0
        right = seen & (fresh[:, _RIGHT] >= fresh[:, _LOOKS] / 2)
        self.course[:, _FORGOTTEN] += seen & ~right & (self.course[:, _IS_RIGHT] > 0)
        self.course[:, _IS_RIGHT] = torch.where(seen, right.to(fresh), self.course[:, _IS_RIGHT])
        self.course[:, _WAS_EVER] += right
        self.sums += fresh
        self.fresh.zero_()  # last: `fresh` may be this

    def seen(self) -> SeenImages:
        """Sum up the epochs that have ended."""
        sums, course = (part.cpu().numpy().astype(np.float64) for part in (self.sums, self.course))
        samples = np.flatnonzero(sums[:, _LOOKS])
        looks, course = sums[samples, _LOOKS], course[samples]
        mean = sums[samples] / looks[:, None]
        spread = np.sqrt(np.maximum(mean[:, _SQUARED] - mean[:, _CHANCE] ** 2, 0))
        return SeenImages(
            samples,
            looks.astype(np.int64),
            mean[:, _CHANCE],
            spread,
            mean[:, _ERROR],
            mean[:, _GRADIENT],
            course[:, _FORGOTTEN].astype(np.int64),
            course[:, _WAS_EVER] > 0,
            None if self.gradients is None else self.gradients.spread(samples),
        )


def histories(module: nn.Module) -> list[ImageHistory]:
    """Parts of a module that are told of epochs."""
    return [part for part in module.modules() if isinstance(part, ImageHistory)]
