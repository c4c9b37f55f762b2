"""Summarise a dataset before training: sizes, splits, leaks, bands."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailora.counts import ClassCounts, make_groups, rows_by_class
from tailora.curation.band_looks import BandLook, look_at_bands
from tailora.curation.object_sizes import ObjectSizes, object_sizes
from tailora.curation.scene_looks import MOST_SCENES, look_at, sample_values, scenes_of
from tailora.data import SPLITS, Dataset, Duplicate, find_duplicates
from tailora.data.bands.reading import name_bands
from tailora.data.scenes.windows import SceneMasks
from tailora.methods.names import check_names
from tailora.numbers import named_list
from tailora.report import ClassRow, write_inspection
from tailora.report.blocks import Section
from tailora.report.scene_section import band_section, scene_section
from tailora.report.style import as_picture
from tailora.runs.result import Copies

SMALL_TEST = 10
MOST_PICTURED = 200
"""Classes with images on the page; twelve thousand images make a page that no browser opens."""


@dataclass(frozen=True)
class Inspection:
    """Summary of a dataset without training.

    Attributes:
        name: Name of the dataset.
        rows: Counts and group of each class, largest first.
        imbalance: Largest over smallest training count.
        image: Bands, height, width, dtype and dates of the first training image: 2 for a pair.
        duplicates: Exact copies across splits or with other labels.
        small: Classes with fewer test samples than a verdict needs.
        notes: Processing notes and caveats.
        values: Values of the bands, in a sample of the training images.
        sizes: Of objects, where they have boxes.
    """

    name: str
    rows: list[ClassRow]
    imbalance: float
    image: dict[str, Any]
    duplicates: list[Duplicate]
    small: list[str]
    notes: tuple[str, ...]
    values: BandLook
    sizes: ObjectSizes | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "name": self.name,
            "classes": [
                {
                    "name": row.name, "group": row.group, **dict(row.counts),
                    **({} if row.pixels is None else {"pixels": row.pixels}),
                    **({} if row.objects is None else {"objects": dict(row.objects)}),
                }
                for row in self.rows
            ],
            "imbalance": self.imbalance,
            "image": self.image,
            "duplicates": [
                {"ids": list(d.ids), "splits": list(d.splits), "labels": list(d.labels)}
                for d in self.duplicates
            ],
            "small_classes": self.small,
            "notes": list(self.notes),
            **({} if self.sizes is None else {"objects": self.sizes.to_json()}),
            **self.values.to_json(),
        }  # fmt: skip


def inspect_dataset(
    data: Dataset,
    *,
    wavelengths: Sequence[float] | None = None,
    new_bands: str = "zero",
) -> Inspection:
    """Count, group, find duplicates and check the values of a few training images.

    Args:
        data: The dataset.
        wavelengths: Of the image's bands in µm; None uses those of the data.
        new_bands: See `tailora.backbones.stem`.

    Raises:
        DataError: The first image cannot be decoded, or a name is not UTF-8.
        ConfigError: Wavelengths for another number of bands, or invalid ones.
    """
    check_names(data)
    data = name_bands(data)
    cut = scenes_of(data)
    pixels = {} if cut is None else cut.pixels
    counts = {split: data.counts(split) for split in SPLITS}
    objects = _objects(data)
    train = counts["train"]
    group_of = {c: name for name, members in make_groups(train).items() for c in members}
    order = sorted(range(len(train.names)), key=lambda c: (-train.values[c], c))
    rows = [
        ClassRow(
            train.names[c],
            {split: counts[split].values[c] for split in counts},
            group_of[c],
            pixels.get(train.names[c]),
            {split: int(held[c]) for split, held in objects.items()} or None,
        )
        for c in order
    ]
    image = data.source.read(int(data.indices("train")[0]))
    values = look_at_bands(
        np.hstack(np.split(sample_values(data), data.dates)),  # bands of all dates together
        data.bands,
        data.wavelengths,
        wavelengths=wavelengths,
        new_bands=new_bands,
    )
    return Inspection(
        name=data.name,
        rows=rows,
        imbalance=float(np.max(train.array()) / np.min(train.array())),
        image={
            "bands": image.shape[0] // data.dates, "height": image.shape[1],
            "width": image.shape[2], "dtype": str(image.dtype), "dates": data.dates,
        },
        duplicates=find_duplicates(data),
        small=[row.name for row in rows if row.counts["test"] < SMALL_TEST],
        notes=(*data.notes, *_unvalidated(counts["val"])),
        values=values,
        sizes=object_sizes(data),
    )  # fmt: skip


def _objects(data: Dataset) -> dict[str, NDArray[np.int64]]:
    """Polygons and points of each class in the windows of each split, if labels are such."""
    if not isinstance(data.targets, SceneMasks):
        return {}
    found = {split: data.targets.objects(data.indices(split)) for split in SPLITS}
    return {split: held for split, held in found.items() if held is not None}


def _unvalidated(val: ClassCounts) -> tuple[str, ...]:
    """Name the classes that nothing is chosen or calibrated for; without the split all are."""
    if not any(val.values):
        return ("no validation split: nothing is selected or calibrated on validation samples",)
    without = [
        f"{name!r} (index {index})"
        for index, (name, count) in enumerate(zip(val.names, val.values, strict=True))
        if not count
    ]
    what = f"no validation sample of {named_list(without)}"
    return (f"{what}: not part of what is selected, and in every prediction set",) * bool(without)


def write_page(data: Dataset, found: Inspection, out: Path, *, per_class: int = 4) -> Path:
    """Write an HTML page of counts, thumbnails, bands, and scenes with their labels."""
    data, values = name_bands(data), found.values
    pictured = {row.name for row in _evenly(found.rows, MOST_PICTURED)}
    has_class = np.flatnonzero(data.labels >= 0)
    members = [has_class[own] for own in rows_by_class(data.labels[has_class], len(data.classes))]
    thumbnails = [
        (name, as_picture(data.source.read(int(row)), data.bands))
        for name, rows in zip(data.classes, members, strict=True)
        if name in pictured
        for row in rows[:per_class]
    ]
    return write_inspection(
        out,
        name=found.name,
        rows=found.rows,
        notes=found.notes,
        thumbnails=thumbnails,
        duplicates=[Copies(d.ids, d.splits) for d in found.duplicates],
        more=(
            *(() if found.sizes is None else (found.sizes.section(),)),
            *_scenes(data),
            band_section(values.bands, values.units, values.warnings),
        ),
    )


def _evenly(rows: Sequence[ClassRow], most: int) -> list[ClassRow]:
    """Return at most so many rows, evenly spaced, including the first and the last."""
    if len(rows) <= most:
        return list(rows)
    return [rows[i] for i in np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _scenes(data: Dataset) -> list[Section]:
    cut = scenes_of(data)
    if cut is None:
        return []
    shown = list(zip(cut.scenes, cut.labels, strict=True))[:MOST_SCENES]
    looks = [look_at(scene, labels) for scene, labels in shown]
    return [scene_section(looks, cut.labels[0].classes, len(cut.scenes) - len(looks))]
