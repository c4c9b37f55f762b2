"""AdpMix-style mixing of old and new classes (after DualMix, whose details are not public)."""

from typing import final

import numpy as np
from torch import Tensor

from tailora.augment.blending import (
    Batch,
    Mixed,
    Shares,
    blend,
    check_alpha,
    draw_shares,
    require_classes,
    share_labels,
    shuffled_partners,
)
from tailora.counts import ClassCounts
from tailora.errors import ConfigError


def adapted_label_shares(shares: Shares, old: Shares, new: Shares, *, kappa: float = 1.0) -> Shares:
    """Convert the old image's share to its label's: share r / (share r + 1 - share).

    Args:
        shares: Of the old image (rows,).
        old: Samples seen of its class (rows,).
        new: Samples seen of the new image's class (rows,).
        kappa: r = (new / old)^kappa, in [0, 1]; 0 is mixup.
    """
    ratio = (new / old) ** kappa
    return shares * ratio / (shares * ratio + 1 - shares)


@final
class AdpMixStyle:
    """Mix an old class's image with a new one's, with a label biased to the class seen less.

    In a stream, new classes outnumber the few remembered images of old ones, like large and rare
    classes in a batch. We had only the abstract of DualMix: this is a design consistent with it,
    not the paper's method.

    Args:
        counts: Samples seen per class, all at least 1.
        alpha: Parameter of Beta(alpha, alpha), the distribution of the old image's share, above 0.
        kappa: Effect of the counts on the label, in [0, 1]; 0 is mixup.

    Raises:
        ConfigError: An option is out of range.
        DataError: A class has no sample.

    Reference:
        After DualMix (AdpMix), of which we know only the abstract; mixup, Zhang et al., ICLR 2018.
    """

    def __init__(self, counts: ClassCounts, *, alpha: float = 1.0, kappa: float = 1.0) -> None:
        check_alpha(alpha)
        if not 0 <= kappa <= 1:
            raise ConfigError(f"kappa must lie in [0, 1], got {kappa!r}")
        counts.require_all_present("AdpMix-style mixing")
        self.counts = counts.array()
        self.alpha, self.kappa = alpha, kappa

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        generator: np.random.Generator,
        stream: Batch | None = None,
    ) -> Mixed:
        """Mix old images with new ones.

        Args:
            images: Old ones, of the buffer (rows, bands, height, width).
            labels: Their classes (rows,).
            generator: Random generator.
            stream: The same number of new ones; by default the same batch in another order.
        """
        require_classes(labels, len(self.counts))
        if stream is None:
            stream = shuffled_partners(Batch(images, labels), generator)
        require_classes(stream.labels, len(self.counts))
        shares = draw_shares(generator, len(labels), alpha=self.alpha)
        old, new = (self.counts[y.cpu().numpy()] for y in (labels, stream.labels))
        label_shares = adapted_label_shares(shares, old, new, kappa=self.kappa)
        return share_labels(
            blend(images, stream.images, shares),
            labels,
            stream.labels,
            label_shares,
            len(self.counts),
        )
