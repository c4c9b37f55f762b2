"""Read a finished run folder, once and with complaints that name the file."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

from numpy.typing import NDArray

from tailora.counts import GROUP_NAMES
from tailora.errors import RunError
from tailora.metrics.run_metrics import READ_SCHEMAS
from tailora.metrics.validation_fit import ValidationFit
from tailora.registry import method_facts
from tailora.report.numbers import number
from tailora.runs.history import TrainingHistory, read_history
from tailora.storage import parse_toml, read_arrays, read_json

_SCHEMAS: Final = (1,)


@final
@dataclass(frozen=True)
class FinishedRun:
    """What a run left behind.

    Args:
        path: The folder.
        metrics: `metrics.json`.
        run: `run.json`.
        classes: The entries of `classes.json` by class name.
        recipe: `recipe.toml` as text.
        arrays: `report.npz` by name; empty when the file is absent.
        calibration: What was fitted on validation; None without such a split.
        history: `history.jsonl`; empty when the file is absent.
    """

    path: Path
    metrics: Mapping[str, Any]
    run: Mapping[str, Any]
    classes: Mapping[str, Mapping[str, Any]]
    recipe: str
    arrays: Mapping[str, NDArray[Any]]
    history: TrainingHistory
    calibration: ValidationFit | None = None

    @cached_property
    def names(self) -> list[str]:
        """Class names in index order."""
        return list(self.metrics["classes"])

    @cached_property
    def order(self) -> list[int]:
        """Class indices, most training samples first, ties by index."""
        return sorted(range(len(self.names)), key=lambda c: (-self.n_train(self.names[c]), c))

    @cached_property
    def methods(self) -> list[Mapping[str, Any]]:
        """Results of every method, as evaluated."""
        return list(self.metrics["methods"])

    @property
    def final(self) -> Mapping[str, Any]:
        """Results of the method the run is about: the last one."""
        return self.methods[-1]

    @cached_property
    def group_of(self) -> dict[str, str]:
        """Group of each class name."""
        groups = self.metrics["groups"]
        return {name: group for group in GROUP_NAMES for name in groups.get(group, [])}

    def n_train(self, name: str) -> int:
        """Training samples of a class; 0 when the run does not say."""
        return int(number(self.classes.get(name, {}).get("n_train")) or 0)

    def in_group(self, *groups: str) -> list[int]:
        """Class indices of the groups, most training samples first."""
        return [c for c in self.order if self.group_of.get(self.names[c]) in groups]

    def per_class(self, method: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        """Scores of a method by class name."""
        return {entry["name"]: entry for entry in method.get("per_class") or []}

    def has_arrays(self, *names: str) -> bool:
        """Whether all these arrays were kept and hold something."""
        return all(name in self.arrays and self.arrays[name].size for name in names)


def read_run_folder(folder: Path) -> FinishedRun:
    """Read and check the files of a finished run.

    Raises:
        RunError: A file is absent or unreadable, or its format is newer.
    """
    # `complete` is not asked for: a run is called complete only after its report is written
    run = _read_object(folder / "run.json", required=())
    metrics = _read_object(folder / "metrics.json", required=("methods", "classes", "groups"))
    for name, found, known in (
        ("run.json", run, _SCHEMAS),
        ("metrics.json", metrics, READ_SCHEMAS),
    ):
        if found.get("schema") not in known:
            raise RunError(
                f"{str(folder / name)!r} has schema {found.get('schema')!r}, this version reads "
                f"{' and '.join(map(str, known))}; use the tailora that made the run"
            )
    if not metrics["methods"]:
        raise RunError(f"{str(folder / 'metrics.json')!r} holds no method; evaluate the run first")
    listed = _read_object(folder / "classes.json", required=("classes",))["classes"]
    return FinishedRun(
        path=folder,
        metrics=metrics,
        run=run,
        classes={entry["name"]: entry for entry in listed},
        recipe=_read_recipe(folder / "recipe.toml"),
        arrays=_read_arrays(folder / "report.npz"),
        calibration=_read_calibration(folder / "calibration.json"),
        history=read_history(folder),
    )


def _read_calibration(path: Path) -> ValidationFit | None:
    return ValidationFit.from_json(_read_object(path, required=())) if path.exists() else None


def method_name(method: str) -> str:
    """Write a method's name as its authors do.

    Example:
        >>> method_name("deblora"), method_name("something else")
        ('debLoRA', 'something else')
    """
    return str(method_facts().get(method, {}).get("title", method))


def recipe_settings(recipe: str) -> dict[str, str]:
    r"""Flatten a recipe to dotted keys and values as text.

    Example:
        >>> recipe_settings("seed = 0\n[adapter]\nrank = 8")
        {'seed': '0', 'adapter.rank': '8'}
    """
    settings: dict[str, str] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                visit(f"{prefix}.{key}" if prefix else key, inner)
        else:
            settings[prefix] = str(value)

    visit("", parse_toml(recipe))
    return settings


def _read_object(path: Path, *, required: tuple[str, ...]) -> Mapping[str, Any]:
    try:
        found = read_json(path)
    except FileNotFoundError as error:
        raise RunError(f"{str(path)!r} is absent; give the folder of a finished run") from error
    except RunError as error:
        raise RunError(f"{error}; run again with --resume") from error
    if not isinstance(found, dict):
        raise RunError(f"{str(path)!r} is damaged: it holds no object; run again with --resume")
    missing = [key for key in required if key not in found]
    if missing:
        raise RunError(f"{str(path)!r} lacks {missing}; evaluate the run again")
    return found


def _read_recipe(path: Path) -> str:
    try:
        text = path.read_text("utf-8")
        parse_toml(text)
    except FileNotFoundError as error:
        raise RunError(f"{str(path)!r} is absent; give the folder of a finished run") from error
    except OSError as error:
        raise RunError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise RunError(f"{str(path)!r} is not TOML ({error}); mend it or run again") from error
    return text


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    if not path.exists():
        return {}
    try:
        return read_arrays(path)
    except RunError as error:
        raise RunError(f"{error}; delete it to get the report without the map") from error
