"""Large inputs: a table of 200,000 images and a list of 3,000 classes, and how time grows to there.

    python -m benchmarks.speed.large_inputs

Each thing is done at the full size, with a tenth of the rows, and with a tenth of the classes, each
in a process of its own. What is linear takes ten times as long for ten times as much; what is
quadratic, a hundred times. Images are PNGs of 8 x 8 random pixels, all different, in 200 folders;
every class is spelt in two ways; groups hold 20 images each; class sizes fall from 1000 to 1.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.speed.process_memory import memory_mb
from benchmarks.speed.ratios import RESULTS, write_result
from tailora.class_names import canonical_name, merged_names
from tailora.counts import ClassCounts, make_groups
from tailora.curation.inspect import inspect_dataset, write_page
from tailora.data import make_splits, open_dataset
from tailora.methods.deblora.calibrate import calibrate
from tailora.metrics import RunMetrics, evaluate_methods
from tailora.metrics.method_scores import MethodOutput
from tailora.report.class_figures import Series, long_tail, score_dots
from tailora.report.matrix_figures import confusion_picture
from tailora.samplers import (
    BucketedSampler,
    ClassBalancedSampler,
    MPerClassSampler,
    OversamplingSampler,
    ProgressiveSampler,
    StratifiedSampler,
    UndersamplingSampler,
)
from tailora.storage import read_json, write_json

ROWS, CLASSES, TESTED = 200_000, 3_000, 10_000
FOLDERS, GROUP, FEATURES, CLUSTERS, REPLICATES = 200, 20, 64, 64, 1000
LONG = 5.0  # seconds from which on one run does
Run = Callable[[], object]


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/large-inputs.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rows", type=int, default=ROWS)
    options.add_argument("--classes", type=int, default=CLASSES)
    options.add_argument("--tested", type=int, default=TESTED, help="rows that metrics are of")
    options.add_argument("--fewer", type=int, default=10, help="the smaller sizes, as a divisor")
    options.add_argument("--things", nargs="+", choices=THINGS, default=list(THINGS))
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=RESULTS)
    options.add_argument("--one", type=json.loads, help="measure one thing in this process")
    given = options.parse_args(arguments)
    if given.one:
        print(json.dumps(measure(**given.one, seed=given.seed)))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = [_row(thing, Path(folder), given) for thing in given.things]
    result = {
        "rows": given.rows, "classes": given.classes, "tested": given.tested,
        "fewer": given.fewer, "images_per_group": GROUP, "features": FEATURES,
        "clusters": CLUSTERS, "replicates": REPLICATES, "things": rows,
    }  # fmt: skip
    write_result("large-inputs", result, seed=given.seed, arguments=arguments, out=given.out)


def measure(
    thing: str, rows: int, classes: int, tested: int, folder: str, seed: int
) -> dict[str, Any]:
    """Do one thing in this process: seconds, and the most memory in MB before and meanwhile."""
    run = THINGS[thing](_Size(rows, classes, tested, Path(folder), seed))
    before, seconds = memory_mb("VmRSS"), []
    while len(seconds) < 3 and sum(seconds) < LONG:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": statistics.median(seconds),
        "runs": len(seconds),
        "memory_before_mb": before,
        "peak_memory_mb": memory_mb("VmHWM"),
    }


class _Size:
    """Inputs of one size, made when asked for."""

    def __init__(self, rows: int, classes: int, tested: int, folder: Path, seed: int) -> None:
        self.rows, self.classes, self.tested, self.folder = rows, classes, tested, folder
        self.rng = np.random.default_rng(seed)
        self.names = tuple(f"class {c:05d}" for c in range(classes))
        shares = 1000.0 ** -np.linspace(0, 1, classes)
        # four samples of each at least, so that whole groups can be divided too
        drawn = self.rng.choice(classes, rows - 4 * classes, p=shares / shares.sum())
        labels = np.concatenate([np.repeat(np.arange(classes), 4), drawn])
        self.labels: NDArray[np.int64] = self.rng.permutation(labels)

    def groups(self) -> NDArray[np.str_]:
        """Group of each row (rows,), of mixed classes."""
        return (np.arange(self.rows) // GROUP).astype(np.str_)

    def spelt(self) -> list[str]:
        """Class of each row, every other time with two spaces."""
        return [self.names[c].replace(" ", " " * (1 + i % 2)) for i, c in enumerate(self.labels)]

    def counts(self) -> ClassCounts:
        """Samples of each class."""
        return ClassCounts.from_labels(self.labels, names=self.names)

    def table(self) -> Path:
        """Write the images and the table, once."""
        path = self.folder / f"{self.rows}-{self.classes}" / "images.csv"
        if path.is_file():
            return path
        for number in range(FOLDERS):
            (path.parent / str(number)).mkdir(parents=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label"])
            for i, label in enumerate(self.spelt()):
                name = f"{i % FOLDERS}/{i}.png"
                Image.frombytes("RGB", (8, 8), self.rng.bytes(192)).save(path.parent / name)
                writer.writerow([name, label])
        return path

    def output(self) -> tuple[MethodOutput, NDArray[np.int64]]:
        """Probabilities and features of a method on the test, and its targets."""
        # every class once, so that none is left out
        more = self.rng.choice(self.labels, max(0, self.tested - self.classes))
        targets = np.concatenate([np.arange(self.classes), more])[: self.tested]
        scores = self.rng.normal(size=(len(targets), self.classes)).astype(np.float32)
        scores[np.arange(len(targets)), targets] += 4
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        features = self.rng.normal(size=(len(targets), FEATURES)).astype(np.float32)
        center = features.mean(axis=0)
        return MethodOutput("lora", scores, features=features, feature_center=center), targets

    def metrics(self) -> Callable[[], RunMetrics]:
        """All metrics of the method."""
        output, targets = self.output()
        counts = self.counts()
        return partial(
            evaluate_methods, [output], targets=targets, counts=counts, groups=make_groups(counts),
            replicates=REPLICATES,
        )  # fmt: skip


def _opening(size: _Size) -> Run:
    return partial(open_dataset, size.table())


def _splitting(size: _Size) -> Run:
    return partial(make_splits, size.labels, classes=size.names)


def _splitting_groups(size: _Size) -> Run:
    return partial(make_splits, size.labels, classes=size.names, groups=size.groups())


def _inspecting(size: _Size) -> Run:
    return partial(inspect_dataset, open_dataset(size.table()))


def _inspection_page(size: _Size) -> Run:
    data = open_dataset(size.table())
    found, out = inspect_dataset(data), size.folder / "inspection.html"
    return lambda: write_page(data, found, out)


def _naming(size: _Size) -> Run:
    spelt = size.spelt()
    return lambda: ({name: canonical_name(name) for name in set(spelt)}, merged_names(spelt))


def _counting(size: _Size) -> Run:
    return lambda: make_groups(size.counts())


def _scoring(size: _Size) -> Run:
    return size.metrics()


def _metrics_file(size: _Size) -> Run:
    metrics, path = size.metrics()(), size.folder / "metrics.json"

    def there_and_back() -> None:
        write_json(path, metrics.to_json())
        RunMetrics.from_json(read_json(path))

    return there_and_back


def _figures(size: _Size) -> Run:
    names, counts = size.names, size.counts()
    group_of = {c: name for name, members in make_groups(counts).items() for c in members}
    groups = [group_of[c] for c in range(size.classes)]
    scores = tuple((0.5, (0.4, 0.6)) for _ in names)
    confusion = np.eye(size.classes, dtype=np.int64)

    def draw() -> None:
        long_tail(names, counts.values, groups)
        score_dots(names, groups, [Series("lora", "#0072b2", "s", scores)])
        confusion_picture(confusion, names)

    return draw


def _targets(size: _Size) -> Run:
    features = size.rng.normal(size=(size.rows, FEATURES)).astype(np.float32)
    return partial(
        calibrate, features, size.labels, clusters=CLUSTERS, center_samples="balanced",
        classes="tail+middle",
    )  # fmt: skip


def _sampling(size: _Size) -> Run:
    labels = size.labels
    samplers = (
        ClassBalancedSampler(labels), ProgressiveSampler(labels, 10), StratifiedSampler(labels, 64),
        OversamplingSampler(labels), UndersamplingSampler(labels), BucketedSampler(labels, 64),
        MPerClassSampler(labels, 64, m=4),
    )  # fmt: skip
    return lambda: [sum(1 for _ in sampler) for sampler in samplers]


THINGS: dict[str, Callable[[_Size], Run]] = {
    "open the table": _opening,
    "canonical and merged names": _naming,
    "counts and groups": _counting,
    "split by class": _splitting,
    "split by whole groups": _splitting_groups,
    "inspect": _inspecting,
    "page of the inspection": _inspection_page,
    "an epoch of each of 7 samplers": _sampling,
    "balanced K-means targets": _targets,
    "all metrics of a method": _scoring,
    "metrics.json, there and back": _metrics_file,
    "figures of classes": _figures,
}


# three thousand classes cannot all be on every side where there are a thousand groups
NOT_WITH_FEWER_ROWS = ("split by whole groups",)


def _row(thing: str, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    full = {"rows": given.rows, "classes": given.classes, "tested": given.tested}
    few_rows = full | {key: full[key] // given.fewer for key in ("rows", "tested")}
    few_classes = full | {"classes": full["classes"] // given.fewer}
    sizes = {"full": full, "fewer_rows": few_rows, "fewer_classes": few_classes}
    found = {
        name: _in_own_process({"thing": thing, "folder": str(folder), **size}, given.seed)
        for name, size in sizes.items()
        if name != "fewer_rows" or thing not in NOT_WITH_FEWER_ROWS
    }
    print(thing, {name: round(one["seconds"], 2) for name, one in found.items()}, flush=True)
    return {"thing": thing, **found}


def _in_own_process(one: dict[str, Any], seed: int) -> dict[str, Any]:
    words = ["--one", json.dumps(one), "--seed", str(seed)]
    command = [sys.executable, "-m", "benchmarks.speed.large_inputs", *words]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main(sys.argv[1:])
