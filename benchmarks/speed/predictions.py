"""Predicted seconds of every stage beside measured ones, on peaks measured in the same run.

python -m benchmarks.speed.predictions
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from benchmarks import cost_model
from benchmarks.cost_model import Machine, Work, bound
from benchmarks.speed.demo_encoder import load_subject
from benchmarks.speed.growing_stages import (
    ITERATIONS,
    SEED,
    generated_features,
    long_tailed_labels,
)
from benchmarks.speed.machine_peaks import measure_peaks
from benchmarks.speed.ratios import RESULTS, repeated, write_result
from tailora.clustering.size_constrained_kmeans import size_constrained_kmeans
from tailora.heads.linear_probe import fit_linear_probe
from tailora.methods.deblora.calibrate import calibrate
from tailora.metrics.bootstrap import bootstrap_f1

Row = dict[str, Any]
RANK = 8


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/cost-model.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--backbone", default="dinov2-small")
    options.add_argument("--image-size", type=int)
    options.add_argument("--images", type=int, default=128)
    options.add_argument("--samples", type=int, default=100_000)
    options.add_argument("--features", type=int, default=256)
    options.add_argument("--clusters", type=int, default=32)
    options.add_argument("--classes", type=int, default=16)
    options.add_argument("--replicates", type=int, default=100)
    options.add_argument("--peak-side", type=int, default=2048)
    options.add_argument("--peak-megabytes", type=int, default=256)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    machine = measure_peaks(side=given.peak_side, megabytes=given.peak_megabytes)
    print(machine)
    rows = [*_of_encoder(given, machine), *_of_features(given, machine)]
    for row in rows:
        row["measured_over_predicted"] = row["median_seconds"] / row["predicted_seconds"]
        print(f"{row['stage']}: {row['measured_over_predicted']:.1f}, {row['limit']}", flush=True)
    result = {"peaks": asdict(machine), "rows": rows}
    write_result("cost-model", result, seed=SEED, arguments=arguments, out=given.out)


def _of_encoder(given: argparse.Namespace, machine: Machine) -> list[Row]:
    subject = load_subject(given.backbone, images=given.images, size=given.image_size)
    vit, batch = subject.vit, min(32, given.images)
    passes = given.images / batch
    size = f"{subject.name}, {given.images} images of {subject.pixels.shape[-1]} px, {{}}"
    plans = [
        ("extraction", size.format("forward"), subject.extraction(batch_size=batch),
         cost_model.forward(vit, batch)),
        ("LoRA step", size.format(f"rank {RANK}, batch {batch}"),
         subject.epoch(rank=RANK, batch_size=batch), cost_model.lora_step(vit, batch, rank=RANK)),
        ("step of all weights", size.format(f"batch {batch}"),
         subject.epoch(rank=None, batch_size=batch), cost_model.full_step(vit, batch)),
    ]  # fmt: skip
    return [
        {"stage": stage, "size": text, **bound(work * passes, machine),
         **repeated(run, repeats=given.repeats)}
        for stage, text, run, work in plans
    ]  # fmt: skip


def _of_features(given: argparse.Namespace, machine: Machine) -> list[Row]:
    labels = long_tailed_labels(given.samples, given.classes)
    x = generated_features(given.samples, given.features, labels)
    about = f"{given.samples:,} x {given.features}"
    return [
        *_clustering(x, given, machine, about),
        _moving(x, labels, given, machine, about),
        *_probe(x, labels, given, machine, about),
        _bootstrap(labels, given, machine),
    ]


def _clustering(
    x: np.ndarray, given: argparse.Namespace, machine: Machine, about: str
) -> Iterator[Row]:
    """Cluster from a start that is given, without and with a least size."""
    start = x[np.random.default_rng(SEED).choice(len(x), given.clusters, replace=False)]
    for balance, text in ((np.inf, "free"), (10.0, "rho = 10")):
        run = partial(
            size_constrained_kmeans, x, given.clusters,
            balance=balance, init=start, max_iter=ITERATIONS, tol=0,
        )  # fmt: skip
        found = run()
        work = cost_model.lloyd_iteration(len(x), x.shape[1], given.clusters) * found.n_iter
        yield {
            "stage": f"clustering, {text}",
            "size": f"{about}, K = {given.clusters}, {found.n_iter} iterations",
            **bound(work, machine),
            **repeated(run, repeats=given.repeats),
        }


def _moving(
    x: np.ndarray, labels: np.ndarray, given: argparse.Namespace, machine: Machine, about: str
) -> Row:
    """Calibrate on one cluster, where hardly anything is clustered."""
    found = calibrate(x, labels, clusters=1, seed=SEED)
    moved = int(np.isin(labels, found.moved).sum())
    work = (
        cost_model.moving(len(x), x.shape[1], clusters=1, classes=given.classes, moved=moved)
        + cost_model.lloyd_iteration(len(x), x.shape[1], 1) * found.clusters.n_iter
    )
    return {
        "stage": "centres and moving",
        "size": f"{about}, {given.classes} classes, {moved:,} samples move",
        **bound(work, machine),
        **repeated(lambda: calibrate(x, labels, clusters=1, seed=SEED), repeats=given.repeats),
    }


def _probe(
    x: np.ndarray, labels: np.ndarray, given: argparse.Namespace, machine: Machine, about: str
) -> list[Row]:
    short, few = _probe_run(x, labels, given.classes, max_iter=1)
    whole, many = _probe_run(x, labels, given.classes, max_iter=100)
    once, all_of_it = (repeated(run, repeats=given.repeats) for run in (short, whole))
    looks = many - few
    spent = [b - a for a, b in zip(once["seconds"], all_of_it["seconds"], strict=True)]
    text = f"{about}, {given.classes} classes"
    one = cost_model.probe_evaluation(len(x), x.shape[1], given.classes)
    axes = cost_model.probe_axes(len(x), x.shape[1])
    return [
        {"stage": "probe: axes", "size": f"{text}, with {few} evaluations",
         **bound(axes, machine, double=True), **once},
        {"stage": "probe: evaluations", "size": f"{text}, {looks} evaluations",
         **bound(one * looks, machine), "seconds": spent,
         "median_seconds": statistics.median(spent)},
    ]  # fmt: skip


def _probe_run(
    x: np.ndarray, labels: np.ndarray, classes: int, *, max_iter: int
) -> tuple[Callable[[], object], int]:
    """Give what fits a probe, and how often it looks at the loss."""
    looks = 0

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        nonlocal looks
        looks += 1
        return nn.functional.cross_entropy(logits, targets)

    def run() -> None:
        fit_linear_probe(x, labels, loss=loss, num_classes=classes, l2=1e-2, max_iter=max_iter)

    run()
    return run, looks


def _bootstrap(labels: np.ndarray, given: argparse.Namespace, machine: Machine) -> Row:
    guesses = np.random.default_rng(SEED).permutation(labels)

    def run() -> None:
        bootstrap_f1(labels, guesses, given.classes, replicates=given.replicates, seed=SEED)

    work: Work = cost_model.bootstrap(len(labels), replicates=given.replicates)
    return {
        "stage": "bootstrap",
        "size": f"{len(labels):,} samples, {given.classes} classes, {given.replicates} resamples",
        **bound(work, machine, double=True),
        **repeated(run, repeats=given.repeats),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
