"""What was found in a dataset, as a page and tables."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.curation.result import (
    CuratedClass,
    CuratedGroup,
    CuratedImage,
    Curation,
    NearCopies,
)
from tailora.methods.scoring import csv_text
from tailora.numbers import counted, decimal, percent
from tailora.report.blocks import (
    Block,
    Cell,
    Column,
    Facts,
    Gallery,
    Listing,
    Note,
    Page,
    Section,
    Table,
    Thumbnail,
    class_cell,
    write_page,
)
from tailora.report.style import as_picture, image_uri
from tailora.storage import write_json, write_text

MOST_SHOWN: Final = 48
"""Images of a gallery; the tables have all."""
_MOST_COPIES: Final = 6  # of a group that are shown

Read = Callable[[int], NDArray[Any]]


def write_curation(found: Curation, read: Read, bands: Sequence[str] | None, folder: Path) -> None:
    """Write `index.html`, `images.csv`, `copies.csv` and `curation.json` into a folder.

    Args:
        found: What was found.
        read: Returns the image of a row (bands, height, width).
        bands: Names of its bands, if known.
        folder: Made if it is not there.

    Raises:
        StorageError: A file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "curation.json", found.to_json())
    fields = list(asdict(found.images[0]))
    rows = [[_plain(getattr(one, name)) for name in fields] for one in found.images]
    write_text(folder / "images.csv", csv_text([fields, *rows]))
    copies = [
        [number, one.ids[i], one.splits[i], one.labels[i]]
        for number, one in enumerate(found.copies, 1)
        for i in range(len(one.ids))
    ]
    write_text(folder / "copies.csv", csv_text([["copies", "id", "split", "label"], *copies]))
    subtitle = f"{counted(len(found.images), 'image')} · nothing was removed"
    sections = tuple(_sections(found, _Pictures(read, bands)))
    write_page(Page(found.data, subtitle, sections, "tailora curate"), folder / "index.html")


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return "" if value is None else value


class _Pictures:
    """Thumbnails of rows."""

    def __init__(self, read: Read, bands: Sequence[str] | None) -> None:
        self.read, self.bands = read, bands

    def of(self, row: int, name: str, lines: Sequence[str]) -> Thumbnail:
        image = self.read(row)
        names = self.bands if self.bands is not None and len(self.bands) == len(image) else None
        return Thumbnail(image_uri(as_picture(image, names)), name, tuple(lines), name)


def _sections(found: Curation, pictures: _Pictures) -> list[Section]:
    sections = [_summary(found)]
    if found.classes:
        sections += [_noise(found), _class_table(found.classes)]
        tail = {one.name for one in found.classes if one.group == "tail"}
        doubts = [(row, found.images[row].label in tail) for row in found.doubts]
        sections += [
            _doubts(
                found, pictures, [row for row, rare in doubts if rare], "doubts-tail",
                "Doubtful labels of tail classes",
                "Rare is not wrong: images of rare classes are learnt less well, so that more of "
                "them are doubted. Look at each before changing anything.",
            ),
            _doubts(
                found, pictures, [row for row, rare in doubts if not rare], "doubts",
                "Doubtful labels of other classes", "The most doubtful first: label, what "
                "other images suggest, and the support of the label: below 0.5 another class is "
                "likelier.",
            ),
        ]  # fmt: skip
    sections += [_copies(found, pictures), _outliers(found, pictures)]
    trained = [row for row, one in enumerate(found.images) if one.training_confidence is not None]
    if trained:
        sections.append(_in_training(found, pictures, trained))
    sections.append(Section("about", "Notes", "", (Listing(found.notes or ("none",)),)))
    return sections


def _summary(found: Curation) -> Section:
    facts = [("images", f"{len(found.images):,}")]
    if found.classes:
        facts.append(("doubtful labels", f"{len(found.doubts):,}"))
    facts += [
        ("groups of near duplicates", f"{len(found.copies):,}"),
        ("of these across splits", f"{found.leaks:,}"),
        ("of these with different labels", f"{found.conflicts:,}"),
        ("outliers", f"{len(found.outliers):,}"),
    ]
    blocks: list[Block] = [Facts(tuple(facts))]
    if found.leaks:
        groups = counted(found.leaks, "group")
        text = f"{groups} of near duplicates across splits: test scores are too high."
        blocks.append(Note(text, "bad"))
    return Section("summary", "Summary", "", tuple(blocks))


def _noise(found: Curation) -> Section:
    columns = (
        Column("class", numeric=False),
        Column("images"),
        Column("imbalance", "images of the largest class over those of this, or the smallest here"),
        Column("effective", "effective number of images, as the class-balanced loss counts them"),
        Column("wrong, %", "estimated share of labels that are wrong"),
        Column("missed, %", "estimated share of images that have another label"),
        Column(
            "estimated", "estimated number of images that are of the class, whatever their label"
        ),
        Column("to do", numeric=False),
    )
    rows = tuple(
        (
            class_cell(one.name),
            *_noise_cells(one, percent(one.missed)),
            Cell(one.to_do),
        )
        for one in found.classes
    )
    totals = tuple(
        (
            Cell(f"{one.name}: {counted(one.classes, 'class')}"),
            *_noise_cells(one, ""),
            Cell(one.to_do),
        )
        for one in found.groups
    )
    caption = (
        "Shares by confident learning: too high where the encoder cannot tell classes apart, and "
        "uncertain in classes with few images. Noise asks for looking at labels, imbalance for "
        "more images."
    )
    table = Table(columns, rows, "Noise and imbalance per class", totals)
    return Section("noise", "Noise and imbalance", caption, (table,))


def _noise_cells(one: CuratedClass | CuratedGroup, missed: str) -> tuple[Cell, ...]:
    return (
        Cell(f"{one.images:,}"),
        Cell(f"{one.imbalance:.1f}"),
        Cell(f"{one.effective:,.0f}"),
        Cell(percent(one.mislabelled)),
        Cell(missed),
        Cell(f"{one.estimated:,.0f}"),
    )


def _class_table(classes: Sequence[CuratedClass]) -> Section:
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column("images"),
        Column("doubted", "another class is likelier than the label; of those judged"),
        Column("most as", "class that most of the doubted are taken for", numeric=False),
        Column("forgotten", "mean times that a head that learns an image loses it again"),
        Column("never learnt", "images that a head that learns them never predicts right"),
        Column("outliers"),
        Column("copies", "images with a near duplicate"),
    )
    rows = tuple(
        (
            class_cell(one.name),
            Cell(one.group),
            Cell(f"{one.images:,}"),
            Cell(str(one.doubted), detail=f"of {one.judged:,}"),
            class_cell(one.confused or "–"),
            Cell(decimal(one.forgotten, digits=1)),
            Cell(str(one.unlearnt)),
            Cell(str(one.outliers)),
            Cell(str(one.copies)),
        )
        for one in classes
    )
    caption = "Doubted by heads that have not seen the image; forgotten by heads that learn it."
    return Section(
        "classes", "Findings per class", caption, (Table(columns, rows, "Findings per class"),)
    )


def _doubts(
    found: Curation,
    pictures: _Pictures,
    rows: Sequence[int],
    anchor: str,
    title: str,
    caption: str,
) -> Section:
    if not rows:
        return Section(anchor, title, "", (Note("none"),))
    items = tuple(
        pictures.of(row, one.id, _lines(one))
        for row in rows[:MOST_SHOWN]
        if (one := found.images[row])
    )
    return Section(anchor, title, caption, (Gallery(items), *_more(len(rows))))


def _lines(one: CuratedImage) -> tuple[str, ...]:
    support = f"support {decimal(one.support, digits=2)}"
    return one.label or "", f"or {one.suggested}?", support, one.id


def _outliers(found: Curation, pictures: _Pictures) -> Section:
    rows = found.outliers
    title = "Outliers"
    if not rows:
        return Section("outliers", title, "", (Note("none"),))
    items = tuple(
        pictures.of(
            row, one.id, (one.label or "", f"distance {decimal(one.distance, digits=1)}", one.id)
        )
        for row in rows[:MOST_SHOWN]
        if (one := found.images[row])
    )
    caption = "Unlike the others of their class: damaged, of another sensor, or rare in themselves."
    return Section("outliers", title, caption, (Gallery(items), *_more(len(rows))))


def _in_training(found: Curation, pictures: _Pictures, rows: Sequence[int]) -> Section:
    """What the run's training saw of the images it learnt from."""
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column("learnt from", "images of the class that the run was trained on"),
        Column("confidence", "mean probability of the label over all epochs"),
        Column("forgotten", "mean number of epochs that were wrong after one that was right"),
        Column("never right", "images that were right in no epoch"),
    )
    table = []
    for one in found.classes:
        own = [found.images[row] for row in rows if found.images[row].label == one.name]
        if own:
            table.append(
                (
                    class_cell(one.name),
                    Cell(one.group),
                    Cell(f"{len(own):,}"),
                    Cell(decimal(_mean(image.training_confidence for image in own), digits=2)),
                    Cell(decimal(_mean(image.training_forgotten for image in own), digits=1)),
                    Cell(str(sum(not image.training_learnt for image in own))),
                )
            )
    never = [row for row in rows if not found.images[row].training_learnt]
    never.sort(key=lambda row: found.images[row].training_confidence or 0.0)
    items = tuple(
        pictures.of(
            row,
            one.id,
            (one.label or "", f"confidence {decimal(one.training_confidence, digits=2)}", one.id),
        )
        for row in never[:MOST_SHOWN]
        if (one := found.images[row])
    )
    caption = (
        "What the encoder's own training saw, before it learnt from each look. Images that were "
        "right in no epoch, the least sure first: of a rare class, with a wrong label, or unlike "
        "the others."
    )
    blocks = [Table(columns, tuple(table), "Training per class")]
    shown = [Gallery(items), *_more(len(never))] if items else [Note("every image was right once")]
    return Section("training", "Images in training", caption, (*blocks, *shown))


def _mean(values: Iterable[float | None]) -> float:
    return float(np.mean([0.0 if value is None else value for value in values]))


def _copies(found: Curation, pictures: _Pictures) -> Section:
    title = "Near duplicates"
    if not found.copies:
        return Section("copies", title, "", (Note("none"),))
    blocks: list[Block] = []
    for one in found.copies[: MOST_SHOWN // 2]:
        blocks += [_of_what(one), Gallery(tuple(_of_group(found, one, pictures)))]
    caption = (
        "Alike in features and in pixels; those across splits or with different labels come first. "
        "Give copies one value in the column group of a table, and they stay in one split."
    )
    more = _more(len(found.copies), MOST_SHOWN // 2, "groups")
    return Section("copies", title, caption, (*blocks, *more))


def _of_group(found: Curation, one: NearCopies, pictures: _Pictures) -> list[Thumbnail]:
    return [
        pictures.of(
            row, found.images[row].id, (found.images[row].label or "", split, found.images[row].id)
        )
        for row, split, name in zip(one.rows[:_MOST_COPIES], one.splits, one.ids, strict=False)
    ]


def _of_what(one: NearCopies) -> Note:
    what = [*["across splits"] * one.leaks, *["different labels"] * one.conflicts]
    return Note(", ".join([counted(len(one.ids), "image"), *what]), "bad" if what else "plain")


def _more(count: int, shown: int = MOST_SHOWN, what: str = "images") -> list[Note]:
    return [Note(f"the first {shown} of {count:,} {what}; the tables have all")] * (count > shown)
