"""A method: how an encoder is adapted before a head is fitted; one row of a results table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, cast

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tailora import processes, registry
from tailora.backbones import LoadedBackbone
from tailora.backbones.clip_text import text_head
from tailora.config.probe_choice import ProbeChoice, own_probe
from tailora.config.recipe import TRACKERS, Recipe
from tailora.counts import ClassCounts
from tailora.data.targets import pictures_of
from tailora.heads.map_probe import FINER, MapProbe
from tailora.heads.probe import CHOSEN, Logits, Maps, ProbeData, check_kept
from tailora.heads.probes import find_probe
from tailora.methods.deblora.calibrate import Calibration
from tailora.methods.experts import Experts
from tailora.methods.job import Job
from tailora.methods.stages import (
    own_head_file,
    stage_features,
    stage_maps,
    train_once,
    trainable,
)
from tailora.randomness import seeded
from tailora.runs.folder import StageCost
from tailora.runs.weights import OTHER_HEAD, HeadFacts, load_adapted, load_head, save_head
from tailora.storage import read_json, typed, write_json
from tailora.train.base_adaptation import AnyEncoder

_FEW: Final = 4  # images
Rows = NDArray[np.float32]
Classes = NDArray[np.int64]

# recipe sections that affect every method
INPUT = ("data", "backbone", "compute")


@dataclass(frozen=True)
class StageResult:
    """An adapted encoder with a head: the recipe's, or `own`, the one it was trained with.

    Args:
        method: How it was adapted.
        encoder: Adapted.
        head: From features (rows, width) to logits (rows, classes).
        head_name: Name of the head.
        plain: Whether it sees single images through what the encoder was trained through, whatever
            views and layers the recipe has.
    """

    method: "Method"
    encoder: AnyEncoder
    head: nn.Module
    head_name: str
    plain: bool = False


class Method:
    """How an encoder is adapted; subclasses override what differs from training one adapter.

    Attributes:
        name: Name in recipes, run folders and on the command line, e.g. `"lora"`.
        title: Name as its authors write it, for reports.
        summary: What it does, in one line.
        reference: Authors, venue and year.
        advice: What to use it for, if that was measured.
        uses: Recipe sections that change what it trains.
        stands_on: Names of the methods that are trained before it, in order.
        baselines: Whether those are also rows of its results.
        trains: Whether it trains anything but the head.
        has_adapter: Whether it trains the adapter of the recipe.
        learning_rate: Peak learning rate if the recipe has none.
        rate_key: Recipe key of the learning rate of its own training.
        objectives: Whether it can train with a `train.objective` other than labels.
        can_shard: Whether its weights can be divided among processes.
        leaks: Whether its features use the true label: an upper bound, never a result.
        only_compared: Whether only `compare` offers it, not `fit`.
        turns: Whether it can extract features of rotated and flipped images.
        layered: Whether heads can see layers of its encoder other than it was trained through.
        experts: Heads and loss that train the adapter; None for those of the recipe.
        is_ensemble: Whether several encoders score a sample, so that it has no single feature.
        per_image: Whether it needs tasks in which each image is one decision.
        detects: Whether it can train a task's detector with the adapter.
        style: Colour and marker in figures, not inherited; None assigns them by order in the
            figure.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    reference: ClassVar[str] = ""
    advice: ClassVar[str] = ""
    uses: ClassVar[tuple[str, ...]] = (*INPUT, "adapter", "train")
    stands_on: ClassVar[tuple[str, ...]] = ("zero-shot",)
    baselines: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    has_adapter: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    rate_key: ClassVar[str] = "train.lr"
    objectives: ClassVar[bool] = False
    can_shard: ClassVar[bool] = False
    leaks: ClassVar[bool] = False
    only_compared: ClassVar[bool] = False
    turns: ClassVar[bool] = True
    layered: ClassVar[bool] = False
    experts: ClassVar[Experts | None] = None
    is_ensemble: ClassVar[bool] = False
    per_image: ClassVar[bool] = False
    detects: ClassVar[bool] = False
    style: ClassVar[tuple[str, str] | None] = None

    # checks of the recipe

    def acts_on(self, key: str) -> bool:
        """Return whether a recipe key affects its training."""
        if key == TRACKERS or (not self.trains and key in _LEARNING):
            return False
        return key.partition(".")[0] in self.uses

    def check(self, recipe: Recipe, counts: ClassCounts, n_val: int) -> None:
        """Reject a recipe that does not fit the classes.

        Args:
            recipe: As given or resolved.
            counts: Training samples per class.
            n_val: Number of validation samples.

        Raises:
            ConfigError: A name, a range or a size is wrong.
        """

    def check_encoder(self, recipe: Recipe, loaded: LoadedBackbone, rows: int, width: int) -> None:
        """Reject a recipe that does not fit the encoder.

        Args:
            recipe: Resolved.
            loaded: The encoder.
            rows: Number of training samples.
            width: Length of a feature vector.

        Raises:
            ConfigError: An option does not fit.
            BackboneError: The encoder lacks what the method needs.
        """

    def idle_keys(self) -> Sequence[str]:
        """Keys in the sections of `uses` that nevertheless have no effect."""
        return ()

    # the work; each result is saved in the run folder and read from there

    def train(self, job: Job) -> AnyEncoder:
        """Train and return the adapted encoder."""
        raise NotImplementedError(f"{type(self).__name__} trains nothing")

    def adapt(self, job: Job) -> None:
        """Train and save, unless already done; the methods in `stands_on` must be done."""
        if self.trains:
            spec = job.recipe.adapter if self.has_adapter else None
            parameters = trainable(job, spec, len(job.counts.names))
            train_once(job, self.name, lambda: self.train(job), parameters=parameters)

    def find(self, job: Job) -> None:
        """Train the task's detector where `adapt` does not; its features alone need none."""

    def features(
        self, job: Job, split: str, encoder: AnyEncoder | None = None, *, turn: int = 0
    ) -> Rows:
        """Features (rows, width) of a split; see `stage_features`."""
        stage = self.feature_stage(job)
        if stage != self.name:
            encoder = None  # is that of its own stage
        return np.asarray(stage_features(job, stage, split, encoder, turn=turn))

    def feature_stage(self, job: Job) -> str:
        """Name of the stage whose features it has."""
        return self.name

    def training_set(self, job: Job) -> tuple[Rows, Classes]:
        """Features (rows, width) and class indices (rows,) that a head is fitted on."""
        return self.features(job, "train"), job.decisions("train").labels

    def moves(self, recipe: Recipe) -> bool:
        """Whether rows of `training_set` are others than its features of these images."""
        return False

    def with_head(self, job: Job) -> StageResult:
        """Fit the recipe's head on its features, or read the saved one."""
        folder = job.folder.stage(self.name)
        encoder = load_adapted(job.encoder, folder)
        together = ("test",) if job.accelerator.num_processes > 1 else ()  # while all take part
        _, val, *_ = [self.features(job, s, encoder) for s in ("train", "val", *together)]
        probe = own_probe(job.recipe)
        return StageResult(self, encoder, _kept_head(job, self, probe, val), probe.kind)

    def shares(
        self, job: Job, fit: Callable[[Rows, Classes, Rows], Logits], splits: Sequence[str]
    ) -> list[Rows]:
        """Class probabilities (rows, classes) of an ensemble, per split.

        Args:
            job: The run.
            fit: Fits a head on training features, their classes and validation features.
            splits: Splits to predict; besides training and validation no other is read.
        """
        raise NotImplementedError(f"{type(self).__name__} is not an ensemble")

    def other_head(self, job: Job, name: str) -> nn.Module:
        """Fit another head than the recipe's on its features, in the first process alone."""
        probe = ProbeChoice(name, name, job.task.head_options(name))
        path, facts = _fit_once(job, self, probe, self.features(job, "val"), OTHER_HEAD)
        return load_head(path, classes=facts.classes, features=facts.width)

    def has_own_head(self, recipe: Recipe) -> bool:
        """Whether its training has a linear head, with which it can be evaluated too."""
        return False

    def own_head(self, job: Job) -> nn.Module | None:
        """Read the linear head that it was trained with; None if none was saved."""
        path = own_head_file(job, self.name)
        if not path.is_file():
            return None
        return load_head(path, classes=len(job.counts.names), features=job.encoder.features)

    def calibration(self, job: Job) -> Calibration | None:
        """Clusters and moved features; None unless the method de-biases features."""
        return None

    # costs

    def own_costs(self, job: Job) -> list[StageCost]:
        """Costs of its own stages."""
        return job.folder.costs(self.name).entries()

    def costs(self, job: Job) -> list[StageCost]:
        """Costs of its stages and of those of the methods it builds on."""
        before = [entry for method in stood_on(self) for entry in method.own_costs(job)]
        return before + self.own_costs(job)

    def trained_parameters(self, spent: Sequence[StageCost]) -> int:
        """Trained parameters of the largest stage; 0 if only the head was trained.

        Args:
            spent: Returned by `costs`.
        """
        return max((entry.trained_parameters for entry in spent), default=0)

    def stages(self) -> tuple[str, ...]:
        """Names of the methods whose folders it reads or writes, in the order they run."""
        return (*self.stands_on, self.name)


# keys of the sections in INPUT that only affect training
_LEARNING = {
    "backbone.new_bands_rate", "compute.micro_batch", "compute.checkpointing", "compute.compile",
    "compute.shard",
}  # fmt: skip


def find_method(name: str) -> Method:
    """Return the method called `name`.

    Raises:
        ConfigError: There is none; the message has the closest name.
    """
    return registry.find("methods", name)()


def stood_on(method: Method) -> list[Method]:
    """Methods that are trained before this one, in order."""
    return [find_method(name) for name in method.stands_on]


def adapt_all(job: Job, method: Method) -> None:
    """Train a method and those it builds on, unless already done."""
    for stage in (*stood_on(method), method):
        stage.adapt(job)


def run_method(job: Job) -> list[StageResult]:
    """Run the recipe's method and those it builds on; return the rows of its results.

    The first row is the adapter with the head it was trained with, if it has one: ordinary
    fine-tuning.
    """
    method = find_method(job.recipe.method)
    results = []
    for stage in (*stood_on(method), method):
        stage.adapt(job)
        if stage.name == method.name:
            stage.find(job)
        if stage.name == method.name or method.baselines:
            results.append(stage.with_head(job))
        elif _starts_training(job):
            starting_probe(job)
    ordinary = [row for result in results for row in _with_own_head(job, result)]
    return [*ordinary, *(results if method.baselines else results[-1:])]


def _starts_training(job: Job) -> bool:
    """Whether training starts from the recipe's head on pretrained features, shown or not."""
    return not find_probe(job.recipe.probe.loss).own and job.recipe.train.head_start == "probe"


def _with_own_head(job: Job, result: StageResult) -> list[StageResult]:
    own = result.method.own_head(job)
    if own is None or result.head_name == registry.OWN_HEAD:
        return []
    return [replace(result, head=own, head_name=registry.OWN_HEAD, plain=True)]


def fit_head(
    job: Job,
    probe: ProbeChoice,
    train: Rows,
    labels: Classes,
    val: Rows,
    *,
    views: tuple[Rows, Rows] | None = None,
    own: nn.Module | None = None,
    maps: tuple[Maps, Maps] | None = None,
    moved: bool = False,
) -> nn.Module:
    """Fit a head; its hyperparameters are chosen on validation.

    Args:
        job: The run.
        probe: Which head.
        train: Features (rows, width).
        labels: Their class indices (rows,).
        val: Features of the validation rows (rows, width); no rows without that split.
        views: Features of two views of the images to predict; see `ProbeData`.
        own: The head that the features were trained with.
        maps: From `head_maps`.
        moved: From `Method.moves`.

    Returns:
        A module from features (rows, width) to logits (rows, classes); see also `Probe.maps`.
    """
    train_maps, val_maps = maps or (None, None)
    data = ProbeData(
        features=train,
        labels=labels,
        val_features=val,
        val_labels=job.decisions("val").labels,
        counts=job.counts,
        groups=job.groups,
        score=partial(job.task.score, num_classes=len(job.counts.names)),
        seed=job.recipe.seed,
        l2=tuple(job.recipe.probe.l2),
        as_they_are=len(job.decisions("train")),
        views=views,
        own=own,
        maps=train_maps,
        val_maps=val_maps,
        moved=moved,
        text=partial(text_head, job.loaded, job.counts.names, features=train),
    )
    with seeded(job.recipe.seed):  # third-party heads may draw from the global generator
        return find_probe(probe.kind).fit(data, probe.options)


def head_rows(
    job: Job, method: Method, as_it_is: tuple[Rows, Classes] | None = None
) -> tuple[Rows, Classes]:
    """Training set of a head: that of the method, in all views that the recipe asks for.

    Args:
        job: The run.
        method: The method.
        as_it_is: Its training set if it is at hand; debLoRA may have to cluster for it.
    """
    rows, labels = method.training_set(job) if as_it_is is None else as_it_is
    views = range(1, job.recipe.probe.views or 1)
    if not views:
        return rows, labels
    turned = [method.features(job, "train", turn=turn) for turn in views]
    own = job.decisions("train").labels
    return np.concatenate([rows, *turned]), np.concatenate([labels, *[own] * len(turned)])


def head_maps(job: Job, method: Method, probe: ProbeChoice) -> tuple[Maps, Maps] | None:
    """Training and validation images with features at every place; None if the head sees rows."""
    head = find_probe(probe.kind)
    if not head.maps:
        return None
    stage, finer = method.feature_stage(job), None
    if isinstance(head, MapProbe) and head.fine:
        grid = (*job.grid[:-2], *(FINER * side for side in job.grid[-2:]))
        finer = job.task.targets(job.dataset, grid, fit=job.recipe.data.resize)
    train, val = (
        Maps(
            stage_maps(job, stage, split),
            job.targets[rows],
            None if finer is None else finer[rows],
            bands=len(job.input.mean) if job.recipe.probe.detail == "stem" else 0,
            pictures=None
            if job.dataset.targets is None
            else pictures_of(job.dataset.targets)[rows],
        )
        for split in ("train", "val")
        for rows in (job.dataset.indices(split),)
    )
    return train, val


def seeing(job: Job, features: Mapping[str, Any]) -> Job:
    """Return the same run with heads that see other features.

    Args:
        job: The run.
        features: Values for `probe.views`, `probe.layers`, `probe.detail` and `probe.smoothing`.
    """
    return replace(job, recipe=job.recipe.override(features)) if features else job


PLAIN: Final[Mapping[str, Any]] = MappingProxyType(
    {"probe.views": 1, "probe.layers": [], "probe.detail": "none", "probe.smoothing": 0.0}
)
"""What an encoder is trained through: single images as they are, and its own features."""


def head_options(job: Job, method: Method) -> dict[str, Any]:
    """Options of the head fitted on a method's features, including those chosen on validation.

    Raises:
        RunError: The saved options are damaged.
    """
    path = job.folder.stage(method.name) / "head.options.json"
    if not path.is_file():  # fitted by version 0.1
        return dict(job.recipe.probe.loss_options)
    return typed(dict[str, Any], read_json(path), path)


def starting_probe(job: Job) -> nn.Linear:
    """Return the linear head on pretrained features that training starts from.

    The recipe's probe if it is a linear layer trained with a loss, otherwise a logit-adjusted one
    as the task has it; of images as they are, since eight views would cost more than they could
    change here.
    """
    pretrained = find_method("zero-shot")
    probe = job.recipe.probe
    is_plain = (probe.views or 1) == 1 and not probe.layers and probe.detail == "none"
    if find_probe(probe.loss).is_linear and is_plain:
        return cast("nn.Linear", pretrained.with_head(job).head)
    usual = Recipe().probe.loss
    chosen = (
        own_probe(job.recipe)
        if find_probe(probe.loss).is_linear
        else ProbeChoice(usual, usual, job.task.head_options(usual))
    )
    plain = seeing(job, PLAIN)
    val = pretrained.features(plain, "val")
    return cast("nn.Linear", _kept_head(plain, pretrained, chosen, val, name="start"))


def _kept_head(
    job: Job, method: Method, probe: ProbeChoice, val: Rows, *, name: str = "head"
) -> nn.Module:
    """Fit a head and save it in the method's folder, or read the saved one."""
    path, facts = _fit_once(job, method, probe, val, name)
    processes.wait(job.accelerator)
    return load_head(path, classes=facts.classes, features=facts.width)


def _fit_once(
    job: Job, method: Method, probe: ProbeChoice, val: Rows, name: str
) -> tuple[Path, HeadFacts]:
    """Fit a head and save it, unless that was done; return its file."""
    path = job.folder.stage(method.name) / f"{name}.safetensors"
    facts = HeadFacts(probe.kind, probe.options, job.head_encoder.features, len(job.counts.names))
    if job.folder.writes and not path.is_file():
        train, labels = head_rows(job, method)
        with job.folder.costs(method.name).measure("probe" if name == "head" else f"{name} probe"):
            maps = head_maps(job, method, probe)
            own, moved = method.own_head(job), method.moves(job.recipe)
            head = fit_head(job, probe, train, labels, val, own=own, maps=maps, moved=moved)
        options = getattr(head, CHOSEN, probe.options)
        seen = train if maps is None else np.asarray(maps[0].features[:_FEW])
        check_kept(find_probe(probe.kind), head, seen, facts.classes, options)
        write_json(path.with_suffix(".options.json"), options)
        save_head(head, path, replace(facts, options=options))
    return path, facts
