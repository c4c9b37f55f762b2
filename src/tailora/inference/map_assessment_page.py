"""The assessment of a map as a page."""

from collections.abc import Callable
from pathlib import Path

from tailora.inference.map_assessment import MapAssessment
from tailora.metrics.map_accuracy import Estimate
from tailora.numbers import MISSING, counted, magnitude, percent
from tailora.report.blocks import (
    Bar,
    Cell,
    Column,
    Facts,
    Listing,
    Page,
    Section,
    Table,
    class_cell,
    shorten,
    write_page,
)


def write_assessment(found: MapAssessment, out: Path) -> Path:
    """Write accuracies, areas and the error matrix of a map as a page; return `out`.

    Raises:
        StorageError: The file cannot be written.
    """
    sections = (_accuracies(found), _areas(found), _matrix(found), _about(found))
    subtitle = f"{counted(len(found.classes), 'class')} · {counted(found.points, 'point')}"
    return write_page(Page(Path(found.map).name, subtitle, sections, "tailora assess"), out)


def _accuracies(found: MapAssessment) -> Section:
    columns = (
        Column("class", numeric=False),
        Column("points on the map"),
        Column("points by the labels"),
        Column("user's accuracy %", "share of the mapped area that is the class"),
        Column("producer's accuracy %", "share of the area of the class that is mapped as such"),
    )
    rows = tuple(
        (
            class_cell(one.accuracy.name),
            Cell(str(one.accuracy.map_points)),
            Cell(str(one.accuracy.reference_points)),
            _share(one.accuracy.users, enough=one.accuracy.enough_map_points),
            _share(one.accuracy.producers, enough=one.accuracy.enough_reference_points),
        )
        for one in found.classes
    )
    text = (
        f"Overall accuracy {_text(found.accuracy.overall)} %. Each point counts by the area that "
        f"it stands for; {found.accuracy.confidence:.0%} intervals."
    )
    return Section("accuracy", "Accuracy", text, (Table(columns, rows, "Accuracy per class"),))


def _areas(found: MapAssessment) -> Section:
    unit, factor = found.unit
    columns = (
        Column("class", numeric=False),
        Column("pixels"),
        Column(f"mapped {unit}"),
        Column(f"estimated {unit}", "area corrected for the errors of the map"),
        Column("standard error", "0 where no point is wrong; the interval allows for it"),
    )
    rows = []
    for one in found.classes:
        mapped, true = one.accuracy.map_share, one.accuracy.area_share
        written: Callable[[float], str] = percent
        if one.hectares is not None and one.mapped_hectares is not None:
            mapped, true = one.mapped_hectares * factor, one.hectares.times(factor)
            written = magnitude
        rows.append(
            (
                class_cell(one.accuracy.name),
                Cell(f"{one.pixels:,}"),
                Cell(written(mapped)),
                Cell(written(true.value), f"[{written(true.low)}, {written(true.high)}]"),
                Cell(written(true.standard_error)),
            )
        )
    text = (
        "The area on the map is biased by its errors; the estimate corrects it by what the points "
        "show was missed and what was mapped wrongly."
    )
    return Section("areas", "Areas", text, (Table(columns, tuple(rows), "Area per class"),))


def _matrix(found: MapAssessment) -> Section:
    names = [one.accuracy.name for one in found.classes]
    columns = (
        Column("map, labels", numeric=False),
        *(Column(shorten(name), name) for name in names),
    )
    rows = tuple(
        (
            class_cell(name),
            *(
                Cell(percent(share), f"({n})" if n else "")
                for share, n in zip(shares, counts, strict=True)
            ),
        )
        for name, shares, counts in zip(
            names, found.accuracy.shares, found.accuracy.counts, strict=True
        )
    )
    text = "Rows: class on the map; columns: class by the labels. Percent of the area (points)."
    return Section("matrix", "Error matrix", text, (Table(columns, rows, "Error matrix"),))


def _about(found: MapAssessment) -> Section:
    facts = (
        ("map", found.map),
        ("labels", found.labels),
        ("design", "stratified random sample, strata are the classes of the map"),
        *((f"points {reason}", str(n)) for reason, n in found.skipped.items()),
    )
    blocks = (Facts(facts), *([Listing(found.notes)] if found.notes else []))
    return Section("about", "Map and points", "", blocks)


def _share(found: Estimate | None, *, enough: bool) -> Cell:
    if found is None:
        return Cell(MISSING)
    text = f"{_text(found)}{'' if enough else ', too few to say'}"
    return Cell("", text, bar=Bar(found.value, found.low, found.high))


def _text(found: Estimate) -> str:
    return f"{percent(found.value)} [{percent(found.low)}, {percent(found.high)}]"
