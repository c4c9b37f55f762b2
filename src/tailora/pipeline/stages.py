"""The stages of a run. Each leaves its result in the run folder and is skipped when it is there.

Whatever is evaluated has been read back from disk first: the saved run is the measured run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

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
from tailora.heads.reslt import ResLTHead, ResLTLoss
from tailora.pipeline.job import Job
from tailora.runs.weights import (
    is_saved,
    load_adapted,
    load_head,
    save_adapted,
    save_head,
    weights_fingerprint,
)

# what is done before a method, in order
STANDS_ON: Final = {
    "zero-shot": (),
    "fine-tune": ("zero-shot",),
    "lora": ("zero-shot",),
    "lora+reslt": ("zero-shot",),
    "deblora": ("zero-shot", "lora"),
}


@dataclass(frozen=True)
class StageResult:
    """A finished row of the results: its encoder and its head."""

    method: str
    encoder: AnyEncoder
    head: nn.Linear


def run_stages(job: Job) -> list[StageResult]:
    """Do the stages of the recipe's method; debLoRA's baselines are rows of its results."""
    method = job.recipe.method
    results = [run_stage(job, name) for name in (*STANDS_ON[method], method)]
    return results if method == "deblora" else results[-1:]


def run_stage(job: Job, method: str) -> StageResult:
    """Adapt and fit the probe; what the method stands on must have been done."""
    adapt_stage(job, method)
    return with_probe(job, method)


def adapt_stage(job: Job, method: str) -> None:
    """Train the encoder of a method and save it, unless that was done before."""
    folder = job.folder.stage(method)
    if method == "zero-shot" or is_saved(folder):
        return
    spec = None if method == "fine-tune" else job.recipe.adapter
    with job.folder.costs(method).measure("train", trained_parameters=_trainable(job, spec)):
        save_adapted(_ADAPTING.get(method, _from_labels)(job, method), folder)
    checkpoint(job, method).unlink(missing_ok=True)


def _from_labels(job: Job, method: str) -> AnyEncoder:
    """Stage 0: adapt with labels (`lora`), or train the whole encoder (`fine-tune`)."""
    return adapt_to_labels(
        job.encoder,
        job.bench,
        job.dataset.indices("train"),
        job.labels,
        spec=None if method == "fine-tune" else job.recipe.adapter,
        schedule=job.schedule,
        loss=job.loss(job.recipe.train),
        head=with_probe(job, "zero-shot").head,
        augment=job.recipe.train.augment,
        checkpoint=checkpoint(job, method),
    )


def _with_reslt(job: Job, method: str) -> AnyEncoder:
    """Stage 0 under the three-branch head of ResLT and its loss, a baseline of the paper."""
    return adapt_to_labels(
        job.encoder,
        job.bench,
        job.dataset.indices("train"),
        job.labels,
        spec=job.recipe.adapter,
        schedule=job.schedule,
        loss=ResLTLoss(job.groups),
        head=_Branches(job.encoder.features, len(job.counts.names), seed=job.recipe.seed),
        augment=job.recipe.train.augment,
        checkpoint=checkpoint(job, method),
    )


class _Branches(nn.Module):
    """The logits of each of ResLT's heads, which its loss takes; predicting would sum them."""

    def __init__(self, num_features: int, num_classes: int, *, seed: int) -> None:
        super().__init__()
        self.head = ResLTHead(num_features, num_classes, seed=seed)

    def forward(self, features: Tensor) -> Tensor:
        return self.head.branches(features)


def _debiased(job: Job, method: str) -> AnyEncoder:
    """Stages 2-5: cluster, move, learn the moved features with a new adapter."""
    rows = job.dataset.indices("train")
    return learn_calibrated(
        job.encoder,
        lambda: load_adapted(job.encoder, job.folder.stage("lora"), trainable=True),
        job.bench,
        rows,
        calibration(job),
        source_features(job),
        job.labels[rows],
        options=job.recipe.deblora,
        spec=job.recipe.adapter,
        batch_size=job.recipe.train.batch_size,
        checkpoint=checkpoint(job, method),
    )


_ADAPTING: Final[dict[str, Callable[[Job, str], AnyEncoder]]] = {
    "lora+reslt": _with_reslt,
    "deblora": _debiased,
}


def calibration(job: Job) -> Calibration:
    """Stages 2-4. Deterministic and short, so it is done anew where needed, not stored."""
    with job.folder.costs("deblora").measure("cluster and move"):
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
        with job.folder.costs(method).measure(f"{split} features"):
            extract(
                model, job.read_batch, rows, out=out, device=device,
                progress=job.progress, title=f"{method}: {split} features",
            )  # fmt: skip

    return bank.load_or_make(len(rows), job.encoder.features, fill)


def group_macro_f1(job: Job, targets: NDArray[np.int64], predictions: NDArray[np.int64]) -> float:
    """Mean F1 over the classes that occur in `targets`: what the probe's penalty is chosen by."""
    scores = class_scores(confusion_matrix(targets, predictions, len(job.counts.names)))
    return float(np.nanmean(scores.f1))


def with_probe(job: Job, method: str) -> StageResult:
    """Fit the recipe's probe on a stage's features, or read the one that was fitted."""
    folder = job.folder.stage(method)
    encoder = load_adapted(job.encoder, folder)
    path = folder / "head.safetensors"
    train = features(job, method, "train", encoder)
    val = features(job, method, "val", encoder)
    if not path.is_file():
        with job.folder.costs(method).measure("probe"):
            save_head(_probe(job, np.asarray(train), np.asarray(val)), path)
    return StageResult(method, encoder, load_head(path))


def costs(job: Job, method: str) -> list[dict[str, Any]]:
    """What was spent on a method, with the stages it stands on."""
    names = (*STANDS_ON[method], method)
    return [entry for name in names for entry in job.folder.costs(name).entries()]


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


def checkpoint(job: Job, method: str) -> Path:
    """Where a stage keeps its state while it trains."""
    return job.folder.stage(method) / "checkpoint.pt"
