"""The stages of a run. Each leaves its result in the run folder and is skipped when it is there.

Whatever is evaluated has been read back from disk first: the saved run is the measured run.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tailora.adapters import AdapterSpec, trained_parameters
from tailora.debias.calibrate import Calibration
from tailora.debias.stages import (
    AnyEncoder,
    adapt_to_labels,
    calibrate_features,
    learn_calibrated,
    with_adapter,
)
from tailora.evaluate import class_scores, confusion_matrix
from tailora.features import FeatureBank, extract
from tailora.heads.linear_probe import fit_linear_probe
from tailora.pipeline.job import Job
from tailora.runs.weights import (
    is_saved,
    load_adapted,
    load_head,
    save_adapted,
    save_head,
    weights_fingerprint,
)


@dataclass(frozen=True)
class StageResult:
    """A finished row of the results: its encoder and its head."""

    method: str
    encoder: AnyEncoder
    head: nn.Linear


def zero_shot(job: Job) -> StageResult:
    """The pretrained encoder and a probe."""
    return _with_probe(job, "zero-shot")


def label_stage(job: Job, method: str, *, start: nn.Linear) -> StageResult:
    """Stage 0: adapt with labels (`lora`), or train the whole encoder (`fine-tune`).

    Args:
        job: The run.
        method: Its name in the results.
        start: Head to start from, the probe on pretrained features.
    """
    folder = job.folder.stage(method)
    spec = None if method == "fine-tune" else job.recipe.adapter
    if not is_saved(folder):
        with job.folder.ledger.measure(
            "train", method=method, trained_parameters=_trainable(job, spec)
        ):
            adapted = adapt_to_labels(
                job.encoder,
                job.bench,
                job.dataset.indices("train"),
                job.labels,
                spec=spec,
                schedule=job.schedule,
                loss=job.loss(job.recipe.train),
                head=start,
                augment=job.recipe.train.augment,
                checkpoint=_checkpoint(job, method),
            )
            save_adapted(adapted, folder)
    return _with_probe(job, method)


def deblora_stage(job: Job) -> StageResult:
    """Stages 2-6: cluster, move, learn the moved features with a new adapter, fit the probe."""
    folder = job.folder.stage("deblora")
    if not is_saved(folder):
        found = calibration(job)
        rows = job.dataset.indices("train")
        spec = job.recipe.adapter
        with job.folder.ledger.measure(
            "train", method="deblora", trained_parameters=_trainable(job, spec)
        ):
            adapted = learn_calibrated(
                job.encoder,
                lambda: load_adapted(job.encoder, job.folder.stage("lora"), trainable=True),
                job.bench,
                rows,
                found,
                source_features(job),
                job.labels[rows],
                options=job.recipe.deblora,
                spec=spec,
                batch_size=job.recipe.train.batch_size,
                checkpoint=_checkpoint(job, "deblora"),
            )
            save_adapted(adapted, folder)
    return _with_probe(job, "deblora")


def calibration(job: Job) -> Calibration:
    """Stages 2-4. Deterministic and short, so it is done anew where needed, not stored."""
    with job.folder.ledger.measure("cluster and move", method="deblora"):
        return calibrate_features(
            job.recipe.deblora,
            source_features(job),
            job.labels[job.dataset.indices("train")],
            names=job.counts.names,
            groups=job.groups,
            seed=job.recipe.seed,
        )


def source_features(job: Job) -> NDArray[np.float32]:
    """Training features in the space that is de-biased."""
    source = "lora" if job.recipe.deblora.source == "adapted" else "zero-shot"
    return np.asarray(features(job, source, "train"))


def features(
    job: Job, method: str, split: str, encoder: AnyEncoder | None = None
) -> NDArray[np.float32]:
    """Features of a split under a stage's weights, from its bank or computed now.

    Args:
        job: The run.
        method: The stage.
        split: `"train"`, `"val"` or `"test"`.
        encoder: The stage's encoder if it is at hand; else it is read from the run folder.
    """
    folder = job.folder.stage(method)
    rows = job.dataset.indices(split)
    manifest = job.feature_manifest(split, weights_fingerprint(folder))
    bank = FeatureBank(folder / f"features-{split}", manifest)

    def fill(out: NDArray[np.float32]) -> None:
        device = job.accelerator.device
        model = (load_adapted(job.encoder, folder) if encoder is None else encoder).to(device)
        with job.folder.ledger.measure(f"{split} features", method=method):
            extract(
                model, job.read_batch, rows, out=out, device=device,
                progress=job.progress, title=f"{method}: {split} features",
            )  # fmt: skip

    return bank.load_or_make(len(rows), job.encoder.features, fill)


def group_macro_f1(job: Job, targets: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    """Mean F1 over the classes that occur in `targets`: what the probe's penalty is chosen by."""
    scores = class_scores(confusion_matrix(targets, predictions, len(job.counts.names)))
    return float(np.nanmean(scores.f1))


def _with_probe(job: Job, method: str) -> StageResult:
    folder = job.folder.stage(method)
    encoder = load_adapted(job.encoder, folder)
    path = folder / "head.safetensors"
    train = features(job, method, "train", encoder)
    val = features(job, method, "val", encoder)
    if not path.is_file():
        with job.folder.ledger.measure("probe", method=method):
            save_head(_probe(job, np.asarray(train), np.asarray(val)), path)
    return StageResult(method, encoder, load_head(path))


def _probe(job: Job, train: NDArray[np.float32], val: NDArray[np.float32]) -> nn.Linear:
    labels = job.labels
    probe = fit_linear_probe(
        train,
        labels[job.dataset.indices("train")],
        loss=job.loss(job.recipe.probe),
        num_classes=len(job.counts.names),
        l2=job.recipe.probe.l2,
        validation=(val, labels[job.dataset.indices("val")]) if len(val) else None,
        score=lambda targets, predictions: group_macro_f1(job, targets, predictions),
    )
    return probe.linear


def _trainable(job: Job, spec: AdapterSpec | None) -> int:
    adapted = with_adapter(job.encoder, spec, seed=job.recipe.seed, total_steps=1)
    return trained_parameters(adapted) + len(job.counts.names) * (job.encoder.features + 1)


def _checkpoint(job: Job, method: str) -> Path:
    return job.folder.work / f"{method}.pt"
