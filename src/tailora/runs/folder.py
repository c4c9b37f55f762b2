"""The run folder: its files, and when it may be read, resumed or replaced."""

import resource
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final, final

from pydantic import Field

from tailora.config.recipe import TRACKERS, Recipe, read_recipe
from tailora.errors import ConfigError, RunError
from tailora.runs.run_files import verify_files
from tailora.storage import delete, guard_disk, read_json, typed, write_json, write_text

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


_Amount = Annotated[float, Field(ge=0, le=1e15)]


@final
@dataclass(frozen=True)
class StageCost:
    """Cost of one stage.

    Args:
        name: Method and stage, e.g. `"lora: train"`.
        method: Method it was run for.
        seconds: Wall time.
        peak_memory_mb: Peak memory, host plus GPU, in MB.
        trained_parameters: Number of parameters trained.
    """

    name: str
    method: str
    seconds: _Amount
    peak_memory_mb: _Amount
    trained_parameters: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class CostLedger:
    """Costs of the finished stages of a method in `path`, in the order they finished.

    Args:
        path: A JSON file.
        method: The method they belong to.
        writes: False in all processes but the first.
    """

    path: Path
    method: str
    writes: bool = True

    @contextmanager
    def measure(self, stage: str, *, trained_parameters: int = 0) -> Iterator[None]:
        """Record wall time and peak memory of a stage, unless it fails.

        Args:
            stage: Name of the stage, e.g. `"train"`.
            trained_parameters: Number of parameters it trains.
        """
        _reset_peak()
        start = time.perf_counter()
        yield
        if not self.writes:
            return
        entry = StageCost(
            f"{self.method}: {stage}",
            self.method,
            round(time.perf_counter() - start, 3),
            round(_peak_mb(), 1),
            trained_parameters,
        )
        kept = [old for old in self.entries() if old.name != entry.name]
        write_json(self.path, [asdict(one) for one in (*kept, entry)])

    def entries(self) -> list[StageCost]:
        """All finished stages.

        Raises:
            RunError: The file is damaged.
        """
        if not self.path.is_file():
            return []
        try:
            return typed(list[StageCost], read_json(self.path), self.path)
        except RunError as error:
            raise RunError(
                f"{error}: delete the folder {str(self.path.parent)!r} and add --resume "
                "to repeat this stage"
            ) from error


def _reset_peak() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        _CLEAR_REFS.write_text("5")  # Linux: reset the peak to current usage
    except OSError:
        return  # elsewhere the peak covers the process so far


def _peak_mb() -> float:
    """Peak resident memory, plus that of the GPU if there is one."""
    import torch

    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    if _STATUS.is_file():
        line = next(x for x in _STATUS.read_text().splitlines() if x.startswith("VmHWM"))
        return device + int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return device + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


SCHEMA: Final = 1
# everything a run writes besides run.json and recipe.toml
_CONTENT: Final = (
    "metrics.json", "classes.json", "calibration.json", "seen.npy", "predictions.csv",
    "report.html", "report.npz", "history.jsonl", "image-history.jsonl", "tensorboard",
    "head.json", "head.safetensors", "backbone.safetensors", "adapter", "stages", "work",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """Paths of the files of a run; `run.json` says `complete` once all others are there.

    Args:
        path: The folder.
        elsewhere: Folders of stages shared with other runs, by method; all others are in `path`.
        writes: False in all processes but the first.
    """

    path: Path
    elsewhere: Mapping[str, Path] = field(default_factory=dict)
    writes: bool = True

    @property
    def recipe_file(self) -> Path:
        """The fully resolved recipe."""
        return self.path / "recipe.toml"

    @property
    def run_file(self) -> Path:
        """Versions, seed, machine, data, stages."""
        return self.path / "run.json"

    @property
    def work(self) -> Path:
        """Decoded images and checkpoints; deleted once the run is complete."""
        return self.path / "work"

    def stage(self, method: str) -> Path:
        """Folder of the adapter, head, features and costs of a method."""
        name, _, part = method.partition("/")  # part: a class of cLoRA, a round of debLoRA
        return self.elsewhere.get(name, self.path / "stages" / name) / part

    def costs(self, method: str) -> CostLedger:
        """Wall time and memory of the stages of a method."""
        return CostLedger(self.stage(method) / "costs.json", method, self.writes)

    def read_run(self, *, verify: bool = True, complete: bool = True) -> dict[str, Any]:
        """Read `run.json`.

        Args:
            verify: Compare all files with the checksums in `run.json`.
            complete: Raise if the run is incomplete.

        Raises:
            RunError: There is no run, it is incomplete or in a different format, or a file has
                changed since.
        """
        if not self.run_file.is_file():
            raise RunError(f"{str(self.path)!r} holds no run: run.json is missing")
        run = self._run()
        if run.get("schema") != SCHEMA:
            raise RunError(
                f"run {str(self.path)!r} was written by tailora {run.get('tailora', 'unknown')}, "
                f"format {run.get('schema')!r}; this version reads format {SCHEMA}: fit it again"
            )
        if complete and not run.get("complete"):
            raise RunError(
                f"run {str(self.path)!r} is incomplete: continue it with `tailora fit ... --resume`"
            )
        if verify:
            verify_files(self.path, run)
        return run

    def read_recipe(self) -> Recipe:
        """Read the resolved recipe of the run.

        Raises:
            RunError: It is missing or damaged.
        """
        if not self.recipe_file.is_file():
            raise RunError(
                f"{str(self.recipe_file)!r} is missing: fit the run again with --force, or "
                "restore the file"
            )
        try:
            return Recipe().override(read_recipe(self.recipe_file))
        except ConfigError as error:
            raise RunError(str(error)) from error

    def open_for_fit(
        self,
        recipe: Recipe,
        fingerprint: str,
        *,
        resume: bool,
        force: bool,
        may_fall: Collection[str] = (),
    ) -> None:
        """Make the folder ready: empty for a new run, unchanged for a resumed one.

        Args:
            recipe: Fully resolved recipe.
            fingerprint: Fingerprint of the dataset.
            resume: Continue an interrupted run with the same recipe and data.
            force: Replace an existing run.
            may_fall: Recipe keys of numbers that may be lower in a resumed run: the learning rate,
                after training diverged.

        Raises:
            RunError: The folder holds something else, a run without `resume` or `force`, or a run
                with a different recipe, version or dataset.
        """
        self.check_for_fit(recipe, fingerprint, resume=resume, force=force, may_fall=may_fall)
        if resume and self.recipe_file.is_file():
            if self._changed(recipe):
                write_text(self.recipe_file, recipe.to_toml())
            return
        run = {
            "schema": SCHEMA,
            "complete": False,
            "tailora": metadata.version("tailora"),
            "dataset": {"fingerprint": fingerprint},
        }
        with guard_disk(self.path):
            # if killed between here and the last line, the run counts as not started
            delete(self.recipe_file)
            write_json(self.run_file, run)
            for name in _CONTENT:
                delete(self.path / name)
        write_text(self.recipe_file, recipe.to_toml())

    def is_complete(self) -> bool:
        """Return whether there is a finished run."""
        return self.run_file.is_file() and bool(self._run().get("complete"))

    def sweep(self) -> None:
        """Delete partly written files of killed runs."""
        for left in sorted(self.path.rglob(".*.writing*")):
            delete(left)

    def check_for_fit(
        self,
        recipe: Recipe,
        fingerprint: str,
        *,
        resume: bool,
        force: bool,
        may_fall: Collection[str] = (),
    ) -> None:
        """Raise what `open_for_fit` would raise, without changing anything."""
        self.check_use(resume=resume, force=force)
        if resume and not self._is_empty():
            self._check_same(recipe, fingerprint, may_fall)

    def check_use(self, *, resume: bool, force: bool) -> None:
        """Reject a folder that must not be used, whatever the recipe.

        Raises:
            RunError: It holds something that is not a run, or a run without `resume` or `force`.
        """
        if self._is_empty():
            return
        if not self._is_run():
            raise RunError(
                f"{str(self.path)!r} exists and is not a tailora run: choose another --out"
            )
        if not (resume or force):
            raise RunError(
                f"{str(self.path)!r} exists: add --resume to continue it or --force to replace it"
            )

    def _is_empty(self) -> bool:
        path = self.path
        return not path.exists() or (path.is_dir() and not any(path.iterdir()))

    def _check_same(self, recipe: Recipe, fingerprint: str, may_fall: Collection[str]) -> None:
        run = self._run()
        if run.get("schema") != SCHEMA or run.get("tailora") != metadata.version("tailora"):
            raise RunError(
                f"run {str(self.path)!r} was started by tailora {run.get('tailora')} (format "
                f"{run.get('schema')!r}), but this is {metadata.version('tailora')} (format "
                f"{SCHEMA}): start over with --force"
            )
        if self.recipe_file.is_file():  # else it was killed before it started
            self._check_recipe(recipe, may_fall)
        if run["dataset"]["fingerprint"] != fingerprint:
            raise RunError(
                f"run {str(self.path)!r} belongs to a different dataset: give the same data, or "
                "another --out"
            )

    def _check_recipe(self, recipe: Recipe, may_fall: Collection[str]) -> None:
        other = [
            f"{key} was {before!r}, now {now!r}"
            for key, (before, now) in self._changed(recipe).items()
            if key != TRACKERS and not (key in may_fall and now < before)
        ]
        if other:
            raise RunError(
                f"run {str(self.path)!r} has a different recipe: {'; '.join(other)}. Resume with "
                "the same options or start over with --force"
            )

    def _changed(self, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
        """Old and new values of the recipe keys that differ, by key."""
        before, now = self.read_recipe().flat(), recipe.flat()
        return {key: (before[key], now[key]) for key in now if before[key] != now[key]}

    def _is_run(self) -> bool:
        try:
            run = read_json(self.run_file)
        except RunError:
            return True  # damaged, but only tailora writes this file
        except OSError:
            return False
        return isinstance(run, dict) and "schema" in run

    def _run(self) -> dict[str, Any]:
        run = read_object(self.run_file)
        if not isinstance(run, dict) or "schema" not in run:
            raise RunError(
                f"{str(self.run_file)!r} was not written by tailora: choose another folder"
            )
        return run


def read_object(path: Path) -> Any:
    """Read a JSON file of a run.

    Raises:
        RunError: It is missing or damaged.
    """
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise RunError(
            f"{str(path)!r} is missing: fit the run again with --force, or restore the file"
        ) from error
    except NotADirectoryError as error:
        raise RunError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except RunError as error:
        raise RunError(f"{error}: fit the run again with --force") from error
