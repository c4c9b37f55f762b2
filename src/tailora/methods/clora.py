"""cLoRA: one LoRA per category, and the two ways to use many adapters at once.

The public description gives a category its own LoRA but no way to choose among them at test time;
the authors' scripts take the adapter of the *true* class, which leaks the label. Here all adapters
look at every image and each answers for its own category (`clora`); the leaking way is done only
by name (`clora-oracle`) and marked wherever it is shown.

Reference: "cLoRA" in Tian, Chen, Sun, NeurIPS 2024, table 1; training one category against the
others is our reading, since a classifier needs something to tell it from.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from tailora.heads.linear_probe import zero_linear
from tailora.methods.deblora.chosen_pull import Validation
from tailora.methods.deblora.stages import calibrate_features, learn_calibrated
from tailora.methods.job import Job
from tailora.methods.stage_features import features
from tailora.methods.stages import checkpoint, train_once, trainable
from tailora.methods.training_parts import training_optimizer
from tailora.runs.weights import load_adapted
from tailora.train.base_adaptation import AnyEncoder, adapt_to_labels

_FEWEST_OTHERS: Final = 64  # images of other categories, so that a rare one is not told from five

Rows = NDArray[np.float32]
Logits = Callable[[Rows], Rows]


def part(method: str, category: int) -> str:
    """Name the stage of one category's adapter."""
    return f"{method}/{category}"


def adapt_categories(job: Job, method: str) -> None:
    """Train the adapter of every category (`clora`), or de-bias each (`clora+deblora`)."""
    for category in range(len(job.counts.names)):
        _train(job, part("clora", category), lambda c=category: _one_category(job, c))
        if method == "clora+deblora":
            _train(job, part(method, category), lambda c=category: _debiased_category(job, c))


def ensemble(
    job: Job, method: str, fit: Callable[[Rows, Rows], Logits], splits: Sequence[str]
) -> list[Rows]:
    """Let each category's adapter answer for its own category, and combine by score.

    Args:
        job: The run.
        method: `"clora"` or `"clora+deblora"`.
        fit: Fits a probe on training and validation features.
        splits: Which to answer for; no other is read, beside those that are learnt from.

    Returns:
        Probabilities of each split, (rows, classes).
    """
    scores: dict[str, list[torch.Tensor]] = {split: [] for split in splits}
    for category in range(len(job.counts.names)):
        name = part(method, category)
        rows = {s: np.asarray(features(job, name, s)) for s in ("train", "val", *splits)}
        logits = fit(rows["train"], rows["val"])
        for split, found in scores.items():
            own = torch.from_numpy(logits(rows[split]))
            found.append(own.log_softmax(dim=1)[:, category])
    return [torch.stack(found, dim=1).softmax(dim=1).numpy() for found in scores.values()]


def oracle_features(job: Job, split: str) -> Rows:
    """Features of every sample under the adapter of its true category. This leaks the label."""
    labels = job.labels[job.dataset.indices(split)]
    chosen = np.empty((len(labels), job.encoder.features), dtype=np.float32)
    for category in np.unique(labels):
        rows = labels == category
        chosen[rows] = features(job, part("clora", int(category)), split)[rows]
    return chosen


def _train(job: Job, name: str, adapt: Callable[[], AnyEncoder]) -> None:
    train_once(job, name, adapt, parameters=trainable(job, job.recipe.adapter, 2))


def _one_category(job: Job, category: int) -> AnyEncoder:
    rows = _against_others(job, category)
    return adapt_to_labels(
        job.encoder,
        job.bench,
        rows,
        (job.labels == category).astype(np.int64),
        spec=job.recipe.adapter,
        schedule=job.schedule,
        loss=nn.CrossEntropyLoss(),
        head=zero_linear(job.encoder.features, 2),
        augment=job.recipe.train.augment,
        optimizer=training_optimizer(job.recipe.train),
        checkpoint=checkpoint(job, part("clora", category)),
    )


def _debiased_category(job: Job, category: int) -> AnyEncoder:
    rows = job.dataset.indices("train")
    base = part("clora", category)
    source = np.asarray(features(job, base, "train"))
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
        job.bench,
        rows,
        found,
        source,
        job.labels[rows],
        options=job.recipe.deblora,
        spec=job.recipe.adapter,
        batch_size=job.recipe.train.batch_size,
        micro_batch=job.recipe.compute.micro_batch,
        checkpoint=checkpoint(job, part("clora+deblora", category)),
    )


def _validation(job: Job, name: str) -> Validation:
    labels = job.labels[job.dataset.indices("val")]
    return np.asarray(features(job, name, "val")), labels


def _against_others(job: Job, category: int) -> NDArray[np.int64]:
    """Rows of a category and as many of the others, drawn evenly from them."""
    rows = job.dataset.indices("train")
    own = rows[job.labels[rows] == category]
    others = rows[job.labels[rows] != category]
    weights = 1.0 / job.counts.array()[job.labels[others]]
    wanted = min(len(others), max(len(own), _FEWEST_OTHERS))
    drawn = np.random.default_rng([job.recipe.seed, category]).choice(
        others, size=wanted, replace=False, p=weights / weights.sum()
    )
    return np.sort(np.concatenate([own, drawn]))


def category_costs(job: Job, method: str) -> list[dict[str, Any]]:
    """What was spent on all adapters of a method, with those it stands on."""
    stages = ("clora",) if method != "clora+deblora" else ("clora", "clora+deblora")
    return [
        entry
        for stage in stages
        for category in range(len(job.counts.names))
        for entry in job.folder.costs(part(stage, category)).entries()
    ]
