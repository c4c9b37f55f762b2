"""A finished run folder as one object; its files are read and checked only here.

Fields that an earlier version did not write are None or empty.
"""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tailora.config.recipe import Recipe
from tailora.counts import GROUP_NAMES
from tailora.errors import RunError
from tailora.frames import Rows, frame
from tailora.metrics import MethodMetrics, RunMetrics, ValidationFit
from tailora.runs.folder import RunFolder, StageCost, read_object
from tailora.runs.history import TrainingHistory, read_history
from tailora.runs.image_history import TrainedImage, read_image_history
from tailora.runs.input_format import InputFormat
from tailora.runs.provenance import GitState, Machine
from tailora.runs.run_files import check_listed
from tailora.storage import read_arrays, typed

_REMEDY = "fit the run again with --force, or restore the file"
_PREDICTIONS = "predictions.csv"
_Count = Annotated[int, Field(ge=0, le=2**53)]
_Amount = Annotated[float, Field(ge=0, le=1e15)]


@final
@dataclass(frozen=True)
class Copies:
    """Images with identical pixels, and the split of each."""

    ids: tuple[str, ...]
    splits: tuple[str, ...]


@final
@dataclass(frozen=True)
class AdapterLayers:
    """Adapted modules of one kind: count, weight shape, and total adapter parameters."""

    module: str
    count: _Count
    shape: str
    parameters: _Count


@final
@dataclass(frozen=True)
class AdapterSpectrum:
    """How evenly an adapter uses its rank, mean over layers; see `adapter_spectrum`.

    Args:
        entropy: Evenness of the singular values, from 0 (one direction) to 1 (all equal).
        effective_rank: Effective number of directions.
        top_energy: Share of the energy in the strongest direction, in [0, 1].
    """

    entropy: _Amount
    effective_rank: _Amount
    top_energy: _Amount


@final
@dataclass(frozen=True, kw_only=True)
class RunData:
    """The dataset that a run was fitted on.

    Args:
        name: Name of the dataset.
        fingerprint: Hash of its images, labels and splits.
        n_train: Number of training images.
        n_val: Number of validation images.
        n_test: Number of test images.
        bands: Number of bands of the stored images.
        image_size: Side they were resized to, in pixels.
        chip: Side in pixels of chips cut from scenes; None for other images.
        pixel: Pixel size of those scenes (width, height).
        pixel_units: Unit of `pixel`, e.g. `"metre"`.
        notes: Remarks on the data, e.g. implausible values.
        duplicates: Identical images.
        broken: Unreadable files that were skipped.
    """

    name: str = ""
    fingerprint: str
    n_train: _Count | None = None
    n_val: _Count = 0
    n_test: _Count | None = None
    bands: Annotated[int, Field(ge=1, le=100_000)]
    image_size: int | None = None
    chip: Annotated[int, Field(ge=1, le=2**31)] | None = None
    pixel: tuple[float, ...] | None = None
    pixel_units: str | None = None
    notes: tuple[str, ...] = ()
    duplicates: tuple[Copies, ...] = ()
    broken: tuple[str, ...] = ()


@final
@dataclass(frozen=True)
class RunEncoder:
    """The pretrained encoder: its name, where it came from, and the hash of its weights."""

    name: str
    source: str
    sha256: str
    revision: str | None = None
    license: str | None = None


@final
@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """The content of `run.json`: provenance and costs of a run.

    Args:
        complete: Whether all other files are there.
        tailora: Version of tailora that wrote it.
        method: The last method, which the run predicts with.
        seed: Seed of the run.
        started: When it started.
        finished: When it ended.
        versions: Versions of Python and packages.
        git: State of the code.
        machine: Where it ran.
        dataset: The dataset it was fitted on.
        backbone: The pretrained encoder.
        input: How images must be prepared.
        stages: Cost of each stage.
        adapted: Adapted layers.
        spectrum: How evenly the adapter uses its rank; None without a low-rank adapter.
        files: SHA-256 of each file that predictions depend on; None in runs of version 0.1.
    """

    complete: bool = False
    tailora: str | None = None
    method: str
    seed: int | None = None
    started: str | None = None
    finished: str | None = None
    versions: dict[str, str | None] | None = None
    git: GitState | None = None
    machine: Machine = field(default_factory=Machine)
    dataset: RunData
    backbone: RunEncoder
    input: InputFormat
    stages: Rows[StageCost] = field(default_factory=Rows)
    adapted: Rows[AdapterLayers] = field(default_factory=Rows)
    spectrum: AdapterSpectrum | None = None
    files: dict[str, str] | None = None


@final
@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """One class: its number of samples, and whether its predictions can be trusted.

    Args:
        name: Name of the class.
        index: Class index.
        n_train: Number of training samples.
        n_val: Number of validation samples.
        n_test: Number of test samples.
        group: `"head"`, `"middle"` or `"tail"`.
        verdict: `"trusted"`, `"weak"` or `"untested"`, see `tailora.metrics.judge`.
        failed: Checks that failed.
        reason: The verdict explained in a sentence.
    """

    name: str
    index: _Count | None = None
    n_train: _Count
    n_val: _Count | None = None
    n_test: _Count | None = None
    group: str | None = None
    verdict: str
    failed: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class _Classes:
    classes: Annotated[Rows[ClassResult], Field(min_length=1)]


@final
@dataclass(frozen=True, eq=False)
class RunPredictions:
    """Predictions of a run for its test samples.

    Args:
        class_names: In index order.
        paths: Image of each sample.
        labels: True classes.
        predicted: Classes with the highest probability.
        verdicts: Verdicts on the predicted classes; None if the file lacks them.
        sets: Prediction sets; None if none was calibrated.
        probabilities: (rows, classes), rows sum to 1.
    """

    class_names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    verdicts: tuple[str | None, ...]
    sets: tuple[tuple[str, ...] | None, ...]
    probabilities: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.paths)

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame`, a row per sample; probabilities are columns `p(CLASS)`.

        Raises:
            ConfigError: pandas is not installed.
        """
        columns = ("path", "label", "class", "verdict", *map(_column, self.class_names))
        facts = zip(
            self.paths, self.labels, self.predicted, self.verdicts, self.probabilities, strict=True
        )
        rows = (dict(zip(columns, (*texts, *shares), strict=True)) for *texts, shares in facts)
        return frame(rows, columns)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A finished run: everything its folder records.

    Args:
        folder: Paths of its files.
        recipe: The fully resolved recipe.
        record: Provenance and costs.
        classes: In class-index order.
        metrics: All metrics on the test split.
        calibration: Temperatures and thresholds of prediction sets, fitted on validation; None
            without a validation split, or in a run of an earlier version.
        notes: Caveats, e.g. that its files could not be verified.
    """

    folder: RunFolder
    recipe: Recipe
    record: RunRecord
    classes: Rows[ClassResult]
    metrics: RunMetrics
    calibration: ValidationFit | None = None
    notes: tuple[str, ...] = ()

    @property
    def input(self) -> InputFormat:
        """How images must be prepared."""
        return self.record.input

    @property
    def costs(self) -> Rows[StageCost]:
        """Wall time, peak memory and trained parameters of each stage."""
        return self.record.stages

    @property
    def class_names(self) -> list[str]:
        """Class names in index order."""
        return [one.name for one in self.classes]

    @property
    def final(self) -> MethodMetrics:
        """Metrics of the last method, which the run predicts with."""
        return self.metrics.methods[-1]

    @cached_property
    def order(self) -> list[int]:
        """Class indices, most training samples first, ties by index."""
        return sorted(range(len(self.classes)), key=lambda c: (-self.classes[c].n_train, c))

    @cached_property
    def groups(self) -> list[str | None]:
        """Group of each class, in class-index order."""
        group_of = {n: group for group in GROUP_NAMES for n in self.metrics.groups[group]}
        return [group_of.get(name) for name in self.class_names]

    def in_group(self, *groups: str) -> list[int]:
        """Class indices of the groups, most training samples first."""
        return [c for c in self.order if self.groups[c] in groups]

    @property
    def history(self) -> TrainingHistory:
        """Training history, a row per logged step; read from disk on each access.

        Empty if only the head was trained, and for runs of version 0.1.

        Raises:
            RunError: The file is damaged.
        """
        return read_history(self.folder.path)

    @property
    def image_history(self) -> Rows[TrainedImage]:
        """What training saw of each image it learnt from; read from disk on each access.

        Empty unless a linear head was trained with the encoder, on images with one label each.

        Raises:
            RunError: The file is damaged.
        """
        return read_image_history(self.folder.path)

    @cached_property
    def predictions(self) -> RunPredictions:
        """Predictions for the test samples.

        Raises:
            RunError: The file is missing or damaged.
        """
        return _read_predictions(self.folder.path / _PREDICTIONS, self.class_names)

    @cached_property
    def evidence(self) -> Mapping[str, NDArray[Any]]:
        """Arrays drawn in the report, by name: feature map, clusters, thumbnails, locations.

        Empty if there is no `report.npz`.

        Raises:
            RunError: The file is damaged.
        """
        path = self.folder.path / "report.npz"
        if not path.exists():
            return {}
        try:
            return read_arrays(path)
        except RunError as error:
            raise RunError(f"{error}; delete it to get the report without the map") from error

    def has_evidence(self, *names: str) -> bool:
        """Whether all these arrays exist and are not empty."""
        return all(name in self.evidence and self.evidence[name].size for name in names)

    @property
    def recipe_text(self) -> str:
        """The recipe file, verbatim."""
        return self.folder.recipe_file.read_text("utf-8")


def read_run(path: str | Path, *, verify: bool = True) -> RunResult:
    """Read a finished run without its model; see `load_run` for one that predicts.

    Args:
        path: Its folder.
        verify: Compare every file with its checksum in `run.json`. A run of version 0.1 has no
            checksums: it is read, with a note.

    Raises:
        RunError: The run is incomplete or in a different format, a file has changed since the run
            was fitted, or files contradict each other.
    """
    found = _read(RunFolder(Path(path)), verify=verify, complete=True)
    return replace(found, notes=_notes(found, verify=verify))


def read_unreported(path: Path) -> RunResult:
    """Read a run that lacks only its report and is not yet marked complete.

    Raises:
        RunError: See `read_run`.
    """
    return _read(RunFolder(path), verify=False, complete=False)


def _read(folder: RunFolder, *, verify: bool, complete: bool) -> RunResult:
    content = folder.read_run(verify=verify, complete=complete)
    path, recipe = folder.path, folder.read_recipe()
    record = typed(RunRecord, content, folder.run_file)
    check_listed(path, record.files or {})
    _check_input(path, record, recipe)
    file = path / "classes.json"
    classes = typed(_Classes, read_object(file), file).classes
    metrics = RunMetrics.from_json(read_object(path / "metrics.json"), path / "metrics.json")
    names = [one.name for one in classes]
    _check_names(path, names, metrics)
    return RunResult(
        folder=folder,
        recipe=recipe,
        record=record,
        classes=classes,
        metrics=metrics,
        calibration=_calibration(path, len(names)),
    )


def _check_names(folder: Path, names: list[str], metrics: RunMetrics) -> None:
    per_class = [[row.name for row in method.per_class] for method in metrics.methods]
    if len(set(names)) < len(names) or any(names != found for found in per_class):
        raise RunError(
            f"{str(folder / 'classes.json')!r} lists other classes, or in another order, than "
            f"metrics.json: {_REMEDY}"
        )
    if not metrics.methods or list(metrics.classes) != names:
        raise RunError(
            f"{str(folder / 'metrics.json')!r} has other classes, or no method: {_REMEDY}"
        )


def _check_input(folder: Path, record: RunRecord, recipe: Recipe) -> None:
    found = record.input
    count = len(found.bands)
    per_band = [found.mean, found.std, found.names, found.wavelengths, found.low, found.high]
    problems = {
        f"bands {list(found.bands)}, but images that have {record.dataset.bands}": not count
        or not all(1 <= band <= record.dataset.bands for band in found.bands),
        f"lists of other lengths than its {count} bands": any(
            values is not None and len(values) != count for values in per_band
        ),
        "a scale or std that is not above 0": not min((found.scale, *found.std), default=0) > 0,
        f"image_size {found.image_size}, but the recipe has {recipe.data.image_size}": (
            found.image_size != recipe.data.image_size
        ),
        f"method {record.method!r}, but the recipe has {recipe.method!r}": (
            record.method != recipe.method
        ),
    }
    for problem, holds in problems.items():
        if holds:
            raise RunError(f"{str(folder / 'run.json')!r} is damaged: it has {problem}: {_REMEDY}")
    if recipe.backbone.pooling is None:
        raise RunError(f"{str(folder / 'recipe.toml')!r} lacks backbone.pooling: {_REMEDY}")


def _calibration(folder: Path, classes: int) -> ValidationFit | None:
    path = folder / "calibration.json"
    if not path.exists():
        return None
    found = ValidationFit.from_json(read_object(path), path)
    if found.sizes() != {classes}:
        raise RunError(f"{str(path)!r} has other classes than classes.json: {_REMEDY}")
    return found


def _notes(run: RunResult, *, verify: bool) -> tuple[str, ...]:
    """Notes on files that were not verified, and on missing prediction sets."""
    notes, path = [], str(run.folder.path)
    if not verify:
        notes.append(f"the files of run {path!r} were not verified")
    elif run.record.files is None:
        notes.append(
            f"run {path!r} was written by an earlier version, without checksums: damage to its "
            "files would go unnoticed"
        )
    if run.record.dataset.n_val and run.calibration is None:
        notes.append(f"run {path!r} has no calibration.json: prediction sets stay empty")
    return tuple(notes)


def _column(name: str) -> str:
    return f"p({name})"


def _read_predictions(path: Path, names: list[str]) -> RunPredictions:
    from tailora.data.readers.table import plain  # imports torch, which nothing else here needs

    try:
        table = list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))
        texts = [
            {name: plain(row[name]) for name in ("path", "label", "class")}
            | {name: plain(row[name]) if row.get(name) else None for name in ("verdict", "set")}
            for row in table
        ]
        shares = np.array([[float(row[_column(name)]) for name in names] for row in table])
        unknown = {one[key] for one in texts for key in ("label", "class")} - set(names)
        if unknown:
            raise ValueError(f"class {min(map(str, unknown))!r}, which the run does not have")
    except FileNotFoundError as error:
        raise RunError(f"{str(path)!r} is missing: {_REMEDY}") from error
    except OSError as error:
        raise RunError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        reason = f"it lacks column {error}" if isinstance(error, KeyError) else str(error)
        raise RunError(f"{str(path)!r} is damaged ({reason}): {_REMEDY}") from error
    return RunPredictions(
        class_names=tuple(names),
        paths=tuple(str(one["path"]) for one in texts),
        labels=tuple(str(one["label"]) for one in texts),
        predicted=tuple(str(one["class"]) for one in texts),
        verdicts=tuple(one["verdict"] for one in texts),
        sets=tuple(_set_names(one["set"]) for one in texts),
        probabilities=shares.reshape(len(table), len(names)),
    )


def _set_names(text: str | None) -> tuple[str, ...] | None:
    r"""Class names of a prediction set as `predictions.csv` has it; a semicolon in one is `\;`."""
    if text is None or text == "-":
        return None if text is None else ()
    return tuple(re.sub(r"\\(.)", r"\1", name) for name in re.findall(r"(?:\\.|[^;\\])+", text))
