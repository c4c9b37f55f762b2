"""`tailora predict` of scenes: maps, and what they hold as a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from tailora.cli.options import bars, print_json, screen, tell_notes

_FOR_READING = ("sensor", "band_names", "nodata")
_FOR_MAPPING = ("chip", "step", "dense", "most_nodata")
_FOR_FILES = ("probabilities", "confidence", "polygons")


def predict_map(
    run: Path,
    scenes: Sequence[Path],
    out: Path,
    given: Mapping[str, Any],
    *,
    verify: bool,
    skip_broken: bool,
    quiet: bool,
    json: bool,
) -> None:
    """Write the maps of scenes and say what is on them.

    Args:
        run: Folder of the run.
        scenes: Rasters and folders.
        out: Map or folder.
        given: Options of maps that were given.
        verify: Compare the files of the run with their checksums.
        skip_broken: Leave out chips that cannot be read.
        quiet: No bars and no table.
        json: What is on the maps as JSON.
    """
    from tailora.inference.map_scenes import MapOptions, map_scenes
    from tailora.inference.map_targets import MapTargets
    from tailora.inference.scene_inputs import SceneOptions
    from tailora.runs.run import load_run

    def chosen(names: Sequence[str]) -> dict[str, Any]:
        return {name: given[name] for name in names if name in given}

    reading = chosen(_FOR_READING)
    if "band_names" in reading:
        reading["band_names"] = tuple(name.strip() for name in reading["band_names"].split(","))
    loaded = load_run(run, verify=verify)
    tell_notes(loaded.notes)
    found, notes = map_scenes(
        loaded,
        scenes,
        MapTargets(out, **chosen(_FOR_FILES)),
        options=MapOptions(**chosen(_FOR_MAPPING)),
        reading=SceneOptions(**reading),
        skip_broken=skip_broken,
        resume=given.get("resume", False),
        progress=bars(quiet=quiet),
    )
    if json:
        print_json([{"map": str(one.files.labels), **one.to_json()} for one in found])
    if not quiet:
        show = screen(stderr=json)
        for one in found:
            show.print(_table(one))
            show.print(escape(_left_out(one)))
        for note in notes:
            show.print(escape(note))


def _table(found: Any) -> Table:
    table = Table(title=escape(str(found.files.labels)), title_justify="left")
    table.add_column("class")
    table.add_column("cells", justify="right")
    table.add_column("share of the map", justify="right")
    table.add_column("verdict")
    total = sum(found.cells.values())
    for name, count in sorted(found.cells.items(), key=lambda item: -item[1]):
        share = f"{count / total:.1%}"
        table.add_row(escape(name), str(count), share, found.verdicts[name])
    return table


def _left_out(found: Any) -> str:
    rows, columns = found.shape
    doubtful = sum(n for name, n in found.cells.items() if found.verdicts[name] != "trusted")
    parts = [
        f"{rows} x {columns} cells of {found.cell} pixels from {found.chips} chips",
        f"{doubtful / sum(found.cells.values()):.0%} of the map is of classes the run's own test "
        "does not vouch for",
    ]
    if found.no_class:
        parts.append(f"{found.no_class} cells have no class")
    if found.left_out:
        parts.append(f"{found.left_out} chips have too few pixels with data")
    if found.broken:
        parts.append(f"{found.broken} chips could not be read")
    if found.polygons is not None:
        parts.append(f"{found.polygons} polygons")
    return "; ".join(parts)
