"""CMO: rare classes pasted onto backgrounds of large ones (Park et al. 2022)."""

from typing import final

import numpy as np
import torch
from torch import Tensor

from tailora.augment.blending import (
    Batch,
    Mixed,
    boxes,
    check_alpha,
    draw_shares,
    paste,
    require_classes,
    share_labels,
)
from tailora.counts import ClassCounts
from tailora.errors import ConfigError


@final
class CMO:
    """CutMix with boxes from rare classes pasted onto naturally distributed backgrounds.

    Repeating rare images repeats their few backgrounds; pasted onto images of large classes they
    appear in many contexts. The released code turns it off in the first 4 and the last 3 of 200
    epochs.

    Args:
        counts: Training samples per class, all at least 1.
        alpha: Parameter of Beta(alpha, alpha), the distribution of the background's share, above 0.
        probability: Share of rows that are mixed, in [0, 1]; 0.5 as in the released
            code.
        power: Boxes are drawn with weight n to the minus this, at least 0; 1 balances the classes,
            0 is CutMix.

    Raises:
        ConfigError: An option is out of range.
        DataError: A class has no sample.

    Reference:
        Park et al., The Majority Can Help the Minority: Context-rich Minority Oversampling for
        Long-tailed Classification, CVPR 2022, algorithm 1.
    """

    def __init__(
        self,
        counts: ClassCounts,
        *,
        alpha: float = 1.0,
        probability: float = 0.5,
        power: float = 1.0,
    ) -> None:
        check_alpha(alpha)
        if not 0 <= probability <= 1:
            raise ConfigError(f"probability must lie in [0, 1], got {probability!r}")
        if not 0 <= power < np.inf:
            raise ConfigError(f"power must be finite and at least 0, got {power!r}")
        counts.require_all_present("CMO")
        self.weights = counts.array() ** -power
        self.alpha, self.probability = alpha, probability

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        generator: np.random.Generator,
        patches: Batch | None = None,
    ) -> Mixed:
        """Mix a batch.

        Args:
            images: Backgrounds (rows, bands, height, width).
            labels: Their classes (rows,).
            generator: Random generator.
            patches: The same number of rows from a class-balanced sampler, as in the paper; by
                default they are drawn from this batch, which may lack rare classes.
        """
        require_classes(labels, len(self.weights))
        if patches is None:
            patches = self._from(Batch(images, labels), generator)
        require_classes(patches.labels, len(self.weights))
        shares = draw_shares(generator, len(labels), alpha=self.alpha)
        where = boxes(generator, shares, *images.shape[-2:])
        where[generator.random(len(labels)) >= self.probability] = 0  # an empty box
        pasted, shares = paste(images, patches.images, where)
        return share_labels(pasted, labels, patches.labels, shares, len(self.weights))

    def _from(self, batch: Batch, generator: np.random.Generator) -> Batch:
        if not len(batch.labels):
            return batch
        weights = self.weights[batch.labels.cpu().numpy()]
        drawn = generator.choice(len(weights), size=len(weights), p=weights / weights.sum())
        rows = torch.from_numpy(drawn).to(batch.labels.device)
        return Batch(batch.images[rows], batch.labels[rows])
