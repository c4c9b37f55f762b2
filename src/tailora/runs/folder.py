"""The run folder: what lies where, and when it may be read, resumed or replaced."""

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
    """What one stage took.

    Args:
        name: Method and stage, e.g. `"lora: train"`.
        method: Row of the results that it was done for.
        seconds: Wall time.
        peak_memory_mb: In MB.
        trained_parameters: Parameters that learnt in it.
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
        method: The row of the results they are done for.
        writes: False in processes that leave it to the first one.
    """

    path: Path
    method: str
    writes: bool = True

    @contextmanager
    def measure(self, stage: str, *, trained_parameters: int = 0) -> Iterator[None]:
        """Time a stage and note its peak memory; written only when the stage ends well.

        Args:
            stage: What is done, e.g. `"train"`.
            trained_parameters: Parameters that learn in it.
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
                f"{error}: delete the folder {str(self.path.parent)!r} and add --resume, which "
                "does this stage again"
            ) from error


def _reset_peak() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        _CLEAR_REFS.write_text("5")  # Linux: the peak starts anew from what is held now
    except OSError:
        return  # elsewhere the peak is that of the process so far


def _peak_mb() -> float:
    """Peak resident memory, plus that of the GPU where there is one."""
    import torch

    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    if _STATUS.is_file():
        line = next(x for x in _STATUS.read_text().splitlines() if x.startswith("VmHWM"))
        return device + int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return device + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


SCHEMA: Final = 1
# all that a run writes beside run.json and recipe.toml
_CONTENT: Final = (
    "metrics.json", "classes.json", "calibration.json", "seen.npy", "predictions.csv",
    "report.html", "report.npz", "history.jsonl", "tensorboard",
    "head.json", "head.safetensors", "backbone.safetensors", "adapter", "stages", "work",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """Names of the files of a run; `run.json` says `complete` once all others are there.

    Args:
        path: The folder.
        elsewhere: Where stages lie that are shared with other runs, by method; all others lie in
            the folder.
        writes: False for processes that leave it to the first one.
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
        """Decoded images and checkpoints; gone once the run is complete."""
        return self.path / "work"

    def stage(self, method: str) -> Path:
        """Adapter, head, features and costs of one row of the results."""
        name, _, part = method.partition("/")  # a part is the adapter of one category of cLoRA
        return self.elsewhere.get(name, self.path / "stages" / name) / part

    def costs(self, method: str) -> CostLedger:
        """Seconds and memory of what was done for one row of the results."""
        return CostLedger(self.stage(method) / "costs.json", method, self.writes)

    def read_run(self, *, verify: bool = True, complete: bool = True) -> dict[str, Any]:
        """Read `run.json` of a run of this version.

        Args:
            verify: Compare all files with the checksums that the run keeps of them.
            complete: Refuse a run that is not.

        Raises:
            RunError: There is no run, it is incomplete, another version wrote it, or a file has
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
                f"run {str(self.path)!r} is incomplete: go on with `tailora fit ... --resume`"
            )
        if verify:
            verify_files(self.path, run)
        return run

    def read_recipe(self) -> Recipe:
        """Read the run's own recipe.

        Raises:
            RunError: It is missing or damaged.
        """
        if not self.recipe_file.is_file():
            raise RunError(
                f"{str(self.recipe_file)!r} is missing: fit the run again with --force, or bring "
                "the file back"
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
    ) -> dict[str, Any] | None:
        """Make the folder ready: empty for a new run, untouched for a resumed one.

        Args:
            recipe: Fully resolved recipe of the run to do.
            fingerprint: Of the dataset.
            resume: Go on with an interrupted run of the same recipe and data.
            force: Replace a run that is there.
            may_fall: Recipe keys of numbers that may be lower than they were in a run that is gone
                on with: after a training that diverged, its learning rate.

        Returns:
            The old `run.json` when a run is resumed, else None.

        Raises:
            RunError: The folder exists and neither was asked for, holds something that is no run,
                or holds a run of another recipe, version or dataset.
        """
        self.check_for_fit(recipe, fingerprint, resume=resume, force=force, may_fall=may_fall)
        if resume and self.recipe_file.is_file():
            if self._changed(recipe):
                write_text(self.recipe_file, recipe.to_toml())
            return self._run()
        run = {
            "schema": SCHEMA,
            "complete": False,
            "tailora": metadata.version("tailora"),
            "dataset": {"fingerprint": fingerprint},
        }
        with guard_disk(self.path):
            # killed between here and the last line, the folder is a run that has not begun
            delete(self.recipe_file)
            write_json(self.run_file, run)
            for name in _CONTENT:
                delete(self.path / name)
        write_text(self.recipe_file, recipe.to_toml())
        return None

    def is_complete(self) -> bool:
        """Return whether there is a finished run."""
        return self.run_file.is_file() and bool(self._run().get("complete"))

    def sweep(self) -> None:
        """Delete half-written files that killed runs have left."""
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
        """Reject what `open_for_fit` would have to refuse, changing nothing."""
        self.check_use(resume=resume, force=force)
        if resume and not self._is_empty():
            self._check_same(recipe, fingerprint, may_fall)

    def check_use(self, *, resume: bool, force: bool) -> None:
        """Reject a folder that is there and not to be used, whatever the recipe.

        Raises:
            RunError: It holds something that is no run, or a run that is neither to be continued
                nor replaced.
        """
        if self._is_empty():
            return
        if not self._is_run():
            raise RunError(f"{str(self.path)!r} exists and is no tailora run: choose another --out")
        if not (resume or force):
            raise RunError(
                f"{str(self.path)!r} exists: add --resume to go on with it or --force to replace it"
            )

    def _is_empty(self) -> bool:
        path = self.path
        return not path.exists() or (path.is_dir() and not any(path.iterdir()))

    def _check_same(self, recipe: Recipe, fingerprint: str, may_fall: Collection[str]) -> None:
        run = self._run()
        if run.get("schema") != SCHEMA or run.get("tailora") != metadata.version("tailora"):
            raise RunError(
                f"run {str(self.path)!r} was begun by tailora {run.get('tailora')} (format "
                f"{run.get('schema')!r}), this is {metadata.version('tailora')} (format {SCHEMA}): "
                "start anew with --force"
            )
        if self.recipe_file.is_file():  # else it was killed before it began
            self._check_recipe(recipe, may_fall)
        if run["dataset"]["fingerprint"] != fingerprint:
            raise RunError(
                f"run {str(self.path)!r} belongs to another dataset: give the same data, or "
                "another --out"
            )

    def _check_recipe(self, recipe: Recipe, may_fall: Collection[str]) -> None:
        for key, (before, now) in self._changed(recipe).items():
            if key == TRACKERS or (key in may_fall and now < before):
                continue
            raise RunError(
                f"run {str(self.path)!r} has another recipe: {key} was {before!r}, now "
                f"{now!r}; resume with the same options or start anew with --force"
            )

    def _changed(self, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
        """Values of the run's own recipe and of another by key, where they differ."""
        before, now = self.read_recipe().flat(), recipe.flat()
        return {key: (before[key], now[key]) for key in now if before[key] != now[key]}

    def _is_run(self) -> bool:
        try:
            run = read_json(self.run_file)
        except RunError:
            return True  # damaged, but whose else
        except OSError:
            return False
        return isinstance(run, dict) and "schema" in run

    def _run(self) -> dict[str, Any]:
        run = read_object(self.run_file)
        if not isinstance(run, dict) or "schema" not in run:
            raise RunError(f"{str(self.run_file)!r} is not tailora's: choose another folder")
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
            f"{str(path)!r} is missing: fit the run again with --force, or bring the file back"
        ) from error
    except NotADirectoryError as error:
        raise RunError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except RunError as error:
        raise RunError(f"{error}: fit the run again with --force") from error
