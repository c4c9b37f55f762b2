"""What labelled points say about a finished map."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

from rich.markup import escape
from rich.table import Table

from tailora.frames import Rows
from tailora.metrics.map_accuracy import ClassAccuracy, Estimate, MapAccuracy
from tailora.numbers import MISSING, magnitude, percent

_LARGE: Final = 100_000  # hectares that are easier to read in km²


@final
@dataclass(frozen=True)
class AssessedClass:
    """Accuracy and area of one class of a map.

    Args:
        accuracy: As shares of the assessed area.
        pixels: Its pixels in the map.
        mapped_hectares: Its area in the map; None where the map has no scale.
        hectares: Its error-adjusted area within the assessed part of the map.
    """

    accuracy: ClassAccuracy
    pixels: int
    mapped_hectares: float | None
    hectares: Estimate | None


@final
@dataclass(frozen=True)
class MapAssessment:
    """Accuracy of a finished map by a labelled sample.

    Args:
        map: The map.
        labels: File of the labelled points.
        points: Number of points used.
        skipped: Points left out, by reason; reasons without points included.
        accuracy: Overall accuracy and error matrix, rows and columns in the order of `classes`.
        classes: In the order of their values.
        notes: What to know about the map and the points.
    """

    map: str
    labels: str
    points: int
    skipped: dict[str, int]
    accuracy: MapAccuracy
    classes: Rows[AssessedClass]
    notes: tuple[str, ...]

    @property
    def unit(self) -> tuple[str, float]:
        """Unit in which areas are shown, % without a scale, and its number in a hectare."""
        areas = [one.mapped_hectares for one in self.classes if one.mapped_hectares is not None]
        if not areas:
            return "%", 1.0
        return ("km²", 0.01) if max(areas) >= _LARGE else ("ha", 1.0)

    def table(self) -> Table:
        """Return accuracies and areas for the terminal."""
        unit, factor = self.unit
        level = f"{self.accuracy.confidence:.0%}"
        name, overall = escape(Path(self.map).name), _share(self.accuracy.overall)
        table = Table(
            title=f"{name}: overall accuracy {overall} %",
            title_justify="left",
            caption=f"\\[{level} interval]; map, labels: points of the class",
        )
        table.add_column("class")
        for name in (
            "map", "labels", "user's accuracy %", "producer's accuracy %", f"mapped {unit}",
            f"estimated {unit}",
        ):  # fmt: skip
            table.add_column(name, justify="right")
        for one in self.classes:
            row = one.accuracy
            areas = (percent(row.map_share), _share(row.area_share))
            if one.hectares is not None and one.mapped_hectares is not None:
                true = one.hectares.times(factor)
                areas = (magnitude(one.mapped_hectares * factor), _interval(true, magnitude))
            table.add_row(
                escape(row.name), str(row.map_points), str(row.reference_points),
                _share(row.users), _share(row.producers), *areas,
            )  # fmt: skip
        return table

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        found = asdict(self)
        del found["accuracy"]["classes"]
        return found


def _share(found: Estimate | None) -> str:
    return MISSING if found is None else _interval(found, percent)


def _interval(found: Estimate, written: Callable[[float], str]) -> str:
    return f"{written(found.value)} \\[{written(found.low)}, {written(found.high)}]"
