"""What a recipe alone shows to be wrong, as far as it can be told without importing torch."""

import math
from typing import Final

from tailora import registry
from tailora.backbones.names import check_encoder_name
from tailora.config.recipe import AUTO, EvaluateOptions, Recipe, TrainOptions
from tailora.errors import ConfigError
from tailora.train.schedule import Schedule

_SHELVES: Final = {
    "train.loss": "losses",
    "train.deferred_loss": "losses",
    "train.sampler": "samplers",
    "train.deferred_sampler": "samplers",
    "train.mix": "augment",
    "train.optimizer": "optim",
}
_DETECTORS: Final = {  # what parts of a detector are, what precedes and follows their names
    "train.detector": ("detector", "rotated-", ""),
    "train.box_loss": ("box loss", "", "-loss"),
    "train.presence": ("loss of presence", "", "-presence"),
}
_BESIDES: Final = {  # names that are nothing on the shelf
    "samplers": ("none",),
    "augment": ("none",),
    "optim": (AUTO,),
}


def check_plain(recipe: Recipe) -> None:
    """Reject numbers out of range and names that nothing has.

    Raises:
        ConfigError: The range, or the nearest name, is in the message.
        BackboneError: There is no such folder of an encoder.
    """
    _check_evaluation(recipe.evaluate)
    _check_schedules(recipe)
    _check_averages(recipe.train)
    _check_names(recipe)
    check_encoder_name(recipe.backbone.name)
    l2, patience = recipe.probe.l2, recipe.train.patience
    if not l2 or not all(0 < penalty < math.inf for penalty in l2):
        raise ConfigError(f"probe.l2 must be a list of positive numbers, got {l2}")
    if patience is not None and patience < 0:
        raise ConfigError(
            f"train.patience must be at least 0, got {patience}; 0 switches early stopping off"
        )


def _check_names(recipe: Recipe) -> None:
    chosen = recipe.flat()
    for key, family in _SHELVES.items():
        known = [*registry.names(family), *_BESIDES.get(family, ())]
        if chosen[key] is not None and chosen[key] not in known:
            raise registry.missing(registry.FAMILIES[family], chosen[key], known)
    for key, (what, start, end) in _DETECTORS.items():
        known = [
            name.removeprefix(start).removesuffix(end)
            for name in registry.names("detection")
            if name.startswith(start) and name.endswith(end)
        ]
        if chosen[key] not in known:
            raise registry.missing(what, chosen[key], known)
    if recipe.probe.loss not in registry.head_texts():
        raise registry.missing("probe", recipe.probe.loss, registry.head_texts())


def _check_schedules(recipe: Recipe) -> None:
    train, deblora = recipe.train, recipe.deblora
    for epochs, lr in ((train.epochs, train.lr), (max(deblora.epochs, 1), deblora.lr)):
        Schedule(epochs, train.batch_size, 1.0 if lr is None else lr)  # None: the method decides
        if lr is not None and not math.isfinite(lr):
            raise ConfigError(f"lr must be finite, got {lr}")
    if not 0 <= train.weight_decay < math.inf:
        raise ConfigError(f"train.weight_decay must be at least 0, got {train.weight_decay}")


def _check_averages(train: TrainOptions) -> None:
    if train.soup < 1:
        raise ConfigError(f"train.soup must be at least 1, got {train.soup}")
    ratios = train.soup_ratios
    if ratios and len(ratios) != train.soup:
        raise ConfigError(
            f"train.soup_ratios needs one value for each training of the soup, got {len(ratios)} "
            f"for {train.soup}; set train.soup={len(ratios)}"
        )
    if not all(1 <= ratio < math.inf for ratio in ratios):
        raise ConfigError(f"train.soup_ratios must be finite and at least 1, got {ratios}")
    if not 0 < train.interpolation <= 1:
        raise ConfigError(f"train.interpolation must lie in (0, 1], got {train.interpolation}")
    if train.recut < 0:
        raise ConfigError(f"train.recut must lie in [0, 1], got {train.recut:g}")
    if train.ema is not None and not 0 < train.ema < 1:
        raise ConfigError(f"train.ema must lie in (0, 1), got {train.ema}")


def _check_evaluation(options: EvaluateOptions) -> None:
    if options.replicates < 1 or not 0 < options.confidence < 1:
        raise ConfigError(
            "evaluate.replicates must be at least 1 and evaluate.confidence lie in (0, 1), got "
            f"{options.replicates} and {options.confidence}"
        )
    if options.trust_support < 0 or not 0 <= options.trust_f1 <= 1:
        raise ConfigError(
            "evaluate.trust_support must be at least 0 and evaluate.trust_f1 lie in [0, 1], got "
            f"{options.trust_support} and {options.trust_f1}"
        )
    if not 0 <= options.trust_overconfidence <= 1 or not 0 < options.coverage < 1:
        raise ConfigError(
            "evaluate.trust_overconfidence must lie in [0, 1] and evaluate.coverage in (0, 1), got "
            f"{options.trust_overconfidence} and {options.coverage}"
        )
    if options.balanced_reference is not None and not 0 < options.balanced_reference <= 1:
        raise ConfigError(
            f"evaluate.balanced_reference must lie in (0, 1], got {options.balanced_reference}"
        )
