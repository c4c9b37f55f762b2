"""`tailora.fit`: one call from images to a run folder."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator, DistributedType
from peft import PeftConfig, PeftModel
from torch import nn

from tailora import processes, registry
from tailora.adapters import AdapterSpec, adapted_layers
from tailora.backbones import LoadedBackbone
from tailora.config.recipe import Recipe
from tailora.data import Dataset, find_duplicates
from tailora.errors import ConfigError
from tailora.heads.probe import Probe
from tailora.launcher import launched
from tailora.methods.arguments import Arguments, with_arguments
from tailora.methods.band_choice import with_band_names
from tailora.methods.deblora.calibrate import Calibration
from tailora.methods.deblora.deblora import DebLoRA
from tailora.methods.evidence import write_evidence
from tailora.methods.ground import chips_on_ground
from tailora.methods.job import Job
from tailora.methods.method import StageResult, run_method
from tailora.methods.prepare import check_run, open_job
from tailora.methods.scoring import score
from tailora.progress import Progress, silent
from tailora.report import write_report
from tailora.runs.folder import SCHEMA, RunFolder
from tailora.runs.history import join_histories
from tailora.runs.image_history import copy_image_history
from tailora.runs.one_at_a_time import one_at_a_time
from tailora.runs.provenance import git_state, machine, versions
from tailora.runs.run import Run, load_run
from tailora.runs.run_files import seal, write_seen
from tailora.runs.weights import copy_saved
from tailora.storage import write_json
from tailora.train.adapter_spectrum import adapter_spectrum
from tailora.train.callbacks import Callback
from tailora.train.trackers import open_trackers

_DIVIDING: Final = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "XLA")


def make_accelerator() -> Accelerator:
    """Let Accelerate choose the device and join the other processes, with or without a GPU."""
    return Accelerator(cpu=launched() > 1 and not torch.accelerator.is_available())


def check_launch(accelerator: Accelerator) -> None:
    """Reject settings of a launcher that a run would not follow.

    Raises:
        ConfigError: The launcher shards the model or sets a precision, or Accelerate does not join
            all processes.
    """
    kind = DistributedType(accelerator.distributed_type).value
    if kind in _DIVIDING:
        raise ConfigError(
            f"launched with {kind}, which a recipe does not record: launch without it, and save "
            "memory with compute.micro_batch, compute.checkpointing or, with --method fine-tune, "
            "compute.shard"
        )
    if accelerator.num_processes != launched():
        raise ConfigError(
            f"{launched()} processes were launched, but Accelerate joins "
            f"{accelerator.num_processes}: each would do the whole run; launch with torchrun, or "
            "with one process"
        )
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", "fp32"):
        raise ConfigError(
            f"precision {precision!r} was set in the launcher, where no recipe records it; set it "
            "in the run instead, --set compute.precision=bf16"
        )


def fit(
    data: Dataset,
    *,
    backbone: str | nn.Module | LoadedBackbone | None = None,
    adapter: DebLoRA | AdapterSpec | PeftConfig | str | None = None,
    loss: str | nn.Module | None = None,
    sampler: Any = None,
    probe: str | Probe | None = None,
    method: str | None = None,
    seed: int | None = None,
    recipe: Recipe | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    progress: Progress = silent,
    accelerator: Accelerator | None = None,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Adapt an encoder to long-tailed data and evaluate it.

    Args:
        data: Returned by `open_dataset`.
        backbone: Hub id, local folder, `dinov2-small` or another name of `tailora methods
            backbones`; or a module, see `tailora.backbones.module_backbone.ModuleBackbone`. None
            leaves the choice to the recipe, as for all of these.
        adapter: `DebLoRA(...)`; for a plain adapter an `AdapterSpec`, a PEFT config or the name of
            a tuner.
        loss: Loss of the base adapter: a name, or a module called with logits (rows, classes) and
            targets (rows,).
        sampler: Sampler of the base adapter: a name, or an object with `__iter__`, `__len__` and
            `set_epoch` that draws rows of the training split.
        probe: The head: a name with options as for `--probe`, or a `tailora.heads.probe.Probe`.
        method: `"deblora"`, `"lora"`, `"fine-tune"`, `"zero-shot"`, or LoRA trained with
            several heads: `"lora+reslt"`, `"lora+sade"`, `"lora+ride"`, `"lora+tlc"`; None follows
            `adapter`.
        seed: Seeds everything.
        recipe: All other settings; None takes the defaults.
        out: Run folder to create; None keeps the run in a temporary folder until `run.save(path)`.
        resume: Continue an interrupted run at `out`.
        force: Replace a run at `out`.
        progress: Shows progress bars.
        accelerator: Device and processes; None lets Accelerate choose. With `accelerate launch`
            all processes make the same call; `out` must be visible to all of them.
        callbacks: Called at the steps, epochs and stages of training.

    Returns:
        The run, read back from its folder.

    Raises:
        TailoraError: Data, options, encoder or disk cannot be used; reported in one line, before
            training where possible.
    """
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise ConfigError(f"callbacks must be tailora.Callback objects, got {callback!r}")
    given = Arguments(backbone, adapter, loss, sampler, probe, method, seed)
    asked = with_arguments(data, recipe or Recipe(), given)
    recipe = asked.recipe
    data = with_band_names(data, recipe.data)
    accelerator = accelerator or make_accelerator()
    check_launch(accelerator)
    path = Path(tempfile.mkdtemp(prefix="tailora-")) / "run" if out is None else Path(out)
    path = Path(processes.agreed(str(path), accelerator))
    folder = RunFolder(path, writes=accelerator.is_main_process)
    with registry.lent(asked.lent):
        with one_at_a_time(path) if folder.writes else nullcontext():
            _fit_into(
                folder, data, recipe, accelerator,
                resume=resume, force=force, progress=progress, callbacks=callbacks,
            )  # fmt: skip
        return load_run(path)


def _fit_into(
    folder: RunFolder,
    data: Dataset,
    recipe: Recipe,
    accelerator: Accelerator,
    *,
    resume: bool,
    force: bool,
    progress: Progress,
    callbacks: Sequence[Callback],
) -> None:
    recipe, loaded = check_run(data, recipe, folder, resume=resume, force=force)
    is_done = resume and folder.is_complete()
    processes.wait(accelerator)  # all have checked the folder before the first one writes to it
    if not is_done:
        job = open_job(
            data,
            recipe,
            loaded,
            folder,
            resume=resume,
            force=force,
            progress=progress if accelerator.is_main_process else silent,
            accelerator=accelerator,
        )
        trackers = job.recipe.train.trackers if folder.writes else []
        with open_trackers(trackers, folder.path) as tracking:
            _run(replace(job, callbacks=(*callbacks, *tracking)))


def _run(job: Job) -> None:
    started = datetime.now(UTC).isoformat(timespec="seconds")
    results = run_method(job)
    found = results[-1].method.calibration(job)
    processes.only_first(job.accelerator, lambda: finish(job, results, found, started=started))


def finish(
    job: Job, results: Sequence[StageResult], found: Calibration | None, *, started: str
) -> None:
    """Evaluate, write the report, and only then mark the run complete."""
    metrics, probabilities, of_task = score(job, results, found)
    write_evidence(job, probabilities, metrics, found, of_task)
    seen = np.flatnonzero(job.images.dataset.splits != "test")
    write_seen(job.folder.path, job.images.digests(seen))
    copy_saved(job.folder.stage(results[-1].method.name), job.folder.path)
    stages = [job.folder.stage(name) for name in results[-1].method.stages()]
    join_histories(stages, job.folder.path)
    copy_image_history(stages, job.folder.path)
    record = _record(job, results[-1], started)
    write_json(job.folder.run_file, record | {"complete": False})
    write_report(job.folder.path, more=job.task.sections())
    write_json(job.folder.run_file, seal(job.folder.path, record))
    shutil.rmtree(job.folder.work, ignore_errors=True)
    job.folder.sweep()


def _record(job: Job, last: StageResult, started: str) -> dict[str, Any]:
    data = job.dataset
    return {
        "schema": SCHEMA,
        "complete": True,
        "tailora": metadata.version("tailora"),
        "method": last.method.name,
        "seed": job.recipe.seed,
        "started": started,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "git": git_state(),
        "machine": machine(str(job.accelerator.device))
        | {"processes": job.accelerator.num_processes},
        "dataset": {
            "name": data.name,
            "fingerprint": job.fingerprint,
            **{f"n_{split}": len(data.indices(split)) for split in ("train", "val", "test")},
            "bands": job.images.bands,
            "image_size": job.input.image_size,
            **chips_on_ground(data),
            "notes": list(data.notes),
            "duplicates": [
                {"ids": list(d.ids), "splits": list(d.splits)} for d in find_duplicates(data)
            ],
            "broken": list(job.images.broken),
        },
        "backbone": {
            "name": job.recipe.backbone.name,
            "source": job.loaded.source,
            "sha256": job.loaded.sha256,
            "revision": job.loaded.revision,
            "license": job.loaded.license,
        },
        "input": job.input.to_json(),
        "stages": [asdict(cost) for cost in last.method.costs(job)],
        "adapted": _adapted(last.encoder.backbone),
        "spectrum": (adapter_spectrum(last.encoder.backbone) or {}).get("mean"),
    }


def _adapted(backbone: nn.Module) -> list[dict[str, Any]]:
    if not isinstance(backbone, PeftModel):
        return []
    return [asdict(row) for row in adapted_layers(backbone)]
