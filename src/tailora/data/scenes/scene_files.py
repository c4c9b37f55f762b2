"""The files of scenes and of their labels, opened."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np

from tailora.data.masks import read_class_table
from tailora.data.scenes.label_raster import LabelRaster, read_label_raster
from tailora.data.scenes.labels import Labels, read_labels
from tailora.data.scenes.scene import SCENE_EXTENSIONS, Scene, open_scene
from tailora.errors import ConfigError, DataError


@final
@dataclass(frozen=True)
class SceneFiles:
    """One scene and its labels.

    Args:
        files: Rasters of the same area, with one or several bands each.
        labels: Polygons or points, or a raster of classes.
        class_field: Field with the class name, or several with commas between them; for a raster, a
            column of its attribute table, where None uses what the file declares, or the values.
        layer: Layer of the labels; None uses the only one.
        name: For ids and reports; None uses the first file's.
        bands: Bands to read, in order; empty reads all.
        band_names: Name of each band, if missing in the files.
        sensor: One of `bands.SENSORS`.
        nodata: No-data value; None uses what the files declare.
        resampling: For bands of coarser resolution.
        alpha: Keep a band declared as alpha.
        unlabelled: Value of a raster of classes that means "no class", besides its nodata value.
        classes: Table of lines VALUE,NAME with the classes of a raster; None uses what it declares.
        rater_field: Field with the name of who drew a polygon or point; None takes all as one.
        after: The same rasters of a second date, on any grid, for changes.
        labels_after: Land cover of the second date, if `labels` are that of the first.
    """

    files: tuple[Path, ...]
    labels: Path
    class_field: str | None = None
    layer: str | None = None
    name: str | None = None
    bands: tuple[str, ...] = ()
    band_names: tuple[str, ...] = ()
    sensor: str | None = None
    nodata: float | None = None
    resampling: str = "bilinear"
    alpha: bool = False
    unlabelled: float | None = None
    classes: Path | None = None
    rater_field: str | None = None
    after: tuple[Path, ...] = ()
    labels_after: Path | None = None


def open_scenes(scenes: Sequence[SceneFiles]) -> list[Scene]:
    """Open the bands of each scene; only headers are read.

    Raises:
        DataError: They cannot be used, or have different bands.
        ConfigError: An option is wrong.
    """
    if any(one.after or one.labels_after for one in scenes):
        raise ConfigError(
            "after and labels_after are a second date, for --task change; choose it, or leave them "
            "out"
        )
    opened = [
        open_scene(
            one.files, name=one.name, bands=one.bands, band_names=one.band_names, sensor=one.sensor,
            nodata=one.nodata, resampling=one.resampling, alpha=one.alpha,
        )
        for one in scenes
    ]  # fmt: skip
    first = opened[0]
    for scene in opened[1:]:
        if len(scene.bands) != len(first.bands) or scene.names != first.names:
            raise DataError(
                f"scenes differ in bands: {first.name!r} has {list(first.names or first.bands)}, "
                f"{scene.name!r} {list(scene.names or scene.bands)}; choose the common ones with "
                'bands = ["..."]'
            )
    names = [scene.name for scene in opened]
    return [
        replace(scene, name=f"{scene.name}-{number}") if names.count(scene.name) > 1 else scene
        for number, scene in enumerate(opened)
    ]


def labels_of(scenes: Sequence[SceneFiles], opened: Sequence[Scene]) -> list[Labels | LabelRaster]:
    """Read the labels of each scene, in its CRS and with one list of classes for all.

    Raises:
        DataError: They cannot be used.
        ConfigError: An option is missing, or is one of other labels.
    """
    return _same_classes([_read_labels(*pair) for pair in zip(scenes, opened, strict=True)])


def _read_labels(one: SceneFiles, scene: Scene) -> Labels | LabelRaster:
    if one.labels.suffix.lower() in SCENE_EXTENSIONS:
        for key, what in (("layer", "layers"), ("rater_field", "raters")):
            if getattr(one, key) is not None:
                raise ConfigError(
                    f"labels {str(one.labels)!r} are a raster, which has no {what}; leave {key} out"
                )
        return read_label_raster(
            one.labels, scene.grid, column=one.class_field, unlabelled=one.unlabelled,
            table=None if one.classes is None else read_class_table(one.classes),
        )  # fmt: skip
    if one.class_field is None:
        raise ConfigError(
            f"class_field (--class-field) is missing: labels {str(one.labels)!r} are polygons or "
            f"points; set it to the field with the class name{_misplaced(one.labels)}"
        )
    for key in ("unlabelled", "classes"):
        if getattr(one, key) is not None:
            raise ConfigError(f"{key} applies to labels that are a raster; leave it out")
    if one.rater_field == one.class_field:
        raise ConfigError(
            f"rater_field and class_field are both {one.class_field!r}: one names who drew a "
            "polygon, the other its class"
        )
    return read_labels(
        one.labels, class_field=one.class_field, crs=scene.grid.crs, layer=one.layer,
        bounds=scene.grid.bounds, rater_field=one.rater_field,
    )  # fmt: skip


def refuse_raters(scenes: Sequence[SceneFiles]) -> None:
    """Reject a field of raters where each place has one label.

    Raises:
        ConfigError: There is one.
    """
    if any(one.rater_field is not None for one in scenes):
        raise ConfigError(
            "rater_field (--rater-field) is for several opinions about one pixel; choose --task "
            "segment, or leave it out"
        )


def _misplaced(labels: Path) -> str:
    """Return a hint if an option follows the labels instead of the scene."""
    if labels.exists() or ":" not in labels.name or "=" not in labels.name:
        return ""
    return "; options such as unlabelled=0 go after the scene: SCENE.tif:unlabelled=0"


def _same_classes(marked: Sequence[Labels | LabelRaster]) -> list[Labels | LabelRaster]:
    """Give all labels the same list of classes."""
    classes = tuple(sorted({name for labels in marked for name in labels.classes}))
    index = {name: code for code, name in enumerate(classes)}
    return [
        replace(
            labels,
            codes=np.array([index[name] for name in labels.classes], dtype=np.int64)[labels.codes],
            classes=classes,
        )
        for labels in marked
    ]
