"""Merge the arguments of `tailora.fit` (names, specifications, objects) into a recipe."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from peft import PeftConfig
from torch import nn

from tailora.adapters import AdapterSpec
from tailora.adapters.tuners import spec_of
from tailora.backbones import LoadedBackbone
from tailora.config.probe_choice import parse_probe
from tailora.config.recipe import Recipe
from tailora.counts import ClassCounts
from tailora.data import Dataset
from tailora.errors import ConfigError
from tailora.heads.probe import Probe
from tailora.methods.deblora.deblora import DebLoRA
from tailora.objects import Given, as_given
from tailora.runs.run import backbone_given, probe_given
from tailora.samplers.epoch import EpochSampler


@dataclass(frozen=True)
class Arguments:
    """Arguments of `tailora.fit`; None leaves the choice to the recipe."""

    backbone: str | nn.Module | LoadedBackbone | None = None
    adapter: DebLoRA | AdapterSpec | PeftConfig | str | None = None
    loss: str | nn.Module | None = None
    sampler: str | EpochSampler | Any = None
    probe: str | Probe | None = None
    method: str | None = None
    seed: int | None = None


@dataclass
class Asked:
    """A recipe, and the objects that some of its names refer to during the run."""

    recipe: Recipe
    lent: dict[tuple[str, str], Callable[..., Any]] = field(default_factory=dict)

    def name(self, section: str, key: str, options: str, name: str) -> None:
        """Set a name in a section; if it changes, its options return to their defaults."""
        if getattr(getattr(self.recipe, section), key) != name:
            self.take(section, key, options, Given(name, {}, {}))

    def take(self, section: str, key: str, options: str, given: Given) -> None:
        """Set the name and options of an object in a section of the recipe."""
        changed = replace(
            getattr(self.recipe, section), **{key: given.name, options: given.options}
        )
        self.recipe = replace(self.recipe, **{section: changed})
        self.lent |= given.lent


def with_arguments(data: Dataset, recipe: Recipe, given: Arguments) -> Asked:
    """Merge arguments into a recipe.

    Args:
        data: Provides the classes and training labels.
        recipe: All other settings.
        given: The arguments.

    Raises:
        ConfigError: An argument has the wrong type, or an object cannot be used.
    """
    asked = Asked(_with_method(recipe, given))
    counts = data.counts("train")
    if given.backbone is not None:
        _take_backbone(asked, given.backbone)
    if given.loss is not None:
        _take_loss(asked, given.loss, counts)
    if given.sampler is not None:
        _take_sampler(asked, given.sampler, data)
    if given.probe is not None:
        _take_probe(asked, given.probe)
    return asked


def _with_method(recipe: Recipe, given: Arguments) -> Recipe:
    changes: dict[str, Any] = {}
    adapter, method = given.adapter, given.method
    if isinstance(adapter, DebLoRA):
        if method not in (None, "deblora"):
            raise ConfigError(f"method {method!r} takes no DebLoRA adapter; leave one of them out")
        changes |= {"method": "deblora", "adapter": adapter.spec, "deblora": adapter.options}
    elif adapter is not None:
        changes |= {"method": method or "lora", "adapter": _spec(adapter)}
    if method is not None:
        changes["method"] = method
    if given.seed is not None:
        changes["seed"] = given.seed
    return replace(recipe, **changes)


def _spec(adapter: object) -> AdapterSpec:
    if isinstance(adapter, str):
        return AdapterSpec(adapter)
    if isinstance(adapter, PeftConfig):
        return spec_of(adapter)
    if isinstance(adapter, AdapterSpec):
        return adapter
    raise _wrong(
        "adapter", adapter, "the name of a tuner, an AdapterSpec, a PEFT config or a DebLoRA"
    )


def _take_backbone(asked: Asked, given: object) -> None:
    if isinstance(given, str):
        changed = replace(asked.recipe.backbone, name=given)
        asked.recipe = replace(asked.recipe, backbone=changed)
    elif isinstance(given, nn.Module | LoadedBackbone):
        asked.take("backbone", "name", "options", backbone_given(given))
    else:
        raise _wrong("backbone", given, "a name or a torch.nn.Module")


def _take_loss(asked: Asked, given: object, counts: ClassCounts) -> None:
    if isinstance(given, str):
        asked.name("train", "loss", "loss_options", given)
        return
    if not isinstance(given, nn.Module):
        raise _wrong("loss", given, "a name or a torch.nn.Module")
    classes = len(counts.names)
    logits, targets = torch.zeros(2, classes), torch.tensor([0, classes - 1])
    try:
        with torch.random.fork_rng():  # it may draw
            value = copy.deepcopy(given)(logits, targets)
        if not isinstance(value, torch.Tensor) or value.ndim:
            raise ConfigError(f"it returned {type(value).__name__}, not a scalar tensor")
    except Exception as error:  # a foreign loss may raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"loss {type(given).__name__} cannot be called with logits (rows, classes) and targets "
            f"(rows,): {reason}"
        ) from error
    asked.take("train", "loss", "loss_options", as_given("losses", given, facts={"counts": counts}))


def _take_sampler(asked: Asked, given: Any, data: Dataset) -> None:
    train = asked.recipe.train
    if isinstance(given, str):
        asked.name("train", "sampler", "sampler_options", given)
        return
    needed = ("__iter__", "__len__", "set_epoch")
    if isinstance(given, type) or not all(hasattr(given, name) for name in needed):
        raise _wrong("sampler", given, "a name or an object with __iter__, __len__ and set_epoch")
    sampler = copy.deepcopy(given)
    sampler.set_epoch(0)
    rows = len(data.indices("train"))
    beyond = [drawn for drawn in sampler if not 0 <= drawn < rows]
    if beyond:
        raise ConfigError(
            f"sampler {type(given).__name__} draws row {beyond[0]}, but the training split has "
            f"rows 0 to {rows - 1}"
        )
    sampler.set_epoch(0)
    facts = {
        "labels": data.labels[data.indices("train")],
        "batch_size": train.batch_size,
        "epochs": train.epochs,
    }
    usual = {"seed": asked.recipe.seed}
    known = as_given("samplers", sampler, facts=facts, usual=usual)
    asked.take("train", "sampler", "sampler_options", known)


def _take_probe(asked: Asked, given: object) -> None:
    if isinstance(given, str):
        chosen = parse_probe(given)
        asked.take("probe", "loss", "loss_options", Given(chosen.kind, chosen.options, {}))
        asked.recipe = asked.recipe.override(chosen.seen)
    elif isinstance(given, Probe):
        asked.take("probe", "loss", "loss_options", probe_given(given))
    else:
        raise _wrong("probe", given, "a name or a tailora.heads.probe.Probe")


def _wrong(argument: str, given: object, wanted: str) -> ConfigError:
    what = f"the class {given.__name__}; pass an instance" if inspect.isclass(given) else None
    return ConfigError(f"{argument} must be {wanted}, got {what or repr(given)}")
