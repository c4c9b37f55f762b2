"""The files that a run relies on: their checksums, and whether they say what they must and agree.

`run.json` keeps a SHA-256 of each under `files`, and of its own content under `checksum`. What a
file says is checked whether or not there are checksums.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from tailora.config.recipe import Recipe
from tailora.errors import RunError
from tailora.metrics import RunMetrics, ValidationFit
from tailora.runs.input_format import InputFormat
from tailora.storage import file_sha256, read_json, typed

_FILES: Final = (
    "recipe.toml", "metrics.json", "classes.json", "calibration.json", "report.npz", "seen.npy",
    "head.json", "head.safetensors", "backbone.safetensors", "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
)  # fmt: skip
_MEND: Final = "fit the run again with --force, or bring the file back"
_Count = Annotated[int, Field(ge=0, le=2**53)]
_Amount = Annotated[float, Field(ge=0, le=1e15)]


@dataclass(frozen=True)
class _Duplicate:
    ids: list[str]
    splits: list[str]


@dataclass(frozen=True)
class _Stage:
    name: str
    seconds: _Amount | None = None
    peak_memory_mb: _Amount | None = None
    trained_parameters: _Count | None = None


@dataclass(frozen=True)
class _Adapted:
    module: str
    count: _Count
    shape: str
    parameters: _Count


@dataclass(frozen=True)
class _Spectrum:
    effective_rank: _Amount
    top_energy: _Amount
    entropy: _Amount


@dataclass(frozen=True)
class _Git:
    commit: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True)
class _Dataset:
    fingerprint: str
    bands: Annotated[int, Field(ge=1, le=100_000)]
    name: str = ""
    chip: Annotated[int, Field(ge=1, le=2**31)] | None = None
    pixel: tuple[float, ...] | None = None
    pixel_units: str | None = None
    n_val: _Count = 0
    n_train: _Count | None = None
    n_test: _Count | None = None
    notes: list[str] | None = None
    duplicates: list[_Duplicate] | None = None
    broken: list[str] | None = None


@dataclass(frozen=True)
class _Backbone:
    name: str
    source: str
    sha256: str


@dataclass(frozen=True)
class _Record:
    method: str
    dataset: _Dataset
    backbone: _Backbone
    input: InputFormat
    files: dict[str, str] | None = None
    seed: int | None = None
    tailora: str | None = None
    started: str | None = None
    versions: dict[str, str | None] | None = None
    git: _Git | None = None
    machine: dict[str, str | int | float | bool | None] | None = None
    stages: list[_Stage] | None = None
    adapted: list[_Adapted] | None = None
    spectrum: _Spectrum | None = None


@dataclass(frozen=True)
class _Class:
    name: str
    n_train: _Count
    verdict: str
    reason: str | None = None
    n_val: _Count | None = None
    n_test: _Count | None = None


@dataclass(frozen=True)
class _Classes:
    classes: Annotated[list[_Class], Field(min_length=1)]


@dataclass(frozen=True)
class RunFacts:
    """What the JSON files of a run say, checked; see `tailora.runs.run.Run`."""

    input: InputFormat
    classes: list[dict[str, Any]]
    metrics: RunMetrics
    calibration: ValidationFit | None


def seal(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of run.json with the checksums of all files and of itself."""
    files = {name: _sha256(folder / name) for name in _FILES if (folder / name).is_file()}
    sealed = {**record, "files": files}
    return {**sealed, "checksum": _checksum(sealed)}


def verify_files(folder: Path, record: Mapping[str, Any]) -> None:
    """Compare every file with its checksum; a run of version 0.1 has none.

    Raises:
        RunError: A file has changed since the run was fitted, or is missing; the first is named.
    """
    if not has_checksums(record):
        return
    if record.get("checksum") != _checksum(record):
        raise _changed(folder / "run.json")
    for name, expected in _listed(folder, record).items():
        if _sha256(folder / name) != expected:
            raise _changed(folder / name)


def has_checksums(record: Mapping[str, Any]) -> bool:
    """Return whether a run keeps checksums of its files."""
    return "files" in record or "checksum" in record


def read_facts(folder: Path, record: Mapping[str, Any], recipe: Recipe) -> RunFacts:
    """Read what the JSON files of a run say.

    Raises:
        RunError: One is missing or damaged, or two contradict each other.
    """
    known = typed(_Record, record, folder / "run.json")
    _listed(folder, record)
    _check_input(folder, known, recipe)
    content = read_json(folder / "classes.json")
    names = [entry.name for entry in typed(_Classes, content, folder / "classes.json").classes]
    metrics = RunMetrics.from_json(read_json(folder / "metrics.json"))
    _check_names(folder, names, metrics)
    return RunFacts(known.input, content["classes"], metrics, _calibration(folder, len(names)))


def _check_names(folder: Path, names: list[str], metrics: RunMetrics) -> None:
    per_class = [[row.name for row in method.per_class] for method in metrics.methods]
    if len(set(names)) < len(names) or any(names != found for found in per_class):
        raise RunError(
            f"{str(folder / 'classes.json')!r} names other classes, or in another order, than "
            f"metrics.json: {_MEND}"
        )
    if not metrics.methods or list(metrics.classes) != names:
        raise RunError(
            f"{str(folder / 'metrics.json')!r} holds other classes, or no method: {_MEND}"
        )


def _check_input(folder: Path, record: _Record, recipe: Recipe) -> None:
    found = record.input
    count = len(found.bands)
    per_band = [found.mean, found.std, found.names, found.wavelengths, found.low, found.high]
    problems = {
        f"bands {list(found.bands)} of images that have {record.dataset.bands}": not count
        or not all(1 <= band <= record.dataset.bands for band in found.bands),
        f"lists of other lengths than its {count} bands": any(
            values is not None and len(values) != count for values in per_band
        ),
        "a scale or std that is not above 0": not min((found.scale, *found.std), default=0) > 0,
        f"image_size {found.image_size} where the recipe has {recipe.data.image_size}": (
            found.image_size != recipe.data.image_size
        ),
        f"method {record.method!r} where the recipe has {recipe.method!r}": (
            record.method != recipe.method
        ),
    }
    for problem, holds in problems.items():
        if holds:
            raise RunError(f"{str(folder / 'run.json')!r} is damaged: it says {problem}: {_MEND}")
    if recipe.backbone.pooling is None:
        raise RunError(f"{str(folder / 'recipe.toml')!r} lacks backbone.pooling: {_MEND}")


def _calibration(folder: Path, classes: int) -> ValidationFit | None:
    path = folder / "calibration.json"
    if not path.exists():
        return None
    found = ValidationFit.from_json(read_json(path))
    if found.sizes() != {classes}:
        raise RunError(f"{str(path)!r} holds other classes than classes.json: {_MEND}")
    return found


def _listed(folder: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """Checksums by file, all of which are there and lie in the folder."""
    files = typed(dict[str, str], record.get("files") or {}, folder / "run.json")
    for name in files:
        if name not in _FILES:
            raise RunError(f"{str(folder / 'run.json')!r} lists a file {name!r}, which no run has")
        if not (folder / name).is_file():
            raise RunError(
                f"{str(folder / name)!r} is missing, a file of weights or results: {_MEND}"
            )
    return files


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path).hex()
    except OSError as error:
        raise RunError(f"cannot read {str(path)!r}: {error.strerror}") from error


def _checksum(record: Mapping[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _changed(path: Path) -> RunError:
    return RunError(
        f"{str(path)!r} has changed since the run was fitted: bring the file back, fit the run "
        "again with --force, or read it as it is with --unverified"
    )


def notes_on(path: Path, record: dict[str, Any], *, verify: bool) -> tuple[str, ...]:
    """Say so where nothing vouches for the files of a run, or its prediction sets are lost."""
    notes = []
    if not verify:
        notes.append(f"the files of run {str(path)!r} were not verified")
    elif not has_checksums(record):
        notes.append(
            f"run {str(path)!r} is of an earlier version and keeps no checksums of its files: "
            "damage would not be noticed"
        )
    if record["dataset"].get("n_val") and not (path / "calibration.json").exists():
        notes.append(f"run {str(path)!r} has no calibration.json: prediction sets stay empty")
    return tuple(notes)
