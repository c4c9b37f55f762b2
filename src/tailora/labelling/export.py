"""Write the labels of a session: a table for `tailora fit`, vectors, COCO or Label Studio."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import shapely

from tailora.errors import ConfigError, DataError
from tailora.inference.maps.vector_files import VECTOR_DRIVERS, write_layer
from tailora.labelling.journal import DRAWN
from tailora.labelling.labels import SessionLabels, session_labels
from tailora.methods.scoring import csv_text
from tailora.numbers import counted
from tailora.storage import write_json, write_text

FORMATS: Final = ("coco", "label-studio")
"""What a `.json` can be."""
FIELD: Final = "class"
"""Of vectors: the field with the class."""
_PERCENT: Final = 100.0


@final
@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        labels: How many.
        counts: Labels of each class.
        unlabelled: Images answered with unsure or skip, which are left out.
        notes: What to know.
    """

    labels: int
    counts: dict[str, int]
    unlabelled: int
    notes: tuple[str, ...]


def export_labels(
    folder: str | Path,
    out: str | Path,
    *,
    form: str | None = None,
    data: str | Path | None = None,
) -> Exported:
    """Write the labels of a session; it may be open elsewhere.

    Args:
        folder: Of the session.
        out: `.csv` with `path`, `label`, `id` and `acquisition`; for windows of a scene also
            `.gpkg` or `.geojson` with a polygon each; `.json`.
        form: One of `FORMATS`, for `.json`.
        data: Where the images are now, if they have moved.

    Raises:
        ConfigError: Extension and format do not fit.
        RunError: There is no session, or its data are others.
        DataError: There is no label.
        StorageError: It cannot be written.
    """
    out = Path(out)
    ending = out.suffix.lower()
    if ending not in (".csv", ".json", *VECTOR_DRIVERS):
        known = ", ".join((".csv", ".json", *VECTOR_DRIVERS))
        raise ConfigError(f"--out must end in {known}, got {out.name!r}")
    if (ending == ".json") != (form is not None):
        raise ConfigError(
            f"a .json needs --format {' or '.join(FORMATS)}, and nothing else takes it"
        )
    if form is not None and form not in FORMATS:
        raise ConfigError(f"--format must be {' or '.join(FORMATS)}, got {form!r}")
    found = session_labels(folder, data=data)
    notes = [*_WRITERS[form or ending](found, out), *_on_testing(found)]
    answers = [one.answer for one in found.labelled.values()]
    return Exported(
        labels=len(answers),
        counts={name: answers.count(name) for name in found.settings.classes},
        unlabelled=len(found.state.answers) - len(answers),
        notes=tuple(notes),
    )


def _on_testing(found: SessionLabels) -> list[str]:
    """Say how many labels are no choice of the session, if not all."""
    drawn = sum(one.acquisition in DRAWN for one in found.labelled.values())
    if drawn == len(found.labelled):
        return []
    return [
        f"drawn at random: {drawn:,} of {counted(len(found.labelled), 'label')}, which alone "
        "estimate accuracy; a test split of all is no sample of the data (column acquisition)"
    ]


def _write_table(found: SessionLabels, out: Path) -> list[str]:
    rows = found.labelled
    columns: dict[str, list[Any]] = {
        "label": [one.answer for one in rows.values()],
        "id": [one.id for one in rows.values()],
        "acquisition": [one.acquisition for one in rows.values()],
    }
    paths = [found.path(item) for item in rows]
    with_files = all(path is not None for path in paths)
    if with_files:
        columns = {"path": [_relative(path, out) for path in paths if path]} | columns
    elif found.windows is not None:
        edges = [found.windows.bounds(item) for item in rows]
        sides = ("west", "south", "east", "north")
        columns |= {
            name: list(own) for name, own in zip(sides, zip(*edges, strict=True), strict=True)
        }
    write_text(out, csv_text([list(columns), *zip(*columns.values(), strict=True)]))
    if with_files:
        return []
    if found.windows is not None:
        return ["`tailora fit` takes labels of a scene as .gpkg: --out labels.gpkg"]
    return [f"images of {found.pool.name!r} are no files, so `tailora fit` cannot read this table"]


def _write_vectors(found: SessionLabels, out: Path) -> list[str]:
    if found.windows is None:
        raise ConfigError(f"{out.name!r} is for windows of a scene; labels of images are a .csv")
    bounds = np.array([found.windows.bounds(item) for item in found.labelled])
    boxes = np.asarray(shapely.box(*bounds.T))
    rows = list(found.labelled.values())
    fields = {
        FIELD: np.array([one.answer for one in rows], dtype=object),
        "id": np.array([one.id for one in rows], dtype=object),
        "acquisition": np.array([one.acquisition for one in rows], dtype=object),
    }
    crs = found.windows.scene.grid.crs
    write_layer(out, boxes, fields, layer="labels", crs=crs, geometry_type="Polygon")
    return []


def _write_coco(found: SessionLabels, out: Path) -> list[str]:
    images, annotations = [], []
    for item, one in found.labelled.items():
        name, (width, height), box = _place(found, item, out)
        if not images or images[-1]["file_name"] != name:
            images.append(
                {"id": len(images) + 1, "file_name": name, "width": width, "height": height}
            )
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": len(images),
                "category_id": found.settings.classes.index(one.answer) + 1,
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
        )
    categories = [{"id": c, "name": name} for c, name in enumerate(found.settings.classes, 1)]
    write_json(out, {"images": images, "categories": categories, "annotations": annotations})
    return []


def _write_label_studio(found: SessionLabels, out: Path) -> list[str]:
    tasks: dict[str, dict[str, Any]] = {}
    for item, one in found.labelled.items():
        name, (width, height), (left, top, wide, high) = _place(found, item, out)
        result: dict[str, Any] = {"from_name": "label", "to_name": "image"}
        if found.windows is None:
            result |= {"type": "choices", "value": {"choices": [one.answer]}}
        else:
            value = {
                "x": _PERCENT * left / width, "y": _PERCENT * top / height,
                "width": _PERCENT * wide / width, "height": _PERCENT * high / height,
                "rotation": 0, "rectanglelabels": [one.answer],
            }  # fmt: skip
            result |= {
                "type": "rectanglelabels", "value": value, "original_width": width,
                "original_height": height,
            }  # fmt: skip
        task = tasks.setdefault(name, {"data": {"image": name}, "annotations": [{"result": []}]})
        task["annotations"][0]["result"].append(result)
    write_json(out, list(tasks.values()))
    return []


def _place(
    found: SessionLabels, item: int, out: Path
) -> tuple[str, tuple[int, int], tuple[int, int, int, int]]:
    """Return file, width and height of an image, and left, top, width and height of what it is."""
    if found.windows is not None:
        height, width = found.windows.scene.shape
        top, left, bottom, right = found.windows.box(item)
        box = (left, top, right - left, bottom - top)
        return _relative(found.scene_file(), out), (width, height), box
    path = found.path(item)
    if path is None:
        raise DataError(f"images of {found.pool.name!r} are no files: write a .csv")
    _, height, width = found.pool.source.read(item).shape
    return _relative(path, out), (width, height), (0, 0, width, height)


def _relative(path: Path, out: Path) -> str:
    return Path(os.path.relpath(path, out.resolve().parent)).as_posix()


_WRITERS: Final[Mapping[str, Callable[[SessionLabels, Path], list[str]]]] = {
    ".csv": _write_table,
    ".gpkg": _write_vectors,
    ".geojson": _write_vectors,
    "coco": _write_coco,
    "label-studio": _write_label_studio,
}
