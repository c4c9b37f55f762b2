"""Overview of a dataset: images per class, and examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.numbers import MISSING, counted, integer
from tailora.report.blocks import (
    Cell,
    Column,
    Gallery,
    Page,
    Section,
    Table,
    Thumbnail,
    class_cell,
    left_out,
    write_page,
)
from tailora.report.class_figures import long_tail
from tailora.report.record_sections import data_caveats
from tailora.report.style import image_uri
from tailora.runs.result import Copies

OBJECTS: Final = "polygons and points with pixels in train / val / test"

_TRAIN: Final = "train"


@final
@dataclass(frozen=True)
class ClassRow:
    """Counts of one class of a dataset.

    Args:
        name: Class name.
        counts: Images per split, e.g. `{"train": 40, "val": 5, "test": 10}`; pixels of masks.
        group: `"head"`, `"middle"` or `"tail"`; None when no groups were made.
        pixels: Labelled pixels in the scenes that chips are cut from; None for other images.
        objects: Polygons and points per split that label pixels; None for other labels.
    """

    name: str
    counts: Mapping[str, int]
    group: str | None = None
    pixels: int | None = None
    objects: Mapping[str, int] | None = None

    def objects_text(self) -> str:
        """Objects of the splits in order, e.g. `12 / 3 / 5`."""
        if self.objects is None:
            return MISSING
        return " / ".join(integer(count) for count in self.objects.values())


def write_inspection(
    out: Path,
    *,
    name: str,
    rows: Sequence[ClassRow],
    notes: Sequence[str] = (),
    thumbnails: Sequence[tuple[str, NDArray[np.uint8]]] = (),
    duplicates: Sequence[Copies] = (),
    more: Sequence[Section] = (),
) -> Path:
    """Write a page of counts and thumbnails of a dataset before training; return `out`.

    Args:
        out: File to write.
        name: Name of the dataset.
        rows: At least one class, any order.
        notes: Findings, one sentence each.
        thumbnails: Class name and image, uint8 (height, width, 3); larger ones are shrunk.
        duplicates: One per set of equal images.
        more: Sections between the thumbnails and the findings, on scenes and bands.

    Raises:
        StorageError: The file cannot be written.
    """
    ordered = sorted(rows, key=lambda row: -_frequency(row))
    sections = (
        _counts_section(ordered),
        _thumbnails_section(ordered, thumbnails),
        *more,
        _findings_section(notes, duplicates),
    )
    return write_page(Page(name, _subtitle(rows), sections, "tailora inspect"), out)


def write_scene_page(out: Path, *, name: str, sections: Sequence[Section]) -> Path:
    """Write a page of a scene without labels; return `out`.

    Raises:
        StorageError: The file cannot be written.
    """
    return write_page(Page(name, "a scene without labels", tuple(sections), "tailora inspect"), out)


def _subtitle(rows: Sequence[ClassRow]) -> str:
    n_images = sum(sum(row.counts.values()) for row in rows)
    return f"{counted(len(rows), 'class')} · {counted(n_images, 'image')}"


def _frequency(row: ClassRow) -> int:
    """Return training images of a class, or all its images without splits."""
    return row.counts[_TRAIN] if _TRAIN in row.counts else sum(row.counts.values())


def _counts_section(rows: Sequence[ClassRow]) -> Section:
    splits = list(dict.fromkeys(split for row in rows for split in row.counts))
    counts = [_frequency(row) for row in rows]
    with_pixels = any(row.pixels is not None for row in rows)
    with_objects = any(row.objects is not None for row in rows)
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        *(Column(split) for split in splits),
        *([Column("pixels", "labelled pixels in the scenes")] if with_pixels else []),
        *([Column("objects", OBJECTS)] if with_objects else []),
        Column("imbalance", "ratio of the most frequent class to this one"),
    )
    table_rows = tuple(
        (
            class_cell(row.name),
            Cell(row.group or MISSING),
            *(Cell(integer(row.counts.get(split))) for split in splits),
            *([Cell(integer(row.pixels))] if with_pixels else []),
            *([Cell(row.objects_text())] if with_objects else []),
            Cell(_times(max(counts), count)),
        )
        for row, count in zip(rows, counts, strict=True)
    )
    caption = "Images per class, most frequent first, on a logarithmic scale."
    figure = long_tail([row.name for row in rows], counts, [row.group for row in rows])
    table = Table(columns, table_rows, "Images per class and split")
    return Section("counts", "Images per class", caption, (figure, table))


def _times(largest: int, count: int) -> str:
    if count == 0:
        return MISSING
    ratio = largest / count
    return f"{ratio:.1f} ×" if ratio < 10 else f"{integer(ratio)} ×"


def _thumbnails_section(
    rows: Sequence[ClassRow], thumbnails: Sequence[tuple[str, NDArray[np.uint8]]]
) -> Section:
    if not thumbnails:
        return left_out("images", "Examples per class", "no images were given")
    rank = {row.name: position for position, row in enumerate(rows)}
    ordered = sorted(thumbnails, key=lambda pair: rank.get(pair[0], len(rank)))
    items = tuple(
        Thumbnail(image_uri(pixels), f"a sample of {label}", (label,), title=label)
        for label, pixels in ordered
    )
    caption = "A few images of each class. A class that you cannot recognise here is hard to learn."
    pictured = len({label for label, _ in thumbnails} & rank.keys())
    if pictured < len(rows):
        caption += f" {integer(pictured)} of {integer(len(rows))} classes are shown."
    return Section("images", "Examples per class", caption, (Gallery(items),))


def _findings_section(notes: Sequence[str], duplicates: Sequence[Copies]) -> Section:
    blocks = data_caveats(notes, duplicates, ())
    return Section("findings", "Findings", "Fix these before training.", blocks)
