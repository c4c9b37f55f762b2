"""Look at a data set before anything is trained: sizes, splits, leaks, bands."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tailora.backbones.stem import StemRow, plan_stem
from tailora.counts import make_groups
from tailora.data import Dataset, Duplicate, find_duplicates
from tailora.data.band_reading import name_bands
from tailora.data.band_summary import BandSummary, summarise_bands
from tailora.data.value_ranges import check_values, guess_units
from tailora.errors import ConfigError
from tailora.pipeline.names import check_names
from tailora.pipeline.pictures import as_picture
from tailora.pipeline.scene_looks import MOST_SCENES, look_at, sample_values, scenes_of
from tailora.report import ClassRow, write_inspection
from tailora.report.band_section import band_section
from tailora.report.blocks import Section
from tailora.report.scene_section import scene_section

SMALL_TEST = 10


@dataclass(frozen=True)
class Inspection:
    """What is known without training.

    Attributes:
        name: Of the data set.
        rows: Counts and group of each class, largest first.
        imbalance: Largest over smallest training count.
        image: Bands, height, width and dtype of the first training image.
        duplicates: Exact copies across splits or with other labels.
        small: Classes with fewer test samples than a verdict needs.
        notes: What was done to the data, and caveats.
        bands: What values each band holds, in a sample of the training images.
        units: What these values seem to be.
        warnings: What looks wrong with them.
        stem: What `backbone.stem=by-wavelength` would do, where wavelengths are known.
    """

    name: str
    rows: list[ClassRow]
    imbalance: float
    image: dict[str, Any]
    duplicates: list[Duplicate]
    small: list[str]
    notes: tuple[str, ...]
    bands: tuple[BandSummary, ...]
    units: str
    warnings: tuple[str, ...]
    stem: list[StemRow] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Give a JSON object."""
        return {
            "name": self.name,
            "classes": [
                {
                    "name": row.name, "group": row.group, **dict(row.counts),
                    **({} if row.pixels is None else {"pixels": row.pixels}),
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
            "units": self.units,
            "bands": [band.to_json() for band in self.bands],
            "warnings": list(self.warnings),
            "stem": [asdict(row) for row in self.stem],
        }  # fmt: skip


def inspect_dataset(
    data: Dataset,
    *,
    wavelengths: Sequence[float] | None = None,
    new_bands: str = "zero",
) -> Inspection:
    """Count, group and look for copies and at the values of a few training images.

    Args:
        data: The data set.
        wavelengths: Of the image's bands in µm; None takes what the data say.
        new_bands: See `tailora.backbones.stem`.

    Raises:
        DataError: The first of them cannot be decoded, or a name is not UTF-8.
        ConfigError: Wavelengths of another number of bands, or nonsense ones.
    """
    check_names(data)
    data = name_bands(data)
    cut = scenes_of(data)
    pixels = {} if cut is None else cut.pixels
    counts = {split: data.counts(split) for split in ("train", "val", "test")}
    train = counts["train"]
    group_of = {c: name for name, members in make_groups(train).items() for c in members}
    order = sorted(range(len(train.names)), key=lambda c: (-train.values[c], c))
    rows = [
        ClassRow(
            train.names[c],
            {split: counts[split].values[c] for split in counts},
            group_of[c],
            pixels.get(train.names[c]),
        )
        for c in order
    ]
    image = data.source.read(int(data.indices("train")[0]))
    values = sample_values(data)
    bands = summarise_bands(values, data.bands, data.wavelengths)
    return Inspection(
        name=data.name,
        rows=rows,
        imbalance=float(np.max(train.array()) / np.min(train.array())),
        image={
            "bands": image.shape[0], "height": image.shape[1], "width": image.shape[2],
            "dtype": str(image.dtype),
        },
        duplicates=find_duplicates(data),
        small=[row.name for row in rows if row.counts["test"] < SMALL_TEST],
        notes=data.notes,
        bands=bands,
        units=guess_units(values, data.bands),
        warnings=check_values(values[None, :, :, None], [band.name for band in bands]),
        stem=stem_rows(wavelengths or data.wavelengths, image.shape[0], new_bands),
    )  # fmt: skip


def stem_rows(
    wavelengths: Sequence[float | None] | None, bands: int, new_bands: str
) -> list[StemRow]:
    """Say what a stem by wavelength does to each band; nothing where wavelengths are unknown."""
    if not wavelengths:
        return []
    if len(wavelengths) != bands:
        raise ConfigError(f"{len(wavelengths)} wavelengths for images of {bands} bands")
    return plan_stem(wavelengths, new_bands=new_bands).table()


def write_page(data: Dataset, found: Inspection, out: Path, *, per_class: int = 4) -> Path:
    """Write an HTML page of counts, thumbnails, bands, and scenes with their labels."""
    data = name_bands(data)
    thumbnails = [
        (name, as_picture(data.source.read(int(row)), data.bands))
        for index, name in enumerate(data.classes)
        for row in np.flatnonzero(data.labels == index)[:per_class]
    ]
    return write_inspection(
        out,
        name=found.name,
        rows=found.rows,
        notes=found.notes,
        thumbnails=thumbnails,
        duplicates=[{"ids": d.ids, "splits": d.splits} for d in found.duplicates],
        more=(*_scenes(data), band_section(found.bands, found.units, found.warnings)),
    )


def _scenes(data: Dataset) -> list[Section]:
    cut = scenes_of(data)
    if cut is None:
        return []
    shown = list(zip(cut.scenes, cut.labels, strict=True))[:MOST_SCENES]
    looks = [look_at(scene, labels) for scene, labels in shown]
    return [scene_section(looks, cut.labels[0].classes, len(cut.scenes) - len(looks))]
