"""What a comparison does: adapters, probes and seeds as separate axes, checked before any work."""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tailora import registry
from tailora.backbones import LoadedBackbone
from tailora.config.probe_choice import ProbeChoice, own_probe, parse_probe
from tailora.config.recipe import Recipe, parse_assignment, recipe_keys
from tailora.counts import ClassCounts
from tailora.errors import ConfigError, unknown_name
from tailora.heads.probes import find_probe, probe_names
from tailora.methods.checks import (
    UPSAMPLE,
    check_choices,
    check_own_head,
    check_probe,
    check_task,
)
from tailora.methods.method import PLAIN, Method, find_method
from tailora.tasks.task import find_task

BASELINE: Final = "lora"
SEEDLESS: Final = "zero-shot"  # what no seed changes, and most stand on
DEFAULT_METHODS: Final = ("zero-shot", "lora", "deblora")

# the rows of the paper's tables, by name
TABLES: Final[dict[str, dict[str, Any]]] = {
    "ablation": {
        "methods": ["zero-shot", "fine-tune", "clora", "clora+deblora", "lora", "deblora",
                    "lora+reslt"],
    },
    "ranks": {"methods": ["lora", "deblora"], "vary": {"adapter.rank": [8, 16, 32, 64]}},
    "clusters": {
        "methods": ["lora", "deblora"], "vary": {"deblora.clusters": [8, 16, 32, 64, 128]},
    },
    "geometry": {"methods": ["fine-tune", "lora", "deblora"]},
}  # fmt: skip

# beside every loss and sampler by its name, after a method and a plus
SHORT: Final[dict[str, dict[str, Any]]] = {
    "reweight": {"train.loss": "class-balanced"},
    "ecm": {"train.loss": "effective-class-margin"},
}

_PROBE: Final = "probe."
_TRAIN: Final = "train."
_COMMA: Final = re.compile(r",(?![^\[]*\])")
_SEEN: Final = (*PLAIN, "probe.neighbours")  # by heads alone; training starts from plain features


@dataclass(frozen=True)
class Adaptation:
    """One value of the adapter axis.

    Args:
        name: As shown, e.g. `"deblora [deblora.clusters=8]"`.
        method: Its name; any that `registry.compared_methods` gives.
        changes: What was varied, by recipe key.
        recipe: With these changes; its method is the nearest one that `fit` knows.
        tuned: What was chosen on validation beside them, by recipe key.
        has_own_head: Whether it is trained with a linear head, which can be evaluated too.
    """

    name: str
    method: str
    changes: dict[str, Any]
    recipe: Recipe
    tuned: dict[str, Any] = field(default_factory=dict)
    has_own_head: bool = False

    def with_tuned(self, values: Mapping[str, Any]) -> "Adaptation":
        """The same row with some chosen values, under a name that tells them."""
        tuned = dict(values)
        return replace(
            self,
            name=_row_name(self.method, self.changes | tuned),
            recipe=self.recipe.override(tuned),
            tuned=tuned,
        )


@dataclass(frozen=True)
class Plan:
    """All rows of a comparison: every adaptation under every probe, over all seeds."""

    recipe: Recipe
    adaptations: tuple[Adaptation, ...]
    probes: tuple[ProbeChoice, ...]
    seeds: tuple[int, ...]

    def probes_of(self, row: Adaptation) -> list[ProbeChoice]:
        """Heads that a row is evaluated with: `own` only where it is trained with one."""
        return [p for p in self.probes if not find_probe(p.kind).own or row.has_own_head]

    @property
    def main_probe(self) -> ProbeChoice:
        """The first head that is fitted; beside it, `own` is only shown."""
        fitted = [probe for probe in self.probes if not find_probe(probe.kind).own]
        return (fitted or list(self.probes))[0]

    @property
    def ordinary(self) -> tuple[str, str] | None:
        """Row and probe of ordinary fine-tuning: the first LoRA with its own head, if any."""
        own = [probe.name for probe in self.probes if find_probe(probe.kind).own]
        rows = [row for row in self.adaptations if row.method == BASELINE and row.has_own_head]
        return (rows[0].name, own[0]) if rows and own else None

    def baseline_of(self, adaptation: Adaptation) -> Adaptation | None:
        """The LoRA that an adaptation is compared with: with the same changes, as far as any."""
        rows = [a for a in self.adaptations if a.method == BASELINE and a is not adaptation]
        shared = [a for a in rows if a.changes.items() <= adaptation.changes.items()]
        return max(shared, key=lambda a: len(a.changes), default=None)


def make_plan(
    recipe: Recipe,
    *,
    methods: Sequence[str],
    probes: Sequence[str],
    variants: Sequence[Mapping[str, Any]],
    seeds: int,
) -> Plan:
    """Lay out a comparison.

    Args:
        recipe: Everything the rows share.
        methods: Names that `registry.compared_methods` gives, alone or as `METHOD+PART` with a loss
            or sampler of training, or one of `SHORT`; twice is once.
        probes: `name` or `name:option=value:...`; `all` is every probe that any encoder has; empty
            is the recipe's, beside the own head of what is trained with one.
        variants: Changes to the recipe, each a mapping from recipe keys to values; empty is the
            recipe as it is. A method takes the changes that act on it, so it may be there once
            only.
        seeds: Number of seeds, counted up from the recipe's.

    Raises:
        ConfigError: An unknown method, probe or key (the nearest is named), a key that acts on no
            method of the comparison, or no seed.
    """
    if seeds < 1:
        raise ConfigError(f"seeds must be at least 1, got {seeds}")
    asked = {name: _read_method(name) for name in methods}
    found = [find_method(name) for name, _ in asked.values()]
    if not methods:
        raise ConfigError("a comparison needs at least one method; name some with --methods")
    if recipe.train.trackers:
        raise ConfigError(
            "train.trackers logs a single run of `tailora fit`; a comparison keeps the history of "
            "every stage in its folder: leave it out"
        )
    for key in {key for changes in variants for key in changes}:
        if key not in _SEEN and not any(method.acts_on(key) for method in found):
            raise ConfigError(f"{key} acts on none of {', '.join(methods)}; vary something else")
    recipe = _with_features_of_all(recipe, found)
    # few encoders read text, few methods have a head of their own, and few tasks have maps
    known = {name: find_probe(name) for name in probe_names()}
    task = find_task(recipe.task)
    unfit = {
        name for name, probe in known.items()
        if probe.text or probe.own or (probe.maps and task.per_image)
        or (probe.transitions and not task.transitions)
    }  # fmt: skip
    every = [name for name in known if name not in unfit]
    listed = [name for text in probes for name in (every if text == "all" else [text])]
    adaptations = [
        _adaptation(recipe, method, {**changes, **own})
        for method, own in asked.values()
        for changes in variants or [{}]
    ]
    chosen = [parse_probe(text) for text in listed]
    has_own = any(row.has_own_head for row in adaptations)
    if not chosen:
        own = [parse_probe(registry.OWN_HEAD)] if has_own else []
        chosen = [*own, own_probe(recipe)]
    if not has_own and any(find_probe(probe.kind).own for probe in chosen):
        check_own_head(found[0], adaptations[0].recipe)
    usual = find_task(recipe.task).head_options
    chosen = [replace(probe, options=usual(probe.kind) | probe.options) for probe in chosen]
    return Plan(
        recipe=recipe,
        adaptations=tuple({row.name: row for row in adaptations}.values()),
        probes=tuple({probe.name: probe for probe in chosen}.values()),
        seeds=tuple(range(recipe.seed, recipe.seed + seeds)),
    )


def _with_features_of_all(recipe: Recipe, methods: Sequence[Method]) -> Recipe:
    """Leave out layers that some methods do not have by default: features of one kind."""
    of_images = find_task(recipe.task).per_image
    lacks = [(method.trains and of_images) or not method.layered for method in methods]
    if recipe.probe.layers is None and any(lacks):
        return recipe.override({"probe.layers": []})
    return recipe


def split_names(text: str) -> list[str]:
    """Names between commas, blanks left out; commas in brackets are part of an option's value.

    Example:
        >>> split_names("own, knn:k=5,logit-adjusted:layers=[6,9,-1]")
        ['own', 'knn:k=5', 'logit-adjusted:layers=[6,9,-1]']
    """
    return [name.strip() for name in _COMMA.split(text) if name.strip()]


def rows_of(methods: Sequence[str], table: str | None) -> tuple[list[str], dict[str, list[Any]]]:
    """Methods and varied keys of a table of the paper, with further methods after its own.

    Raises:
        ConfigError: No such table.
    """
    if table is None:
        return list(methods) or list(DEFAULT_METHODS), {}
    if table not in TABLES:
        raise unknown_name("table", table, TABLES)
    chosen = TABLES[table]
    return [*chosen["methods"], *methods], dict(chosen.get("vary", {}))


def parse_vary(text: str) -> tuple[str, list[Any]]:
    """Read `key=value,value`; values are TOML, or else bare words.

    Raises:
        ConfigError: There is no `=`, no value, or the key is unknown.

    Example:
        >>> parse_vary("adapter.rank=8,16")
        ('adapter.rank', [8, 16])
    """
    key, equals, values = text.partition("=")
    listed = split_names(values)
    if not equals or not listed:
        raise ConfigError(f"--vary takes key=value,value, got {text!r}")
    return key.strip(), [parse_assignment(f"{key}={value}")[1] for value in listed]


def check_plan_choices(plan: Plan) -> None:
    """Reject what the plan alone shows to be wrong, before data or an encoder are read.

    Raises:
        ConfigError: See `check_choices`; or an option that a row would ignore.
    """
    for probe in plan.probes:
        check_probe(probe)
    _check_one_size(plan)
    for row in plan.adaptations:
        check_choices(row.recipe)
        for probe in plan.probes:
            check_choices(row.recipe.override(probe.seen))
        check_task(row.recipe, find_task(row.recipe.task), row.method)
        _check_idle(row, plan.probes)


def check_plan(plan: Plan, counts: ClassCounts) -> None:
    """Reject probes that do not fit the classes, and options that a row would ignore.

    Raises:
        ConfigError: An unknown probe, or options it does not have.
    """
    check_plan_choices(plan)
    for probe in plan.probes:
        find_probe(probe.kind).check(probe.options, counts)


def _check_one_size(plan: Plan) -> None:
    """Reject images at twice their usual side for some rows: what they decide about differs."""
    rows = {row.recipe.probe.detail for row in plan.adaptations}
    named = {probe.detail for probe in plan.probes if probe.detail is not None}
    if UPSAMPLE in rows | named and (len(rows) > 1 or named):
        raise ConfigError(
            f"detail={UPSAMPLE!r} sets the size of images, and rows are compared on images of one "
            f"size: give it to all with --set probe.detail={UPSAMPLE}, or make a comparison for "
            "each --image-size"
        )


def _check_idle(row: Adaptation, probes: Sequence[ProbeChoice]) -> None:
    """Reject what a method would silently leave out."""
    method, known = find_method(row.method), recipe_keys()
    for probe in probes:
        if find_probe(probe.kind).views and not method.turns:
            raise ConfigError(
                f"probe {probe.kind!r} needs two views of each image under one adapter, which "
                f"{row.method} does not give; leave one of them out"
            )
    flat = row.recipe.flat()
    for key in method.idle_keys():
        if flat[key] != known[key]:
            raise ConfigError(
                f"{key}={flat[key]!r} has no effect for {row.method}, whose adapters each learn "
                "one category against the others; leave one of them out"
            )


def stage_key(
    recipe: Recipe,
    method: str,
    *,
    fingerprint: str,
    loaded: LoadedBackbone,
    detector: bool = False,
) -> str:
    """Name what a stage depends on: equal keys are equal stages and are done once.

    Args:
        recipe: Resolved, of any method that stands on this one.
        method: The stage.
        fingerprint: Of the dataset.
        loaded: The encoder.
        detector: Whether it holds a detector too that was trained by itself, as the recipe says.
    """
    defaults, of = recipe_keys(), find_method(method)
    starts_at_probe = recipe.train.head_start == "probe"  # of stage 0, on pretrained features
    kept = {
        key: value
        for key, value in recipe.flat().items()
        if (
            of.acts_on(key)
            or key == "task"
            or (key.startswith(_PROBE) and starts_at_probe)
            or (detector and key.startswith(_TRAIN))
        )
        and value != defaults[key]
        and key not in _SEEN
    }
    if method != SEEDLESS or detector:
        kept["seed"] = recipe.seed
    facts = [method, fingerprint, loaded.sha256, kept]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def every_combination(vary: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Combine each value of each key with each of the others.

    Example:
        >>> every_combination({"a": [1, 2], "b": [3]})
        [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    return [dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())]


def _read_method(name: str) -> tuple[str, dict[str, Any]]:
    """Name of a method, and the changes of its training that follow a plus.

    Raises:
        ConfigError: Unknown method or part.
    """
    method, plus, part = name.rpartition("+")
    if not plus or name in registry.compared_methods():
        return name, {}
    known = {
        **{one: {"train.sampler": one} for one in registry.names("samplers")},
        **{one: {"train.loss": one} for one in registry.names("losses")},
        **SHORT,
    }
    if part not in known:
        raise unknown_name("part of a method", part, known)
    changes = known[part]
    if not all(find_method(method).acts_on(key) for key in changes):
        raise ConfigError(f"{name!r}: {next(iter(changes))} acts on no {method}; leave +{part} out")
    return method, changes


def _adaptation(recipe: Recipe, method: str, variant: Mapping[str, Any]) -> Adaptation:
    of = find_method(method)
    changes = {key: value for key, value in variant.items() if key in _SEEN or of.acts_on(key)}
    fitted = BASELINE if of.only_compared else method
    recipe = replace(recipe, method=fitted).override(changes)
    plain = all(PLAIN.get(key, value) == value for key, value in changes.items())
    own = of.has_own_head(recipe) and plain  # which sees plain features, so once is enough
    return Adaptation(_row_name(method, changes), method, changes, recipe, has_own_head=own)


def _row_name(method: str, changes: Mapping[str, Any]) -> str:
    return f"{method} [{', '.join(f'{k}={v}' for k, v in changes.items())}]" if changes else method
