"""Scenes to be mapped: found among files and folders, and opened with the bands a run uses."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from tailora.data.bands.names import name_in
from tailora.data.readers.visible_files import visible_entries
from tailora.data.scenes.scene import SCENE_EXTENSIONS, Scene, open_scene
from tailora.errors import DataError
from tailora.methods.names import require_utf8
from tailora.numbers import counted

if TYPE_CHECKING:  # importing a run takes seconds, most of them for PEFT
    from tailora.runs.run import Run

_WITHOUT_TAGS: Final = (
    ", retrain, or map stored values, e.g. after `gdal_translate -a_scale 1 -a_offset 0`"
)


@final
@dataclass(frozen=True)
class SceneOptions:
    """Metadata missing from the files of a scene.

    Args:
        sensor: One of `bands.SENSORS`.
        band_names: Name of each band, in file order.
        nodata: No-data value; None uses what the files declare.
    """

    sensor: str | None = None
    band_names: tuple[str, ...] = ()
    nodata: float | None = None


def find_scenes(paths: Sequence[Path]) -> list[tuple[str, list[Path]]]:
    """Return name and files of every scene.

    Two or more rasters named after bands (`..._B04.tif`) in a folder are one scene, named after the
    folder; so are several such files given individually. Any other raster is a scene.

    Args:
        paths: Rasters and folders.

    Raises:
        DataError: A path does not exist, or a folder holds no raster.
    """
    for path in paths:
        require_utf8(str(path))
        if not path.exists():
            raise DataError(f"no raster or folder {str(path)!r}; check the path")
    files = [path for path in paths if not path.is_dir()]
    scenes = _scenes_of(files, files[0].stem if files else "")
    for folder in (path for path in paths if path.is_dir()):
        files_inside = (p for p in visible_entries(folder) if p.is_file())
        inside = [p for p in files_inside if p.suffix.lower() in SCENE_EXTENSIONS]
        if not inside:
            raise DataError(f"no raster ({', '.join(SCENE_EXTENSIONS)}) in {str(folder)!r}")
        scenes += _scenes_of(inside, folder.resolve().name)
    return scenes


def _scenes_of(files: Sequence[Path], name: str) -> list[tuple[str, list[Path]]]:
    bands = [path for path in files if name_in(path.stem)]
    if len(bands) > 1:  # previews and quality layers lie beside the bands
        return [(name, bands)]
    return [(path.stem, [path]) for path in files]


def open_for(
    run: "Run", files: Sequence[Path], name: str, options: SceneOptions, *, anywhere: bool = False
) -> tuple[Scene, tuple[int, ...]]:
    """Open a scene with the bands that a run uses, by name if the run has band names.

    Args:
        run: From `load_run`.
        files: Of the scene.
        name: Name of the scene.
        options: Metadata missing from the files.
        anywhere: Accept files that do not say where they lie; see `read_header`.

    Returns:
        The scene, and the number, from 1, of each band used by the model among those that are read.

    Raises:
        DataError: The scene has other bands or another dtype than the run's images, is not
            georeferenced, or cannot be read.
        ConfigError: A band that the run uses is missing in the scene.
    """
    wanted = run.input.names
    if wanted is None:
        scene, bands = _open(run, files, name, options, anywhere=anywhere), run.input.bands
        stored = run.record.dataset.bands
        if len(scene.bands) != stored:
            raise DataError(
                f"scene {name!r} has {counted(len(scene.bands), 'band')}, but the run was trained "
                f"on {stored}; use a file with those"
            )
    else:
        read = tuple(dict.fromkeys(wanted))
        scene = _open(run, files, name, options, bands=read, anywhere=anywhere)
        bands = tuple(read.index(one) + 1 for one in wanted)
    if scene.dtype != run.input.dtype:
        made = f" (converted from {scene.conversion} by its scale and offset tags)"
        raise DataError(
            f"scene {name!r} has {scene.dtype} values{made if scene.conversion else ''}, but the "
            f"run was trained on {run.input.dtype}; provide the scene in the units of the "
            f"training images{_WITHOUT_TAGS if scene.conversion else ''}"
        )
    return scene, bands


def _open(
    run: "Run",
    files: Sequence[Path],
    name: str,
    options: SceneOptions,
    *,
    bands: Sequence[str] = (),
    anywhere: bool,
) -> Scene:
    """Open a scene; metadata missing from files and options is taken from the run's recipe."""
    recipe = run.recipe.data
    stored = run.record.dataset.bands
    told: dict[str, Any] = {
        "name": name, "sensor": options.sensor or recipe.sensor, "band_names": options.band_names,
        "nodata": options.nodata,
        "alpha": recipe.alpha == "band" or len(recipe.band_names) == stored,
        "anywhere": anywhere,
    }  # fmt: skip
    scene = open_scene(files, **told)
    if len(scene.bands) < stored and not told["alpha"]:
        kept: dict[str, Any] = told | {"alpha": True}
        whole = open_scene(files, **kept)
        if len(whole.bands) == stored:  # the run was trained on a scene with alpha=true
            told, scene = kept, whole
    if scene.names is None and len(recipe.band_names) == len(scene.bands):
        told["band_names"] = tuple(recipe.band_names)
        scene = open_scene(files, **told)
    if not bands:
        return scene
    if scene.names is None:
        raise DataError(
            f"scene {name!r} does not name its {counted(len(scene.bands), 'band')}, and the run "
            f"uses {', '.join(bands)}; set --sensor or --band-names"
        )
    return open_scene(files, bands=bands, **told)
