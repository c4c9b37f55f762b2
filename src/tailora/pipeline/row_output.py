"""What a row of a comparison says of the test and of validation, under one probe."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from tailora.backbones.clip_text import text_head
from tailora.evaluate import MethodOutput, class_scores, confusion_matrix, group_f1
from tailora.heads.probes import NEEDS_VIEWS, Logits, ProbeData, fit_probe
from tailora.pipeline.clora import ensemble, oracle_features
from tailora.pipeline.comparison_plan import LEAKS, PER_CATEGORY, Adaptation
from tailora.pipeline.job import Job
from tailora.pipeline.leaking_prompt import PROMPT_ORACLE, class_prompt_features
from tailora.pipeline.probe_choice import ProbeChoice
from tailora.pipeline.row_costs import row_cost
from tailora.pipeline.scoring import fit_of
from tailora.pipeline.stage_features import features
from tailora.pipeline.stages import group_macro_f1, training_set

Rows = NDArray[np.float32]

_VIEWS: Final = (4, 1)  # mirrored, and a quarter turn; see `dihedral`


def validation_f1(job: Job, scores: Rows) -> dict[str, float | None]:
    """Macro-F1 by group on validation: what a default may be chosen by; empty without a split.

    Args:
        job: The run.
        scores: Class shares or logits of the validation rows (rows, classes).
    """
    targets = job.labels[job.dataset.indices("val")]
    if not len(targets):
        return {}
    table = confusion_matrix(targets, scores.argmax(axis=1), len(job.counts.names))
    found = group_f1(class_scores(table).f1, job.groups)
    return {name: None if np.isnan(value) else float(value) for name, value in found.items()}


def validation_shares(job: Job, method: str, probe: ProbeChoice) -> Rows:
    """Class shares of the validation rows (rows, classes); nothing of the test is read."""
    if _is_ensemble(method):
        return ensemble(job, method, _ensemble_fit(job, probe), ("val",))[0]
    train, labels = _learnt(job, method)
    val = _split_features(job, method, "val")
    return _shares(_fit(job, probe, train, labels, val), val)


def row_output(job: Job, row: Adaptation, probe: ProbeChoice) -> tuple[MethodOutput, Rows]:
    """What a row says about the test split, and its class shares of the validation split."""
    if _is_ensemble(row.method):
        fit = _ensemble_fit(job, probe)
        shares, val_shares = ensemble(job, row.method, fit, ("test", "val"))
        output = MethodOutput(row.name, shares, **row_cost(job, row.method))
        return replace(output, fit=fit_of(job, val_shares)), val_shares
    train, labels = _learnt(job, row.method)
    val, test = (_split_features(job, row.method, split) for split in ("val", "test"))
    views = turned_views(job, row.method) if probe.kind in NEEDS_VIEWS else None
    logits = _fit(job, probe, train, labels, val, views)
    val_shares = _shares(logits, val)
    output = MethodOutput(
        row.name,
        _shares(logits, test),
        features=test,
        feature_center=train.mean(axis=0),
        fit=fit_of(job, val_shares),
        **row_cost(job, row.method),
    )
    return output, val_shares


def _is_ensemble(method: str) -> bool:
    return method in PER_CATEGORY and method != "clora-oracle"


def _ensemble_fit(job: Job, probe: ProbeChoice) -> Callable[[Rows, Rows], Logits]:
    labels = job.labels[job.dataset.indices("train")]
    return lambda train, val: _fit(job, probe, train, labels, val)


def _shares(logits: Logits, rows: Rows) -> Rows:
    return torch.from_numpy(logits(rows)).softmax(dim=1).numpy()


def _learnt(job: Job, method: str) -> tuple[Rows, NDArray[np.int64]]:
    """What a probe is fitted on: features and labels."""
    if method in LEAKS:
        return _split_features(job, method, "train"), job.labels[job.dataset.indices("train")]
    return training_set(job, method)


def _split_features(job: Job, method: str, split: str) -> Rows:
    if method == "clora-oracle":
        return oracle_features(job, split)
    if method == PROMPT_ORACLE:
        return class_prompt_features(job, split)
    return np.asarray(features(job, method, split))


def turned_views(job: Job, method: str) -> tuple[Rows, Rows]:
    """Features of the test images mirrored and turned; no label, no view that is scored."""
    first, second = (features(job, method, "test", turn=turn) for turn in _VIEWS)
    return np.asarray(first), np.asarray(second)


def _fit(
    job: Job,
    probe: ProbeChoice,
    train: Rows,
    labels: NDArray[np.int64],
    val: Rows,
    views: tuple[Rows, Rows] | None = None,
) -> Logits:
    data = ProbeData(
        features=train,
        labels=labels,
        val_features=val,
        val_labels=job.labels[job.dataset.indices("val")],
        counts=job.counts,
        groups=job.groups,
        score=partial(group_macro_f1, job),
        seed=job.recipe.seed,
        l2=tuple(job.recipe.probe.l2),
        views=views,
        text=partial(text_head, job.loaded, job.counts.names, features=train),
    )
    return fit_probe(probe.kind, data, probe.options)
