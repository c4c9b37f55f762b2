"""Scenes and labels listed in a small TOML file, or as a path with options."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, Protocol

from tailora.data.bands.names import name_in
from tailora.data.dataset import Dataset
from tailora.data.readers.visible_files import visible_entries
from tailora.data.scenes.dataset import Chips, open_scene_dataset
from tailora.data.scenes.scene import SCENE_EXTENSIONS, Scene, open_scene
from tailora.data.scenes.scene_files import SceneFiles
from tailora.errors import ConfigError, DataError, unknown_name

_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "files": (list, str),
    "labels": (str,),
    "class_field": (str,),
    "rater_field": (str,),
    "layer": (str,),
    "name": (str,),
    "bands": (list, str),
    "band_names": (list, str),
    "sensor": (str,),
    "nodata": (int, float),
    "resampling": (str,),
    "alpha": (bool,),
    "unlabelled": (int, float),
    "chip": (int,),
    "stride": (int,),
    "block": (int,),
    "most_nodata": (int, float),
    "min_train": (int,),
    "outside": (str,),
    "classes": (str,),
    "after": (list, str),
    "labels_after": (str,),
}
_OF_CHIPS: Final = tuple(item.name for item in fields(Chips))
_PATHS: Final = ("labels", "classes", "labels_after")
_LISTS: Final = ("files", "bands", "band_names", "after")
_OF_SCENE: Final = ("name", "bands", "band_names", "sensor", "nodata", "resampling", "alpha")
_TABLE: Final = "scene"
_LARGEST: Final = 2**62


class Cut(Protocol):
    """Makes images of scenes: `open_scene_dataset` or `open_scene_windows`."""

    def __call__(
        self,
        scenes: Sequence[SceneFiles],
        chips: Chips | None = None,
        *,
        name: str,
        seed: int = 0,
        to_learn: bool = True,
    ) -> Dataset:
        """Cut them; see `open_scene_dataset`."""
        ...


def open_scene_manifest(
    path: Path,
    *,
    seed: int = 0,
    to_learn: bool = True,
    usual_chip: int | None = None,
    cut: Cut = open_scene_dataset,
) -> Dataset:
    """Open the scenes of a TOML file.

    The keys of `SceneFiles` and `Chips` are at the top level; with several scenes, each has a table
    `[[scene]]` with its own keys of `SceneFiles`. Paths are relative to the file's folder and may
    contain wildcards.

    Args:
        path: The TOML file.
        seed: Seeds the splits.
        to_learn: See `open_scene_dataset`.
        usual_chip: Default for the pixels per side of a chip; None leaves that of `Chips`.
        cut: What images are made of the scenes.

    Raises:
        ConfigError: It is not TOML, or a key is unknown, missing or of the wrong type.
        DataError: See `open_scene_dataset`.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, too many digits
        raise ConfigError(f"{str(path)!r} is not TOML: {error}") from error
    tables = content.pop(_TABLE, [{}])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{str(path)!r}: write each scene as a table under [[{_TABLE}]]")
    for table in (content, *tables):
        _check_keys(str(path), table)
    lone = [key for table in tables for key in table if key in _OF_CHIPS]
    if lone:
        raise ConfigError(
            f"{str(path)!r}: {lone[0]} applies to all scenes; move it to the top level"
        )
    top = {key: value for key, value in content.items() if key not in _OF_CHIPS}
    if len(tables) > 1:
        top.pop("name", None)  # of the dataset; each scene has its own
    scenes = [_scene(str(path), {**top, **table}, path.parent) for table in tables]
    name = str(content.get("name", path.stem))
    return cut(scenes, _chips(content, usual_chip), name=name, seed=seed, to_learn=to_learn)


def open_scene_path(
    path: Path,
    options: Mapping[str, Any],
    *,
    seed: int = 0,
    to_learn: bool = True,
    usual_chip: int | None = None,
    cut: Cut = open_scene_dataset,
) -> Dataset:
    """Open a raster, or a folder whose rasters are the bands of one scene, with its labels.

    Args:
        path: A raster file or a folder.
        options: Keys of `SceneFiles` and `Chips`, including `labels`. Paths are relative to the
            working directory.
        seed: Seeds the splits.
        to_learn: See `open_scene_dataset`.
        usual_chip: Default for the pixels per side of a chip; None leaves that of `Chips`.
        cut: What images are made of the scene.

    Raises:
        ConfigError: An option is unknown, missing or of the wrong type.
        DataError: See `open_scene_dataset`.
    """
    _check_keys(str(path), options)
    given = {key: value for key, value in options.items() if key not in _OF_CHIPS}
    name = str(options.get("name", path.resolve().stem))
    scene = _scene(str(path), {"files": [str(path)], "name": name, **given}, Path())
    return cut([scene], _chips(options, usual_chip), name=name, seed=seed, to_learn=to_learn)


def open_unlabelled(source: str) -> Scene | None:
    """Open a raster, or a folder of files with some rasters, as a scene without labels.

    Args:
        source: A path, with options as for `open_dataset` except `labels`.

    Returns:
        None if `source` is something else, or has labels.

    Raises:
        ConfigError: An option is unknown or of the wrong type, or applies to chips.
        DataError: See `open_scene`.
    """
    name, *assignments = [source] if Path(source).exists() else source.split(":")
    path = Path(name)
    options = parse_scene_options(assignments) if path.exists() else {}
    if not _is_scene(path) or "labels" in options:
        return None
    useless = [key for key in options if key not in _OF_SCENE]
    if useless:
        raise ConfigError(f"{useless[0]} has no effect without labels; leave it out, or add labels")
    lists = {key: _listed(options[key]) for key in ("bands", "band_names") if key in options}
    files = _files([name], Path())
    return open_scene(files, **{"name": path.resolve().stem, **options, **lists})


def _is_scene(path: Path) -> bool:
    if path.is_dir():
        within = visible_entries(path)
        rasters = any(p.suffix.lower() in SCENE_EXTENSIONS for p in within)
        return rasters and not any(p.is_dir() for p in within)
    return path.is_file() and path.suffix.lower() in SCENE_EXTENSIONS


def parse_scene_options(assignments: Sequence[str]) -> dict[str, Any]:
    """Read `key=value` after a path; lists are comma-separated.

    Raises:
        ConfigError: There is no `=`, the key is unknown, or the value is of another type.
    """
    chosen: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or key not in _KINDS:
            raise unknown_name("option of a scene", key, _KINDS)
        try:
            chosen[key] = _parse(key, text)
        except ValueError as error:
            raise ConfigError(f"{key} takes a number, got {text!r}") from error
    return chosen


def _parse(key: str, text: str) -> Any:
    if key in _LISTS:
        return text.split(",")
    kinds = _KINDS[key]
    if bool in kinds:
        return {"true": True, "false": False}[text] if text in ("true", "false") else text
    return float(text) if float in kinds else int(text) if int in kinds else text


def _check_keys(where: str, content: Mapping[str, Any]) -> None:
    for key, value in content.items():
        if key not in _KINDS:
            raise unknown_name(f"key of {where!r}", key, (*_KINDS, _TABLE))
        kinds = _KINDS[key]
        is_wrong_bool = isinstance(value, bool) and bool not in kinds
        if is_wrong_bool or not isinstance(value, kinds) or not _all_texts(value):
            names = " or ".join(kind.__name__ for kind in kinds)
            raise ConfigError(f"{where!r}: {key} must be {names}, got {value!r}")
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise ConfigError(f"{where!r}: {key} has more than 18 digits")


def _all_texts(value: Any) -> bool:
    return not isinstance(value, list) or all(isinstance(item, str) for item in value)


def _chips(content: Mapping[str, Any], usual_chip: int | None) -> Chips:
    usual: dict[str, Any] = {} if usual_chip is None else {"chip": usual_chip}
    return Chips(**usual | {key: value for key, value in content.items() if key in _OF_CHIPS})


def _scene(where: str, content: Mapping[str, Any], folder: Path) -> SceneFiles:
    for key, flag in (("files", ""), ("labels", " (--labels)")):
        if not content.get(key):
            raise ConfigError(f"{where!r}: {key}{flag} is missing; a scene needs it")
    lists = {key: _listed(content.get(key, ())) for key in _LISTS}
    single = {
        key: value for key, value in content.items() if key not in (*_LISTS, *_PATHS, *_OF_CHIPS)
    }
    paths = {key: folder / content[key] for key in _PATHS if key in content}
    return SceneFiles(
        files=tuple(_files(lists["files"], folder)),
        after=tuple(_files(lists["after"], folder)),
        **paths,
        bands=lists["bands"],
        band_names=lists["band_names"],
        **single,
    )


def _listed(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _files(patterns: Sequence[str], folder: Path) -> list[Path]:
    """Find the files of a scene; in a folder, the rasters named after a band."""
    found: list[Path] = []
    for pattern in patterns:
        path = folder / pattern
        if path.is_dir():
            found += _band_files(path)
        elif path.exists() or not any(sign in pattern for sign in "*?["):
            found.append(path)
        else:
            matches = sorted(path.parent.glob(path.name))
            if not matches:
                raise DataError(f"no file matches {str(path)!r}; check files")
            found += matches
    return found


def _band_files(folder: Path) -> list[Path]:
    files = [p for p in visible_entries(folder) if p.is_file()]
    rasters = [p for p in files if p.suffix.lower() in SCENE_EXTENSIONS]
    named = [path for path in rasters if name_in(path.stem)]
    if not rasters:
        raise DataError(f"no raster ({', '.join(SCENE_EXTENSIONS)}) in {str(folder)!r}")
    # previews and quality layers are in the same folder
    return named or rasters
