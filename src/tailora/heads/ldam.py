"""A cosine head with the margins of LDAM (Cao et al. 2019)."""

from typing import Any, final

from torch import nn

from tailora import registry
from tailora.counts import ClassCounts
from tailora.heads.cosine import CosineHead, CosineProbe
from tailora.heads.probe import Options
from tailora.losses import LDAMLoss


@final
class LDAMProbe(CosineProbe):
    """LDAM's margins need cosine logits, so this replaces the linear head."""

    name = "ldam"
    summary = "cosine head with LDAM's margins and scale (Cao et al., NeurIPS 2019)"
    loss = LDAMLoss

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return registry.options(self.loss)

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Reject options that it does not have."""
        registry.build(self.loss, {"counts": counts}, options)

    def shape(self, width: int, classes: int, options: Options, *, seed: int = 0) -> nn.Module:
        """Build what `learn` returns, without its state."""
        return CosineHead(width, classes, scale=(self.options | dict(options))["scale"], seed=seed)
