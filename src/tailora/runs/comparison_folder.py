"""The folder of a comparison: its files, and when it may be resumed or replaced.

```
OUT/comparison.json        every number in the report; `complete` once all rows are there
OUT/comparison.html        the report
OUT/recipe.toml            the recipe that all rows share
OUT/results/ROW/PROBE/seed-0/metrics.json, predictions.npz, row.json
OUT/stages/METHOD-KEY/     adapters and features, shared by the rows that use them
OUT/tuning/ROW-KEY/        study.log of Optuna, best.toml for `tailora fit --recipe`
OUT/images/                decoded images; deleted once the comparison is complete
```
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Final

from tailora.config.recipe import Recipe, read_recipe
from tailora.errors import RunError
from tailora.runs.comparison import KIND, SCHEMA, ComparisonResult
from tailora.runs.folder import read_object
from tailora.storage import delete, guard_disk, read_json, write_json, write_text

_CONTENT: Final = ("comparison.html", "results", "stages", "tuning", "images")


@dataclass(frozen=True)
class ComparisonFolder:
    """Paths of the files of a comparison."""

    path: Path

    @property
    def record(self) -> Path:
        """Every number of the comparison."""
        return self.path / "comparison.json"

    @property
    def page(self) -> Path:
        """The HTML report."""
        return self.path / "comparison.html"

    @property
    def images(self) -> Path:
        """Decoded images."""
        return self.path / "images"

    def stage(self, method: str, key: str) -> Path:
        """Folder of a stage; `key` identifies its inputs."""
        return self.path / "stages" / f"{method}-{key}"

    def tuning(self, row: str, key: str) -> Path:
        """Folder of the trials of a row; `key` identifies the search space."""
        return self.path / "tuning" / f"{_file_name(row)}-{key}"

    def result(self, row: str, probe: str, seed: int) -> Path:
        """Folder of the results of a row with one probe and seed."""
        return self.path / "results" / _file_name(row) / _file_name(probe) / f"seed-{seed}"

    def has(self, row: str, probe: str, seed: int) -> bool:
        """Return whether a result is complete; its metrics are written last."""
        return (self.result(row, probe, seed) / "metrics.json").is_file()

    def check(
        self, recipe: Recipe, fingerprints: Sequence[str], *, resume: bool, force: bool
    ) -> None:
        """Raise what `open` would raise, without changing anything.

        Raises:
            RunError: The folder holds something else, a comparison without `resume` or `force`, or
                one with a different recipe, version or dataset.
        """
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        if not self._is_comparison():
            raise RunError(
                f"{str(self.path)!r} exists and is not a tailora comparison: choose another --out"
            )
        if resume:
            self._check_same(recipe, fingerprints)
        elif not force:
            raise RunError(
                f"{str(self.path)!r} exists: add --resume to continue it or to add rows, or "
                "--force to replace it"
            )

    def open(
        self, recipe: Recipe, fingerprints: Sequence[str], *, resume: bool, force: bool
    ) -> None:
        """Make the folder ready: empty for a new comparison, unchanged for a resumed one.

        Args:
            recipe: The recipe that all rows share.
            fingerprints: Fingerprint of the dataset, or one per seed.
            resume: Continue, or add rows.
            force: Replace an existing comparison.

        Raises:
            RunError: See `check`.
        """
        self.check(recipe, fingerprints, resume=resume, force=force)
        record = {
            "schema": SCHEMA,
            "kind": KIND,
            "complete": False,
            "tailora": metadata.version("tailora"),
            "fingerprints": list(fingerprints),
        }
        if resume and self.record.is_file():
            write_json(self.record, record)
            return
        with guard_disk(self.path):
            write_json(self.record, record)
            for name in _CONTENT:
                delete(self.path / name)
        write_text(self.path / "recipe.toml", recipe.to_toml())

    def finish(self, found: ComparisonResult) -> None:
        """Write the numbers and mark the comparison complete."""
        write_json(self.record, found.to_json())
        shutil.rmtree(self.images, ignore_errors=True)

    def read(self) -> ComparisonResult:
        """Read a complete comparison.

        Raises:
            RunError: There is none, or it is incomplete or damaged.
        """
        content = read_object(self.record)
        if not isinstance(content, dict):
            raise RunError(f"{str(self.record)!r} is damaged: compare again with --force")
        if not content.get("complete"):
            raise RunError(
                f"comparison {str(self.path)!r} is incomplete: continue it with --resume"
            )
        try:
            return replace(ComparisonResult.from_json(content, self.record), path=self.path)
        except RunError as error:
            raise RunError(f"{error}; add --resume to the comparison to write it again") from error

    def _check_same(self, recipe: Recipe, fingerprints: Sequence[str]) -> None:
        record = read_object(self.record)
        if not isinstance(record, dict) or not isinstance(record.get("fingerprints"), list):
            raise RunError(f"{str(self.record)!r} is damaged: start over with --force")
        if record.get("tailora") != metadata.version("tailora") or record.get("schema") != SCHEMA:
            raise RunError(
                f"comparison {str(self.path)!r} was started by tailora {record.get('tailora')}, "
                f"but this is {metadata.version('tailora')}: start over with --force"
            )
        before, now = (
            Recipe().override(read_recipe(self.path / "recipe.toml")).flat(),
            recipe.flat(),
        )
        changed = [key for key in now if before[key] != now[key] and key != "method"]
        if changed:
            key = changed[0]
            raise RunError(
                f"comparison {str(self.path)!r} has a different recipe: {key} was {before[key]!r}, "
                f"now {now[key]!r}; resume with the same options or start over with --force"
            )
        both = min(len(fingerprints), len(record["fingerprints"]))
        if list(fingerprints[:both]) != record["fingerprints"][:both]:
            raise RunError(
                f"comparison {str(self.path)!r} belongs to a different dataset or split: give "
                "the same, or another --out"
            )

    def _is_comparison(self) -> bool:
        try:
            record = read_json(self.record)
        except RunError:
            return True  # damaged, but only tailora writes this file
        except OSError:
            return False
        return isinstance(record, dict) and record.get("kind") == KIND


def read_comparison(path: str | Path) -> ComparisonResult:
    """Read a finished comparison.

    Args:
        path: Its folder.

    Raises:
        RunError: There is none, or it is incomplete or damaged.
    """
    return ComparisonFolder(Path(path)).read()


def _file_name(name: str) -> str:
    """Replace characters of a name that some file systems do not allow."""
    return re.sub(r"[^A-Za-z0-9.=+_-]+", "-", name).strip("-")
