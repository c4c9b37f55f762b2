"""Take labels from elsewhere into a session: tables, COCO, Label Studio, vectors."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import shapely

from tailora.class_names import canonical_name
from tailora.data.readers.table import TABLE_EXTENSIONS, read_table
from tailora.data.scenes.labels import read_labels
from tailora.errors import ConfigError, DataError, RunError, unknown_name
from tailora.inference.maps.vector_files import VECTOR_DRIVERS
from tailora.inference.search_pool import Pool
from tailora.labelling.inputs import open_again
from tailora.labelling.journal import Answered, Journal, mend_journal, read_journal
from tailora.labelling.replay import replay
from tailora.labelling.settings import read_settings
from tailora.numbers import counted
from tailora.runs.one_at_a_time import one_at_a_time
from tailora.storage import read_json

_KINDS: Final = ("choices", "rectanglelabels")


@final
@dataclass(frozen=True)
class TakenIn:
    """What came in.

    Args:
        labels: How many.
        answered: Images that had an answer, which stays.
        differ: How many of these had another answer.
        elsewhere: Labels of images or places that are not in the data.
    """

    labels: int
    answered: int
    differ: int
    elsewhere: int


def import_labels(
    folder: str | Path,
    labels: str | Path,
    *,
    class_field: str = "class",
    data: str | Path | None = None,
) -> TakenIn:
    """Add labels to a session; what was answered there stays.

    Args:
        folder: Of the session.
        labels: Table with `label` and `path` or `id`; COCO or Label Studio JSON; for a scene
            polygons or points: a window has the class of the one at its centre.
        class_field: Of polygons and points.
        data: Where the images of the session are now, if they have moved.

    Raises:
        ConfigError: A class is not one of the session.
        DataError: The file cannot be read, or none of its labels is about an image of the data.
        RunError: There is no session, its data are others, or it is open elsewhere.
    """
    folder, labels = Path(folder), Path(labels)
    settings = read_settings(folder)
    if not labels.is_file():
        raise DataError(f"no labels {str(labels)!r}; check the path")
    pool = open_again(settings, data)
    found = list(_read(labels, pool, class_field))
    for _, name in found:
        if name not in settings.classes:
            raise unknown_name("class", name, settings.classes)
    here = {item: name for item, name in found if item is not None}
    if not here:
        raise DataError(
            f"none of {counted(len(found), 'label')} in {labels.name!r} is about an image of "
            f"{pool.name!r}"
        )
    with one_at_a_time(folder):
        mend_journal(folder)
        answers = replay(read_journal(folder)).answers
        new = {item: name for item, name in here.items() if item not in answers}
        journal = Journal(folder)
        now = time.time()
        journal.append(
            [
                Answered(now, item, pool.source.id(item), name, "import")
                for item, name in new.items()
            ]
        )
        journal.close()
    elsewhere = sum(item is None for item, _ in found)
    differ = sum(answers[item].answer != here[item] for item in here.keys() - new.keys())
    return TakenIn(len(new), len(here) - len(new), differ, elsewhere)


def _read(path: Path, pool: Pool, class_field: str) -> Iterator[tuple[int | None, str]]:
    """Return image and class of each label; None for an image that is not in the data."""
    ending = path.suffix.lower()
    if ending in TABLE_EXTENSIONS:
        found = _of_table(path, pool)
    elif ending in VECTOR_DRIVERS:
        found = _of_vectors(path, pool, class_field)
    elif ending == ".json":
        found = _of_json(path, pool)
    else:
        known = ", ".join((*TABLE_EXTENSIONS, ".json", *VECTOR_DRIVERS))
        raise ConfigError(f"labels must end in {known}, got {path.name!r}")
    yield from ((item, canonical_name(name)) for item, name in found)


def _of_table(path: Path, pool: Pool) -> Iterator[tuple[int | None, str]]:
    table = read_table(path, ("label",), more=("path", "id"))
    names = table.columns
    if not {"path", "id"} & set(names):
        raise DataError(f"{str(path)!r} needs a column 'path' or 'id' to say what its labels mean")
    files = pool.files
    for row, label in enumerate(names["label"]):
        item = pool.rows.get(names["id"][row]) if "id" in names else None
        if item is None and "path" in names:
            item = files.get((path.parent / names["path"][row]).resolve())
        yield item, label


def _of_vectors(path: Path, pool: Pool, field: str) -> Iterator[tuple[int | None, str]]:
    windows = pool.windows
    if windows is None:
        raise ConfigError(f"{path.name!r} is for windows of a scene, and {pool.name!r} is none")
    labels = read_labels(path, class_field=field, crs=windows.scene.grid.crs)
    bounds = np.array([windows.bounds(item) for item in range(len(windows))])
    boxes = np.asarray(shapely.box(*bounds.T))
    points = labels.is_point
    for shapes, codes, marks in (
        (labels.shapes[~points], labels.codes[~points], shapely.centroid(boxes)),
        (labels.shapes[points], labels.codes[points], boxes),
    ):
        # a polygon has the windows whose centre it covers, a point the window that it lies in
        at, things = shapely.STRtree(shapes).query(marks, predicate="intersects")
        yield from (
            (int(item), labels.classes[codes[one]]) for item, one in zip(at, things, strict=True)
        )
        used = np.bincount(things, minlength=len(shapes)) > 0
        yield from ((None, labels.classes[code]) for code in codes[~used])


def _of_json(path: Path, pool: Pool) -> Iterator[tuple[int | None, str]]:
    try:
        content: Any = read_json(path)
    except RunError as error:
        raise DataError(str(error)) from error
    try:
        labels = _of_tasks(content) if isinstance(content, list) else _of_coco(content)
        found = [
            (str(name), (path.parent / str(name)).resolve(), centre, str(label))
            for name, centre, label in labels
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else "a part has another form"
        raise DataError(
            f"{str(path)!r} is neither COCO's nor Label Studio's JSON of labels: {why}"
        ) from error
    files, scene = pool.files, _centres(pool)
    for name, file, centre, label in found:
        if scene is not None:
            yield (scene[1].get(centre) if centre and file == scene[0] else None), label
        else:
            yield files.get(file, pool.rows.get(name)), label


def _of_coco(content: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    names = {one["id"]: one["name"] for one in content["categories"]}
    files = {one["id"]: one["file_name"] for one in content["images"]}
    for one in content["annotations"]:
        left, top, wide, high = one["bbox"]
        yield (
            files[one["image_id"]], (round(top + high / 2), round(left + wide / 2)),
            names[one["category_id"]],
        )  # fmt: skip


def _of_tasks(content: list[Any]) -> Iterator[tuple[str, Any, str]]:
    for task in content:
        name = str(task["data"]["image"])
        for annotation in task["annotations"]:
            for one in annotation["result"]:
                kind = one.get("type")
                if kind not in _KINDS:
                    continue
                value, centre = one["value"], None
                if kind == "rectanglelabels":
                    middle = (value["y"] + value["height"] / 2, value["x"] + value["width"] / 2)
                    sides = (one["original_height"], one["original_width"])
                    centre = tuple(
                        round(at * side / 100) for at, side in zip(middle, sides, strict=True)
                    )
                (label,) = value[kind]
                yield name, centre, str(label)


def _centres(pool: Pool) -> tuple[Path, dict[tuple[int, int], int]] | None:
    """File of a scene, and the number of each window by row and column of its centre."""
    windows = pool.windows
    if windows is None:
        return None
    half = windows.grid.chip // 2
    boxes = [windows.box(item) for item in range(len(windows))]
    centres = {(top + half, left + half): item for item, (top, left, _, _) in enumerate(boxes)}
    return windows.scene.bands[0].path.resolve(), centres
