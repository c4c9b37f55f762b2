"""cLoRA: one LoRA per class, and two ways to use them together.

The paper gives each class its own LoRA but does not say how to choose among them at test time; the
authors' scripts take the adapter of the *true* class, which leaks the label. Here all adapters are
applied to every image and each scores its own class (`clora`); the leaking variant is run only by
name (`clora-oracle`) and marked as leaking in every table.

Reference: "cLoRA" in Tian, Chen, Sun, NeurIPS 2024, table 1; training each class against the others
is our reading, since a classifier needs negatives.
"""

from collections.abc import Callable, Sequence
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tailora.heads.linear_probe import zero_linear
from tailora.heads.probe import Logits
from tailora.methods.deblora.chosen_pull import Validation
from tailora.methods.deblora.stages import calibrate_features, learn_calibrated
from tailora.methods.job import Job
from tailora.methods.method import INPUT, Classes, Method, Rows
from tailora.methods.stages import stage_features, stage_folder, train_once, trainable
from tailora.methods.training_parts import training_augmentation, training_optimizer
from tailora.runs.folder import StageCost
from tailora.runs.weights import load_adapted
from tailora.train.base_adaptation import AnyEncoder, adapt_to_labels
from tailora.train.objectives import of_images

_FEWEST_OTHERS: Final = 64  # negatives, so that a rare class is not trained against only a few
_CLORA: Final = "clora"


def part(method: str, category: int) -> str:
    """Name the stage of the adapter of one class."""
    return f"{method}/{category}"


class CLoRA(Method):
    """One LoRA per class, each scoring its own class."""

    name = "clora"
    title = "cLoRA"
    summary = "one LoRA per class, each scoring its own class"
    reference = "Tian et al., NeurIPS 2024"
    stands_on = ()
    only_compared = True
    turns = False
    is_ensemble = True
    per_image = True

    def adapt(self, job: Job) -> None:
        """Train the adapter of every class."""
        for category in range(len(job.counts.names)):
            train_once(
                job,
                part(self.name, category),
                lambda c=category: self.train_category(job, c),
                parameters=trainable(job, job.recipe.adapter, 2),
            )

    def train_category(self, job: Job, category: int) -> AnyEncoder:
        """Train one class against the others."""
        return _one_category(job, category)

    def shares(
        self, job: Job, fit: Callable[[Rows, Classes, Rows], Logits], splits: Sequence[str]
    ) -> list[Rows]:
        """Score each class with its own adapter, and take a softmax over the scores."""
        labels = job.labels[job.dataset.indices("train")]
        scores: dict[str, list[torch.Tensor]] = {split: [] for split in splits}
        for category in range(len(job.counts.names)):
            stage = part(self.name, category)
            rows = {s: np.asarray(stage_features(job, stage, s)) for s in ("train", "val", *splits)}
            logits = fit(rows["train"], labels, rows["val"])
            for split, found in scores.items():
                own = torch.from_numpy(logits(rows[split]))
                found.append(own.log_softmax(dim=1)[:, category])
        return [torch.stack(found, dim=1).softmax(dim=1).numpy() for found in scores.values()]

    def own_costs(self, job: Job) -> list[StageCost]:
        """Costs of the adapters of all classes."""
        return _spent(job, self.name)

    def trained_parameters(self, spent: Sequence[StageCost]) -> int:
        """Number of parameters of the final adapters of all classes."""
        own = [entry for entry in spent if entry.method.startswith(f"{self.stages()[-1]}/")]
        return sum(entry.trained_parameters for entry in own)

    def idle_keys(self) -> Sequence[str]:
        """Keys that do not change how one class is trained against the others."""
        return (
            "train.sampler", "train.loss", "train.objective", "train.mix", "train.deferred",
            "train.patience", "train.head_start", "train.soup", "train.soup_ratios",
            "train.interpolation", "probe.smoothing",
        )  # fmt: skip


@final
class CLoRADebLoRA(CLoRA):
    """cLoRA whose adapters are de-biased one by one."""

    name = "clora+deblora"
    title = "cLoRA + debLoRA"
    summary = "cLoRA whose adapters are de-biased one by one"
    uses = (*INPUT, "adapter", "train", "deblora", "evaluate")
    stands_on = ("clora",)
    only_compared = True
    rate_key = "deblora.lr"

    def train_category(self, job: Job, category: int) -> AnyEncoder:
        """De-bias the adapter of one class."""
        return _debiased_category(job, category)

    def idle_keys(self) -> Sequence[str]:
        """Those of cLoRA; also, there is one round, and the head is fitted on features."""
        return (*super().idle_keys(), "deblora.rounds", "deblora.head")


@final
class CLoRAOracle(CLoRA):
    """cLoRA with the adapter of the true class: leaks the label."""

    name = "clora-oracle"
    title = "cLoRA (oracle)"
    summary = "cLoRA with the adapter of the true class: leaks the label, marked as such"
    leaks = True
    only_compared = True
    is_ensemble = False

    def adapt(self, job: Job) -> None:
        """Train the adapters of cLoRA."""
        CLoRA().adapt(job)

    def features(
        self, job: Job, split: str, encoder: AnyEncoder | None = None, *, turn: int = 0
    ) -> Rows:
        """Features of every sample from the adapter of its true class. This leaks the label."""
        labels = job.labels[job.dataset.indices(split)]
        chosen = np.empty((len(labels), job.encoder.features), dtype=np.float32)
        for category in np.unique(labels):
            rows = labels == category
            chosen[rows] = stage_features(job, part(_CLORA, int(category)), split)[rows]
        return chosen

    def own_costs(self, job: Job) -> list[StageCost]:
        """Costs of cLoRA."""
        return _spent(job, _CLORA)

    def stages(self) -> tuple[str, ...]:
        """Only cLoRA: it has no folder of its own."""
        return (_CLORA,)


def _spent(job: Job, method: str) -> list[StageCost]:
    return [
        entry
        for category in range(len(job.counts.names))
        for entry in job.folder.costs(part(method, category)).entries()
    ]


def _one_category(job: Job, category: int) -> AnyEncoder:
    rows = _against_others(job, category)
    return adapt_to_labels(
        job.encoder,
        job.context,
        rows,
        (job.labels == category).astype(np.int64),
        spec=job.recipe.adapter,
        schedule=job.schedule,
        loss=nn.CrossEntropyLoss(),
        head=zero_linear(job.encoder.features, 2),
        augment=of_images(training_augmentation(job.recipe)),
        optimizer=training_optimizer(job.recipe.train),
        stage=stage_folder(job, part(_CLORA, category)),
    )


def _debiased_category(job: Job, category: int) -> AnyEncoder:
    rows = job.dataset.indices("train")
    base = part(_CLORA, category)
    source = np.asarray(stage_features(job, base, "train"))
    found = calibrate_features(
        job.recipe.deblora,
        source,
        job.labels[rows],
        names=job.counts.names,
        groups=job.groups,
        seed=job.recipe.seed,
        device=job.accelerator.device,
        validation=_validation(job, base),
    )
    return learn_calibrated(
        job.encoder,
        lambda: load_adapted(job.encoder, job.folder.stage(base), trainable=True),
        job.context,
        job.decisions("train"),
        found,
        source,
        options=job.recipe.deblora,
        spec=job.recipe.adapter,
        batch_size=job.recipe.train.batch_size,
        micro_batch=job.recipe.compute.micro_batch,
        stage=stage_folder(job, part(CLoRADebLoRA.name, category), rate=CLoRADebLoRA.rate_key),
    )


def _validation(job: Job, name: str) -> Validation:
    labels = job.labels[job.dataset.indices("val")]
    return np.asarray(stage_features(job, name, "val")), labels


def _against_others(job: Job, category: int) -> NDArray[np.int64]:
    """All rows of a class, and as many others (at least 64, if there are) drawn class-balanced."""
    rows = job.dataset.indices("train")
    own = rows[job.labels[rows] == category]
    others = rows[job.labels[rows] != category]
    weights = 1.0 / job.counts.array()[job.labels[others]]
    wanted = min(len(others), max(len(own), _FEWEST_OTHERS))
    drawn = np.random.default_rng([job.recipe.seed, category]).choice(
        others, size=wanted, replace=False, p=weights / weights.sum()
    )
    return np.sort(np.concatenate([own, drawn]))
