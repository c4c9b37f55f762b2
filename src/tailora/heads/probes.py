"""Heads by name: the probe axis of a comparison, and the head of a run.

Each is trained on frozen features and becomes a module from features (rows, width) to logits (rows,
classes) whose state is all that is saved. Hyperparameters (penalty, tau) are selected on validation
features, never on the test split. All heads use features standardised by the training split, so the
scale of dimensions does not matter.

Reference: decoupled training, Kang et al., ICLR 2020; each head names its own paper.
"""

import itertools
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora import registry
from tailora.counts import ClassCounts, Groups
from tailora.errors import ConfigError
from tailora.experts.aggregation import combination, combine_experts, weigh_experts
from tailora.heads.classifier_retraining import fresh_linear, retrain_classifier
from tailora.heads.conv import ConvHead, Maps, fit_conv_head
from tailora.heads.cosine import CosineHead
from tailora.heads.descent import descend
from tailora.heads.expert_head import ExpertHead
from tailora.heads.expert_probes import fit_experts
from tailora.heads.linear_probe import (
    L2_GRID,
    Score,
    fit_linear_probe,
    predict_logits,
    unit_spread,
    zero_linear,
)
from tailora.heads.lws import LWSHead
from tailora.heads.ncm import NearestClassMeanHead, nearest_class_mean
from tailora.heads.nearest_neighbours import NearestNeighbours
from tailora.heads.prior_thresholding import adjust_logits
from tailora.heads.reslt import ResLTHead, ResLTLoss
from tailora.heads.tau_normalisation import choose_tau, tau_normalise
from tailora.losses import CrossEntropyLoss, LDAMLoss, LogitAdjustedLoss

Rows = NDArray[np.float32]
Logits = Callable[[Rows], Rows]
Options = Mapping[str, Any]

MOST_TO_SELECT: Final = 10_000
"""Training rows, drawn by the seed, on which the penalty of a linear head is selected."""
_LWS_EPOCHS: Final = 5
_NONE: Final[Options] = {}
CHOSEN: Final = "chosen_options"
"""Attribute of a fitted head: the options it has of those that were given as lists."""
_COMPARED: Final = 32  # rows that a head and its copy are compared on


@dataclass(frozen=True)
class ProbeData:
    """Training data of a head.

    Args:
        features: Training features (rows, width).
        labels: Their class indices (rows,).
        val_features: Validation features (rows, width).
        val_labels: Their class indices (rows,).
        counts: Training samples per class.
        groups: Head, middle and tail.
        score: Higher is better, of validation targets and predictions.
        seed: Seed of heads with a random initialisation.
        l2: L2 penalties of linear heads to select from.
        views: Features of two views of the images to be predicted, both (rows, width), without
            their labels; for heads that need `views`.
        text: Builds a head from class names, for heads that need `text`.
        own: The head that the features were trained with, for the head `own`.
        as_they_are: How many of the first training features are of images as they are, if others
            follow, e.g. of turned images: the penalty of a linear head is selected with these
            alone. 0 stands for all.
        maps: Training images with features at every place, for heads that need `maps`.
        val_maps: The same of validation.
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
    own: nn.Module | None = None
    as_they_are: int = 0
    maps: Maps | None = None
    val_maps: Maps | None = None


class Probe(ABC):
    """A head on frozen features.

    Name and summary are constants, so that `tailora methods` can read them from source.

    Attributes:
        name: Name in recipes and on the command line, e.g. `"crt"`.
        summary: Description with its paper, on one line.
        views: Whether it needs two views of the images to predict, so that it cannot be saved in a
            run.
        text: Whether it needs the text encoder of CLIP.
        own: Whether it is the head of the adapter's own training, which not every method has.
        maps: Whether it sees all places of an image at once: its module, which has `sees_maps`,
            takes features (images, rows, columns, width) and gives logits of each place.
        is_linear: Whether it is a linear layer trained with the loss of its name.
    """

    name: str
    summary: str
    views = False
    text = False
    own = False
    maps = False
    is_linear = False

    @property
    def options(self) -> dict[str, Any]:
        """Return its options with their defaults."""
        return {}

    def check(self, options: Options, counts: ClassCounts) -> None:  # noqa: ARG002
        """Reject unknown options, and those that do not fit the classes.

        Raises:
            ConfigError: The message lists the options.
        """
        if options:
            raise ConfigError(f"probe {self.name!r} has no options, got {sorted(options)}")

    @abstractmethod
    def fit(self, data: ProbeData, options: Options = _NONE) -> nn.Module:
        """Train it: returns a module from features (rows, width) to logits (rows, classes).

        Raises:
            ConfigError: An option does not fit, or `views` or `text` are needed and missing.
        """

    @abstractmethod
    def empty(self, width: int, classes: int, options: Options = _NONE) -> nn.Module:
        """Build the module that `fit` returns without its state, for loading.

        Args:
            width: Width of the features.
            classes: Number of classes.
            options: As given to `fit`.

        Raises:
            ConfigError: An option does not fit.
        """


def _choices(options: Options) -> list[dict[str, Any]]:
    """Every combination of the values of options that are lists.

    Example:
        >>> _choices({"tau": [0.7, 1.0], "weight": 2})
        [{'tau': 0.7, 'weight': 2}, {'tau': 1.0, 'weight': 2}]
    """
    listed = [value if isinstance(value, list) else [value] for value in options.values()]
    if not all(listed):
        raise ConfigError(f"probe options must not be empty lists, got {dict(options)}")
    return [dict(zip(options, values, strict=True)) for values in itertools.product(*listed)]


def _best(
    name: str, data: ProbeData, options: Options, fitted: Callable[[dict[str, Any]], nn.Module]
) -> nn.Module:
    """Fit a head with each combination of options given as lists; keep the best on validation."""
    choices = _choices(options)
    if len(choices) > 1 and not len(data.val_labels):
        raise ConfigError(
            f"probe {name!r} has several values of an option and no validation sample to choose "
            "by; give one value"
        )
    heads = [fitted(chosen) for chosen in choices]
    for head, chosen in zip(heads, choices, strict=True):
        setattr(head, CHOSEN, chosen)
    if len(heads) == 1:
        return heads[0]
    predicted = [_validation_logits(head, data).argmax(axis=1) for head in heads]
    scores = [data.score(data.val_labels, classes) for classes in predicted]
    return heads[int(np.argmax(scores))]  # of equals the first


def _validation_logits(head: nn.Module, data: ProbeData) -> Rows:
    """Logits of the validation rows (rows, classes)."""
    if not sees_maps(head):
        return predict_logits(head, data.val_features)
    if data.val_maps is None:
        raise ConfigError("a head on maps is chosen by maps of validation, and there are none")
    return predict_logits(head, data.val_maps.features)[data.val_maps.targets >= 0]


def sees_maps(head: nn.Module) -> bool:
    """Whether a head takes maps of features, see `Probe.maps`, in place of rows."""
    return bool(getattr(head, "sees_maps", False))


@final
class ProbeObject(Probe):
    """A head that was given as an object, under the name that a recipe has for it.

    Args:
        probe: The head; it has its options in itself.
        name: In recipes.
        told: Description of it, which stands in the place of options.
    """

    def __init__(self, probe: Probe, name: str, told: dict[str, Any]) -> None:
        self.probe, self.name, self.told = probe, name, told
        self.summary = getattr(probe, "summary", "")
        self.views, self.text, self.maps = probe.views, probe.text, probe.maps

    @property
    def options(self) -> dict[str, Any]:
        """Its description."""
        return dict(self.told)

    def check(self, options: Options, counts: ClassCounts) -> None:  # noqa: ARG002
        """Check the head without options."""
        self.probe.check({}, counts)

    def fit(self, data: ProbeData, options: Options = _NONE) -> nn.Module:  # noqa: ARG002
        """Train the head without options."""
        return self.probe.fit(data, {})

    def empty(self, width: int, classes: int, options: Options = _NONE) -> nn.Module:  # noqa: ARG002
        """Build the head without options."""
        return self.probe.empty(width, classes, {})


def probe_names() -> list[str]:
    """Return the names of all heads: one per loss, then the others."""
    return list(_probes())


def find_probe(name: str) -> Probe:
    """Return the head called `name`.

    Raises:
        ConfigError: There is none; the message suggests the nearest name.
    """
    probes = _probes()
    if name not in probes:
        raise registry.missing("probe", name, probes)
    return probes[name]


def empty_head(probe: Probe, width: int, classes: int, options: Options) -> nn.Module:
    """Return `probe.empty`; a head that draws weights leaves torch's global state as it is."""
    with torch.random.fork_rng():
        return probe.empty(width, classes, options)


def check_kept(probe: Probe, head: nn.Module, rows: Rows, classes: int, options: Options) -> None:
    """Reject a head whose state dict is not all of it, since a run keeps nothing else.

    Args:
        probe: That trained it.
        head: As trained.
        rows: Features to compare answers on: (rows, width), or maps where the head sees maps.
        classes: How many it tells apart.
        options: As given to `probe.fit`.

    Raises:
        ConfigError: `probe.empty` with its state is not the same head.
    """
    some = _tensor(rows[:_COMPARED])
    try:
        again = empty_head(probe, rows.shape[-1], classes, options)
        again.load_state_dict(head.state_dict())
        with torch.inference_mode():
            expected, found = head.eval()(some), again.eval()(some)
        wanted = (*some.shape[:-1], classes)
        if expected.shape != wanted:
            reason = f"it returns {tuple(expected.shape)} where {wanted} was expected"
        elif not torch.allclose(expected, found, rtol=0, atol=0, equal_nan=True):
            reason = "its state is not all of it; keep what it learns in parameters or buffers"
        else:
            return
    except (RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
    raise ConfigError(f"head {probe.name!r} cannot be saved: {reason}")


def as_logits(head: nn.Module) -> Logits:
    """Return a trained head as a function of arrays, all rows at once."""
    head.eval()

    def logits(rows: Rows) -> Rows:
        with torch.inference_mode():
            return head(_tensor(rows)).numpy()

    return logits


class _UnderLoss(Probe):
    """A linear head, trained to convergence with a loss."""

    is_linear = True

    def __init__(self, name: str, loss: registry.Method) -> None:
        self.name, self.summary = name, f"linear head trained to convergence with the {name} loss"
        self.loss = loss

    @property
    def options(self) -> dict[str, Any]:
        return registry.options(self.loss)

    def check(self, options: Options, counts: ClassCounts) -> None:
        for chosen in _choices(options):
            registry.build(self.loss, {"counts": counts}, chosen)

    def fit(self, data: ProbeData, options: Options = _NONE) -> nn.Module:
        def fitted(chosen: dict[str, Any]) -> nn.Module:
            return _linear(data, registry.build(self.loss, {"counts": data.counts}, chosen))

        return _best(self.name, data, options, fitted)

    def empty(self, width: int, classes: int, options: Options = _NONE) -> nn.Module:  # noqa: ARG002
        return zero_linear(width, classes)


@final
class _PostHoc(Probe):
    name = "post-hoc"
    summary = (
        "linear head trained with cross-entropy, minus the log prior (Menon et al., ICLR 2021)"
    )

    def fit(self, data: ProbeData, options: Options = _NONE) -> nn.Module:
        self.check(options, data.counts)
        linear = _linear(data, CrossEntropyLoss(data.counts))
        shift = adjust_logits(torch.zeros(1, len(data.counts.names)), data.counts)
        return ShiftedHead(linear, shift[0])

    def empty(self, width: int, classes: int, options: Options = _NONE) -> nn.Module:  # noqa: ARG002
        return ShiftedHead(zero_linear(width, classes), torch.zeros(classes))


@final
class _Own(Probe):
    name = "own"
    summary = (
        "the linear head that the adapter was trained with, without fitting another: ordinary "
        "fine-tuning"
    )
    own = True

    def fit(self, data: ProbeData, options: Options = _NONE) -> nn.Module:
        self.check(options, data.counts)
        if data.own is None:
            raise ConfigError(
                f"probe {self.name!r} is the linear head of an adapter's own training, and these "
                "features have none (earlier versions kept none); choose another, such as "
                "logit-adjusted"
            )
        return data.own

    def empty(self, width: int, classes: int, options: Options = _NONE) -> nn.Module:  # noqa: ARG002
        return zero_linear(width, classes)


@final
class _FromText(Probe):
    name = "clip-zero-shot"
    summary = (
        "CLIP's text features of the class names, without training; CLIP encoders only (Radford "
        "et al., ICML 2021)"
    )

    text = True

    def fit(self, data: ProbeData, options: Options = _NONE) -> nn.Module:
        self.check(options, data.counts)
        if data.text is None:
            raise ConfigError(
                f"probe {self.name!r} needs the text encoder of CLIP; use a CLIP --backbone"
            )
        return data.text()

    def empty(self, width: int, classes: int, options: Options = _NONE) -> nn.Module:  # noqa: ARG002
        return zero_linear(width, classes)


class _Standardised(Probe):
    """A head trained on standardised features; subclasses define it."""

    def fit(self, data: ProbeData, options: Options = _NONE) -> nn.Module:
        self.check(options, data.counts)
        scale = Standardisation(data.features.shape[1])
        scale.mean.copy_(torch.from_numpy(data.features.mean(axis=0, dtype=np.float64)))
        scale.spread.copy_(torch.from_numpy(unit_spread(data.features)))
        scaled = replace(
            data,
            features=_scaled(scale, data.features),
            val_features=_scaled(scale, data.val_features),
            views=data.views and (_scaled(scale, data.views[0]), _scaled(scale, data.views[1])),
        )
        learnt = self.learn(scaled, options)
        head = _in_order(scale, learnt)
        if hasattr(learnt, CHOSEN):
            setattr(head, CHOSEN, getattr(learnt, CHOSEN))
        return head

    def empty(self, width: int, classes: int, options: Options = _NONE) -> nn.Module:
        return _in_order(Standardisation(width), self.shape(width, classes, options))

    @abstractmethod
    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        """Train the head on standardised features."""

    @abstractmethod
    def shape(self, width: int, classes: int, options: Options) -> nn.Module:
        """Build the module that `learn` returns, without its state."""


class _NearestMean(_Standardised):
    variant: str

    def learn(self, data: ProbeData, options: Options) -> nn.Module:  # noqa: ARG002
        classes = len(data.counts.names)
        return nearest_class_mean(data.features, data.labels, classes, variant=self.variant)

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:  # noqa: ARG002
        means = torch.zeros(classes, width)
        return NearestClassMeanHead(means, torch.zeros(width), variant=self.variant)


@final
class _NearestRawMean(_NearestMean):
    name = "ncm-un"
    summary = "nearest class mean (Kang et al., ICLR 2020)"
    variant = "un"


@final
class _NearestMeanDirection(_NearestMean):
    name = "ncm-l2n"
    summary = "nearest class mean of normalised features"
    variant = "l2n"


@final
class _NearestCentredDirection(_NearestMean):
    name = "ncm-cl2n"
    summary = "nearest class mean of centred, normalised features"
    variant = "cl2n"


@final
class _NearestNeighbours(_Standardised):
    name = "knn"
    summary = (
        "vote of the 20 nearest training samples, each class's share over its prior (cosine; "
        "Cover and Hart 1967)"
    )

    @property
    def options(self) -> dict[str, Any]:
        return {"k": 20, "tau": 1.0}

    def check(self, options: Options, counts: ClassCounts) -> None:
        if unknown := sorted(options.keys() - self.options.keys()):
            raise ConfigError(f"probe {self.name!r} has no option {unknown[0]!r}; it has k, tau")
        for chosen in _choices(options):
            NearestNeighbours(1, len(counts.names), **chosen)

    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        def fitted(chosen: dict[str, Any]) -> nn.Module:
            head = NearestNeighbours(data.features.shape[1], len(data.counts.names), **chosen)
            head.remember(_tensor(data.features), torch.from_numpy(data.labels))
            return head

        return _best(self.name, data, options, fitted)

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:
        return NearestNeighbours(width, classes, **options)


@final
class _TauNormalised(_Standardised):
    name = "tau-normalised"
    summary = (
        "linear head trained with cross-entropy, tau-normalised, tau selected on validation "
        "(Kang et al., ICLR 2020)"
    )

    def learn(self, data: ProbeData, options: Options) -> nn.Module:  # noqa: ARG002
        weight = _linear(data, CrossEntropyLoss(data.counts)).weight.detach()
        tau = 1.0
        if len(data.val_labels):
            tau = choose_tau(weight, data.val_features, data.val_labels)
        return _without_bias(tau_normalise(weight, tau=tau))

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:  # noqa: ARG002
        return _without_bias(torch.zeros(classes, width))


@final
class _Retrained(_Standardised):
    name = "crt"
    summary = "cRT: new linear head with class-balanced sampling (Kang et al., ICLR 2020)"

    def learn(self, data: ProbeData, options: Options) -> nn.Module:  # noqa: ARG002
        head = fresh_linear(data.features.shape[1], len(data.counts.names), seed=data.seed)
        retrain_classifier(head, data.features, data.labels, seed=data.seed)
        return head

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:  # noqa: ARG002
        return zero_linear(width, classes)


@final
class _LearntScales(_Standardised):
    name = "lws"
    summary = (
        "LWS: linear head trained with cross-entropy, then one factor per class (Kang et al., "
        "ICLR 2020)"
    )

    def learn(self, data: ProbeData, options: Options) -> nn.Module:  # noqa: ARG002
        head = LWSHead(_linear(data, CrossEntropyLoss(data.counts)))
        retrain_classifier(head, data.features, data.labels, epochs=_LWS_EPOCHS, seed=data.seed)
        return head

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:  # noqa: ARG002
        return LWSHead(zero_linear(width, classes))


class _Cosine(_Standardised):
    name = "cosine"
    summary = "cosine head with logit adjustment (Gidaris and Komodakis, CVPR 2018)"
    loss: registry.Method = LogitAdjustedLoss

    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        head = self.shape(data.features.shape[1], len(data.counts.names), options, seed=data.seed)
        loss = registry.build(self.loss, {"counts": data.counts}, options)
        x, y = torch.from_numpy(data.features), torch.from_numpy(data.labels)
        descend(head, lambda _: loss(head(x), y))
        return head

    def shape(self, width: int, classes: int, options: Options, *, seed: int = 0) -> nn.Module:  # noqa: ARG002
        return CosineHead(width, classes, seed=seed)


@final
class _LDAM(_Cosine):
    """LDAM's margins need cosine logits, so this replaces the linear head."""

    name = "ldam"
    summary = "cosine head with LDAM's margins and scale (Cao et al., NeurIPS 2019)"
    loss = LDAMLoss

    @property
    def options(self) -> dict[str, Any]:
        return registry.options(self.loss)

    def check(self, options: Options, counts: ClassCounts) -> None:
        registry.build(self.loss, {"counts": counts}, options)

    def shape(self, width: int, classes: int, options: Options, *, seed: int = 0) -> nn.Module:
        return CosineHead(width, classes, scale=(self.options | dict(options))["scale"], seed=seed)


@final
class _Residual(_Standardised):
    name = "reslt"
    summary = "three residual heads with their loss (Cui et al., TPAMI 2022)"

    def learn(self, data: ProbeData, options: Options) -> nn.Module:  # noqa: ARG002
        head = ResLTHead(data.features.shape[1], len(data.counts.names), seed=data.seed)
        loss = ResLTLoss(data.groups)
        x, y = torch.from_numpy(data.features), torch.from_numpy(data.labels)
        descend(head, lambda _: loss(head.branches(x), y))
        return head

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:  # noqa: ARG002
        return ResLTHead(width, classes)


class _Experts(_Standardised):
    def learn(self, data: ProbeData, options: Options) -> nn.Module:  # noqa: ARG002
        head = fit_experts(self.name, data.features, data.labels, data.counts, seed=data.seed)
        return self._combined(head)

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:  # noqa: ARG002
        return self._combined(ExpertHead(width, classes))

    def _combined(self, head: ExpertHead) -> nn.Module:
        return CombinedExperts(head, combination(registry.find("experts", self.name)))


@final
class _SADE(_Experts):
    name = "sade"
    summary = (
        "three cosine experts for the training, uniform and reversed distribution, averaged "
        "(Zhang et al., NeurIPS 2022)"
    )


@final
class _RIDE(_Experts):
    name = "ride"
    summary = "three diverse cosine experts with LDAM margins (Wang et al., ICLR 2021)"


@final
class _TLC(_Experts):
    name = "tlc"
    summary = (
        "three evidential cosine experts, weighted by the uncertainty of previous ones (Li et "
        "al., CVPR 2022)"
    )


@final
class _WeighedExperts(_Standardised):
    """Experts of another head, weighted for agreement on two views of the images to predict."""

    name = "sade-test-time"
    summary = (
        "the experts of SADE, weighted for agreement on two views of the unlabelled test images; "
        "`tailora compare` only (Zhang et al., NeurIPS 2022)"
    )
    views = True

    def learn(self, data: ProbeData, options: Options) -> nn.Module:  # noqa: ARG002
        if data.views is None:
            raise ConfigError(
                f"probe {self.name!r} needs two views of the images to predict, which `tailora "
                "compare` provides for some adapters only"
            )
        head = fit_experts(_SADE.name, data.features, data.labels, data.counts, seed=data.seed)
        with torch.inference_mode():
            first, second = (head.branches(torch.from_numpy(view)) for view in data.views)
        # rows may be sorted by class, and the search goes through them in order
        order = torch.from_numpy(np.random.default_rng(data.seed).permutation(first.shape[1]))
        return WeighedExperts(head, weigh_experts(first[:, order], second[:, order]))

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:  # noqa: ARG002
        head = ExpertHead(width, classes)
        return WeighedExperts(head, torch.zeros(len(head.weight)))


@final
class _Conv(Probe):
    name = "conv"
    summary = (
        "3 x 3 convolution over tokens with logit adjustment, for tasks on maps such as "
        "segmentation (Long et al., CVPR 2015)"
    )
    maps = True

    @property
    def options(self) -> dict[str, Any]:
        return {"channels": 128, "epochs": 20, "rate": 1e-3, "tau": 0.5}

    def check(self, options: Options, counts: ClassCounts) -> None:
        if unknown := sorted(options.keys() - self.options.keys()):
            raise ConfigError(
                f"probe {self.name!r} has no option {unknown[0]!r}; it has "
                f"{', '.join(self.options)}"
            )
        for chosen in _choices(self.options | dict(options)):
            for key in ("channels", "epochs"):
                if not isinstance(chosen[key], int) or chosen[key] < 1:
                    raise ConfigError(f"{key} must be a whole number from 1, got {chosen[key]!r}")
            if not isinstance(chosen["rate"], float | int) or not 0 < chosen["rate"] < np.inf:
                raise ConfigError(f"rate must be finite and above 0, got {chosen['rate']!r}")
            LogitAdjustedLoss(counts, tau=chosen["tau"])

    def fit(self, data: ProbeData, options: Options = _NONE) -> nn.Module:
        self.check(options, data.counts)
        maps = data.maps
        if maps is None:
            raise ConfigError(
                f"probe {self.name!r} sees maps of tokens, and there are none: it is for tasks "
                "that decide about every place, such as segmentation"
            )

        def fitted(chosen: dict[str, Any]) -> nn.Module:
            known = self.options | chosen
            loss = LogitAdjustedLoss(data.counts, tau=known.pop("tau"))
            return fit_conv_head(
                maps, classes=len(data.counts.names), loss=loss, seed=data.seed, **known
            )

        return _best(self.name, data, options, fitted)

    def empty(self, width: int, classes: int, options: Options = _NONE) -> nn.Module:
        return ConvHead(width, classes, (self.options | dict(options))["channels"])


class Standardisation(nn.Module):
    """Standardise each dimension; mean and standard deviation are state, (width,) float64."""

    mean: Tensor
    spread: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(width, dtype=torch.float64))

    def forward(self, features: Tensor) -> Tensor:
        """Standardise `features` (rows, width) in double precision; float32."""
        return ((features - self.mean) / self.spread).float()


@final
class ShiftedHead(nn.Module):
    """A linear head with an offset for its logits (classes,)."""

    shift: Tensor

    def __init__(self, linear: nn.Linear, shift: Tensor) -> None:
        super().__init__()
        self.linear = linear
        self.register_buffer("shift", shift)

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits (rows, classes)."""
        return self.linear(features) + self.shift


@final
class CombinedExperts(nn.Module):
    """Experts and the rule that combines their predictions."""

    def __init__(self, experts: ExpertHead, rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.experts, self.rule = experts, rule

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits (rows, classes)."""
        return self.rule(self.experts.branches(features))


@final
class WeighedExperts(nn.Module):
    """Experts and the weight of each (experts,)."""

    weights: Tensor

    def __init__(self, experts: ExpertHead, weights: Tensor) -> None:
        super().__init__()
        self.experts = experts
        self.register_buffer("weights", weights)

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits (rows, classes)."""
        return combine_experts(self.experts.branches(features), self.weights)


def _linear(data: ProbeData, loss: nn.Module) -> nn.Linear:
    fit = partial(fit_linear_probe, loss=loss, num_classes=len(data.counts.names))
    if not len(data.val_labels):
        return fit(data.features, data.labels, l2=data.l2[len(data.l2) // 2]).linear
    rows = np.arange(data.as_they_are or len(data.labels))
    if len(rows) > MOST_TO_SELECT:
        drawn = np.random.default_rng(data.seed).choice(rows, MOST_TO_SELECT, replace=False)
        rows = np.sort(drawn)
    chosen = fit(
        data.features[rows],
        data.labels[rows],
        l2=data.l2,
        validation=(data.val_features, data.val_labels),
        score=data.score,
    )
    if len(rows) == len(data.labels):
        return chosen.linear
    return fit(data.features, data.labels, l2=chosen.l2).linear


def _without_bias(weight: Tensor) -> nn.Linear:
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    head.weight = nn.Parameter(weight)
    return head


def _in_order(scale: Standardisation, head: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(scale=scale, head=head))


def _tensor(rows: Rows) -> Tensor:
    return torch.from_numpy(np.array(rows, dtype=np.float32))  # a mapped file may not be written to


def _scaled(scale: Standardisation, rows: Rows) -> Rows:
    return scale(_tensor(rows)).numpy()


_OTHERS: Final[tuple[Probe, ...]] = (
    _LDAM(),
    _NearestRawMean(),
    _NearestMeanDirection(),
    _NearestCentredDirection(),
    _NearestNeighbours(),
    _PostHoc(),
    _TauNormalised(),
    _Retrained(),
    _LearntScales(),
    _Cosine(),
    _Residual(),
    _SADE(),
    _RIDE(),
    _TLC(),
    _WeighedExperts(),
    _Conv(),
    _FromText(),
    _Own(),
)


def _probes() -> dict[str, Probe]:
    """Return all heads by name, including those for registered losses."""
    under = {
        name: _UnderLoss(name, registry.find("losses", name)) for name in registry.names("losses")
    }
    added = [entry.part for entry in registry.entries("heads").values() if entry.part is not None]
    return {**under, **{probe.name: probe for probe in (*_OTHERS, *(make() for make in added))}}
