"""Vote of the nearest training samples, corrected for class sizes."""

from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.heads.probe import (
    Options,
    ProbeData,
    StandardisedProbe,
    as_tensor,
    best_of,
    choices_of,
)

_AT_ONCE = 1024  # rows compared at a time, so that memory does not grow with the test split


@final
class NearestNeighbours(nn.Module):
    """The `k` training samples of highest cosine similarity vote, each for its class.

    With n_c votes for class c and its share p_c of the training samples, the logits are
    `log(n_c + p_c) - tau log p_c` up to a constant: the votes with one pseudo-count spread by the
    prior, over the prior. A rare class can have at most its few samples among the neighbours, so
    that plain votes (`tau=0`) hardly ever choose it; `tau=1` asks for the class with the most votes
    for its size.

    Args:
        width: Of the features.
        classes: How many there are.
        k: Neighbours that vote, at least 1; with fewer training samples all of them do.
        tau: Strength of the correction, at least 0.

    Raises:
        ConfigError: `k` or `tau` out of range.

    Reference:
        Cover and Hart, Nearest neighbor pattern classification, IEEE Trans. Inf. Theory 1967;
        k = 20 on frozen features as in Caron et al., ICCV 2021 (DINO), without its temperature.
        The correction is logit adjustment (Menon et al., ICLR 2021, equation 9) of the vote.
    """

    rows: Tensor
    labels: Tensor
    prior: Tensor

    def __init__(self, width: int, classes: int, *, k: int = 20, tau: float = 1.0) -> None:
        super().__init__()
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ConfigError(f"k of a knn probe must be a whole number of at least 1, got {k!r}")
        if isinstance(tau, bool) or not isinstance(tau, int | float) or not 0 <= tau < 1e3:
            raise ConfigError(f"tau of a knn probe must be at least 0, got {tau!r}")
        self.classes, self.k, self.tau = classes, k, float(tau)
        self.register_buffer("rows", torch.zeros(0, width))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("prior", torch.full((classes,), 1 / classes))
        self.register_load_state_dict_pre_hook(make_room)

    def remember(self, rows: Tensor, labels: Tensor) -> None:
        """Keep training features (samples, width) and their classes (samples,)."""
        self.rows, self.labels = functional.normalize(rows), labels
        sizes = torch.bincount(labels, minlength=self.classes)
        self.prior = (sizes / sizes.sum()).clamp_min(torch.finfo(torch.float32).tiny)

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits (rows, classes)."""
        votes = torch.cat([self._votes(part) for part in features.split(_AT_ONCE)])
        return torch.log(votes + self.prior) - self.tau * torch.log(self.prior)

    def _votes(self, features: Tensor) -> Tensor:
        similar = functional.normalize(features) @ self.rows.T
        nearest = similar.topk(min(self.k, len(self.rows)), dim=1).indices
        classes = torch.arange(self.classes, device=features.device)
        return (self.labels[nearest][..., None] == classes).sum(dim=1).to(features)


def make_room(head: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take as many rows as a saved head has, which the options do not say."""
    for name, own in head.named_buffers():
        saved = state.get(prefix + name)
        if saved is not None and saved.shape[1:] == own.shape[1:]:
            setattr(head, name, torch.empty_like(saved, device=own.device))


@final
class KNNProbe(StandardisedProbe):
    """The vote of the nearest training samples."""

    name = "knn"
    summary = (
        "vote of the 20 nearest training samples, each class's share over its prior (cosine; "
        "Cover and Hart 1967)"
    )

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return {"k": 20, "tau": 1.0}

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Reject options that it does not have."""
        super().check(options, counts)
        for chosen in choices_of(options):
            NearestNeighbours(1, len(counts.names), **chosen)

    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        """Train it on standardised features."""

        def fitted(chosen: dict[str, Any]) -> nn.Module:
            head = NearestNeighbours(data.features.shape[1], len(data.counts.names), **chosen)
            head.remember(as_tensor(data.features), torch.from_numpy(data.labels))
            return head

        return best_of(self.name, data, options, fitted)

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:
        """Build what `learn` returns, without its state."""
        return NearestNeighbours(width, classes, **options)
