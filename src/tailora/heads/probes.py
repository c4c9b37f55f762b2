"""Every head by one name, fitted on frozen features: the probe axis of a comparison.

A probe's choices (penalty, tau) are made on validation features, never on the test. All probes
see features standardised by the training set, so none wins by the unit of a dimension.

Reference: decoupled training, Kang et al., ICLR 2020; each head names its own paper.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tailora import registry
from tailora.counts import ClassCounts, Groups
from tailora.errors import ConfigError, unknown_name
from tailora.experts.aggregation import combine_experts, weigh_experts
from tailora.heads.classifier_retraining import fresh_linear, retrain_classifier
from tailora.heads.cosine import CosineHead
from tailora.heads.descent import descend
from tailora.heads.expert_head import ExpertHead
from tailora.heads.expert_probes import EXPERT_PROBES, fit_experts
from tailora.heads.linear_probe import L2_GRID, Score, fit_linear_probe, unit_spread
from tailora.heads.lws import LWSHead
from tailora.heads.ncm import VARIANTS, nearest_class_mean
from tailora.heads.prior_thresholding import adjust_logits
from tailora.heads.reslt import ResLTHead, ResLTLoss
from tailora.heads.tau_normalisation import choose_tau, tau_normalise
from tailora.losses import CrossEntropyLoss, LDAMLoss, LogitAdjustedLoss

Rows = NDArray[np.float32]
Logits = Callable[[Rows], Rows]

_LWS_EPOCHS: Final = 5


@dataclass(frozen=True)
class ProbeData:
    """What a probe is fitted on.

    Args:
        features: Training features (rows, width).
        labels: Their class indices (rows,).
        val_features: Validation features (rows, width).
        val_labels: Their class indices (rows,).
        counts: Training samples per class.
        groups: Head, middle and tail.
        score: Higher is better, of validation targets and predictions.
        seed: Of heads that start at random.
        l2: Penalties of linear heads to choose from.
        views: Features of two views of the images that will be predicted, both (rows, width),
            without their labels; for the probes of `NEEDS_VIEWS`.
        text: Makes a head of class names, for the probes of `NEEDS_TEXT`.
    """

    features: Rows
    labels: NDArray[np.int64]
    val_features: Rows
    val_labels: NDArray[np.int64]
    counts: ClassCounts
    groups: Groups
    score: Score
    seed: int = 0
    l2: tuple[float, ...] = L2_GRID
    views: tuple[Rows, Rows] | None = None
    text: Callable[[], nn.Linear] | None = None


def probe_names() -> list[str]:
    """Names of all probes: a linear head under each loss, then the other heads."""
    return [*registry.names("losses"), *_HEADS]


def probe_summary(name: str) -> str:
    """Say in one line what a probe is."""
    return _TEXTS.get(name) or f"a linear head, fitted to its end under {name}"


def check_probe(name: str, options: Mapping[str, Any], counts: ClassCounts) -> None:
    """Refuse an unknown probe, or options it does not have.

    Raises:
        ConfigError: The message has the nearest name, or the options there are.
    """
    if name not in probe_names():
        raise unknown_name("probe", name, probe_names())
    if name in _HEADS:
        if options:
            raise ConfigError(f"probe {name!r} takes no options, got {sorted(options)}")
        return
    registry.build(registry.find("losses", name), {"counts": counts}, options)


def fit_probe(name: str, data: ProbeData, options: Mapping[str, Any] | None = None) -> Logits:
    """Fit the probe called `name`.

    Args:
        name: A loss (a linear head is fitted to its end under it; a cosine head for LDAM) or one
            of `"ncm-un"`, `"ncm-l2n"`, `"ncm-cl2n"`, `"post-hoc"` (cross-entropy, then minus the
            log prior),
            `"tau-normalised"`, `"crt"`, `"lws"`, `"cosine"`, `"reslt"`, `"sade"`,
            `"sade-test-time"`, `"ride"`, `"tlc"`, `"clip-zero-shot"`.
        data: Features and labels.
        options: Of the loss.

    Returns:
        Maps features (rows, width) to logits (rows, classes).

    Raises:
        ConfigError: Unknown name or option.
    """
    check_probe(name, options or {}, data.counts)
    if name in _HEADS:
        return _HEADS[name](data)
    loss = registry.build(registry.find("losses", name), {"counts": data.counts}, options or {})
    if isinstance(loss, LDAMLoss):  # its margins are cosines: no other head is bounded
        return _cosine(data, loss)
    return _logits_of(_linear(data, loss))


def _linear(data: ProbeData, loss: nn.Module) -> nn.Linear:
    has_validation = len(data.val_labels) > 0
    return fit_linear_probe(
        data.features,
        data.labels,
        loss=loss,
        num_classes=len(data.counts.names),
        l2=data.l2 if has_validation else data.l2[len(data.l2) // 2],
        validation=(data.val_features, data.val_labels) if has_validation else None,
        score=data.score if has_validation else None,
    ).linear


def _post_hoc(data: ProbeData) -> Logits:
    plain = _logits_of(_linear(data, CrossEntropyLoss(data.counts)))

    def logits(rows: Rows) -> Rows:
        return adjust_logits(torch.from_numpy(plain(rows)), data.counts).numpy()

    return logits


def _tau_normalised(data: ProbeData) -> Logits:
    scaler = _Scaler(data.features)
    weight = _linear(scaler.scaled(data), CrossEntropyLoss(data.counts)).weight.detach()
    tau = 1.0
    if len(data.val_labels):
        tau = choose_tau(weight, scaler(data.val_features), data.val_labels)
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    head.weight = nn.Parameter(tau_normalise(weight, tau=tau))
    return _logits_of(head, scaler)


def _crt(data: ProbeData) -> Logits:
    scaler = _Scaler(data.features)
    head = fresh_linear(data.features.shape[1], len(data.counts.names), seed=data.seed)
    retrain_classifier(head, scaler(data.features), data.labels, seed=data.seed)
    return _logits_of(head, scaler)


def _lws(data: ProbeData) -> Logits:
    scaler = _Scaler(data.features)
    head = LWSHead(_linear(scaler.scaled(data), CrossEntropyLoss(data.counts)))
    retrain_classifier(head, scaler(data.features), data.labels, epochs=_LWS_EPOCHS, seed=data.seed)
    return _logits_of(head, scaler)


def _ncm(data: ProbeData, *, variant: str) -> Logits:
    scaler = _Scaler(data.features)
    head = nearest_class_mean(
        scaler(data.features), data.labels, len(data.counts.names), variant=variant
    )
    return _logits_of(head, scaler)


def _cosine_adjusted(data: ProbeData) -> Logits:
    return _cosine(data, LogitAdjustedLoss(data.counts))


def _cosine(data: ProbeData, loss: nn.Module) -> Logits:
    scaler = _Scaler(data.features)
    scale = loss.scale if isinstance(loss, LDAMLoss) else 30.0
    classes = len(data.counts.names)
    head = CosineHead(data.features.shape[1], classes, scale=scale, seed=data.seed)
    x, y = torch.from_numpy(scaler(data.features)), torch.from_numpy(data.labels)
    descend(head, lambda _: loss(head(x), y))
    return _logits_of(head, scaler)


def _reslt(data: ProbeData) -> Logits:
    scaler = _Scaler(data.features)
    head = ResLTHead(data.features.shape[1], len(data.counts.names), seed=data.seed)
    loss = ResLTLoss(data.groups)
    x, y = torch.from_numpy(scaler(data.features)), torch.from_numpy(data.labels)
    descend(head, lambda _: loss(head.branches(x), y))
    return _logits_of(head, scaler)


def _experts(data: ProbeData, *, name: str) -> Logits:
    scaler = _Scaler(data.features)
    head = fit_experts(name, scaler(data.features), data.labels, data.counts, seed=data.seed)
    return _logits_of(_Combined(head, EXPERT_PROBES[name]), scaler)


def _sade_test_time(data: ProbeData) -> Logits:
    if data.views is None:
        raise ConfigError(
            "probe 'sade-test-time' needs two views of the images to predict; `tailora compare` "
            "gives them to adapters that look at an image once"
        )
    scaler = _Scaler(data.features)
    head = fit_experts("sade", scaler(data.features), data.labels, data.counts, seed=data.seed)
    with torch.inference_mode():
        first, second = (head.branches(torch.from_numpy(scaler(view))) for view in data.views)
    # rows may be sorted by class, and the search goes through them in order
    order = torch.from_numpy(np.random.default_rng(data.seed).permutation(first.shape[1]))
    weights = weigh_experts(first[:, order], second[:, order])
    return _logits_of(_Combined(head, partial(combine_experts, weights=weights)), scaler)


def _clip_zero_shot(data: ProbeData) -> Logits:
    if data.text is None:
        raise ConfigError(
            "probe 'clip-zero-shot' needs the text tower of a CLIP encoder; `tailora compare` with "
            "such a --backbone gives it"
        )
    return _logits_of(data.text())


class _Combined(nn.Module):
    """Experts and the rule that makes one answer of theirs."""

    def __init__(self, head: ExpertHead, rule: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.head, self.rule = head, rule

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.rule(self.head.branches(features))


_HEADS: Final[dict[str, Callable[[ProbeData], Logits]]] = {
    **{f"ncm-{variant}": partial(_ncm, variant=variant) for variant in VARIANTS},
    "post-hoc": _post_hoc,
    "tau-normalised": _tau_normalised,
    "crt": _crt,
    "lws": _lws,
    "cosine": _cosine_adjusted,
    "reslt": _reslt,
    **{name: partial(_experts, name=name) for name in EXPERT_PROBES},
    "sade-test-time": _sade_test_time,
    "clip-zero-shot": _clip_zero_shot,
}
NEEDS_VIEWS: Final = ("sade-test-time",)
NEEDS_TEXT: Final = ("clip-zero-shot",)


_TEXTS: Final = {
    "ldam": "a cosine head under LDAM's margins, of the loss's scale (Cao et al., NeurIPS 2019)",
    "ncm-un": "nearest class mean (Kang et al., ICLR 2020)",
    "ncm-l2n": "nearest class mean of features of length one",
    "ncm-cl2n": "nearest class mean of centred features of length one",
    "post-hoc": "a linear head under cross-entropy, then minus the log prior (Menon et al., "
    "ICLR 2021)",
    "tau-normalised": "a linear head under cross-entropy whose class vectors are shortened, tau "
    "by validation (Kang et al., ICLR 2020)",
    "crt": "a fresh linear head, class-balanced sampling (Kang et al., ICLR 2020)",
    "lws": "a linear head under cross-entropy, then one factor a class (Kang et al., ICLR 2020)",
    "cosine": "a cosine head under logit adjustment (Gidaris and Komodakis, CVPR 2018)",
    "reslt": "three residual heads and their loss (Cui et al., TPAMI 2022)",
    "sade": "three cosine experts for the classes' own, an even and a reversed distribution, mixed "
    "evenly (Zhang et al., NeurIPS 2022)",
    "sade-test-time": "the experts of SADE, mixed as is most stable over two views of the images "
    "to predict, without their labels; `tailora compare` only (Zhang et al., NeurIPS 2022)",
    "clip-zero-shot": "CLIP's text features of the class names, nothing fitted; CLIP encoders and "
    "`tailora compare` only (Radford et al., ICML 2021)",
    "ride": "three cosine experts with LDAM margins, pushed apart (Wang et al., ICLR 2021)",
    "tlc": "three evidential cosine experts, weighed by what those before left uncertain (Li et "
    "al., CVPR 2022)",
}


class _Scaler:
    """Zero mean and unit spread of each dimension by the training features."""

    def __init__(self, features: Rows) -> None:
        self.mean, self.spread = features.mean(axis=0, dtype=np.float64), unit_spread(features)

    def __call__(self, rows: Rows) -> Rows:
        return ((rows - self.mean) / self.spread).astype(np.float32)

    def scaled(self, data: ProbeData) -> ProbeData:
        return replace(data, features=self(data.features), val_features=self(data.val_features))


def _logits_of(head: nn.Module, scaler: _Scaler | None = None) -> Logits:
    head.eval()

    def logits(rows: Rows) -> Rows:
        seen = np.array(rows if scaler is None else scaler(rows), dtype=np.float32)
        with torch.inference_mode():
            return head(torch.from_numpy(seen)).numpy()

    return logits
