"""FUSAR-Ship 1.0: Gaofen-3 SAR chips of ships, in folders of categories and subcategories.

Reference: Hou et al., "FUSAR-Ship: building a high-resolution SAR-AIS matchup dataset of Gaofen-3
for ship detection and recognition", Science China Information Sciences 63 (2020) 140303.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from tailora.data.dataset import Dataset, assemble
from tailora.data.images import EXTENSIONS
from tailora.data.readers.visible_files import visible_files
from tailora.data.sources import FileImages
from tailora.errors import ConfigError, DataError, unknown_name
from tailora.numbers import counted

LEVELS: Final = ("category", "subcategory")
GROUP_BY: Final = ("ship", "chip")
META: Final = "meta.csv"

_CHIP: Final = re.compile(r"[A-Za-z]+_C(\d+)S(\d+)N\d+\.tiff?", re.IGNORECASE)
_LAYOUT: Final = "expected CATEGORY/SUBCATEGORY/Ship_C01S01N0001.tiff"


@final
@dataclass(frozen=True)
class _Chip:
    path: Path
    name: str
    labels: tuple[str, str]
    indices: tuple[int, int]


def open_fusar(
    path: str | Path,
    *,
    level: str = "category",
    group_by: str = "ship",
    min_per_class: int = 0,
    seed: int = 0,
) -> Dataset:
    """Open the chips of FUSAR-Ship, whole.

    Args:
        path: Folder with `CATEGORY/SUBCATEGORY/Ship_CxxSyyNzzzz.tiff`, and optionally `meta.csv`.
        level: Level of the classes: `"category"` or `"subcategory"` (written `Cargo/BulkCarrier`).
        group_by: `"ship"` keeps all chips of one ship (MMSI, from `meta.csv`) in one split, since
            the same ship in train and test is a leak; `"chip"` treats chips as independent.
        min_per_class: Classes with fewer chips are left out.
        seed: Seeds the splits; none are published.

    Raises:
        DataError: No chip, a name that contradicts its folder, or `meta.csv` cannot be used.
        ConfigError: An unknown option value.
    """
    if level not in LEVELS:
        raise unknown_name("level", level, LEVELS)
    if group_by not in GROUP_BY:
        raise unknown_name("group_by", group_by, GROUP_BY)
    if min_per_class < 0:
        raise ConfigError(f"min_per_class must be at least 0, got {min_per_class}")
    root = Path(path)
    chips, notes = _find(root)
    depth = LEVELS.index(level) + 1
    labels = ["/".join(chip.labels[:depth]) for chip in chips]
    counts = Counter(labels)
    small = sorted(name for name, count in counts.items() if count < min_per_class)
    if small:
        notes.append(f"left out classes with fewer than {min_per_class} chips: {', '.join(small)}")
    kept = [i for i, label in enumerate(labels) if label not in small]
    chips, labels = [chips[i] for i in kept], [labels[i] for i in kept]
    groups, told = _groups(root, chips, group_by)
    return assemble(
        root.resolve().name,
        FileImages([chip.path for chip in chips], [chip.name for chip in chips]),
        labels,
        groups=groups,
        seed=seed,
        notes=(*notes, *told),
    )


def is_fusar(root: Path) -> bool:
    """Return whether a folder has chips where FUSAR-Ship has them."""
    return any(_CHIP.fullmatch(path.name) for path in root.glob("*/*/*_C*S*N*.tif*"))


def _find(root: Path) -> tuple[list[_Chip], list[str]]:
    if not root.is_dir():
        raise DataError(f"no folder {str(root)!r}; {_LAYOUT}")
    chips: list[_Chip] = []
    others = 0
    for path in visible_files(root):
        match = _CHIP.fullmatch(path.name)
        if not match:
            others += path.suffix.lower() in EXTENSIONS
            continue
        name = path.relative_to(root)
        if len(name.parts) < 3:
            raise DataError(f"{str(path)!r} is not in a category and subcategory; {_LAYOUT}")
        labels = (name.parts[-3], name.parts[-2])
        chips.append(_Chip(path, name.as_posix(), labels, (int(match[1]), int(match[2]))))
    if not chips:
        raise DataError(f"no FUSAR-Ship chips in {str(root)!r}; {_LAYOUT}")
    _require_consistent(chips)
    return chips, [f"ignored {counted(others, 'image')} with other names"] if others else []


def _require_consistent(chips: list[_Chip]) -> None:
    """Check that each number in the file names refers to one folder: otherwise labels conflict."""
    folders: dict[tuple[int, ...], tuple[_Chip, str]] = {}
    for chip in chips:
        for depth in (1, 2):
            folder = "/".join(chip.labels[:depth])
            first, other = folders.setdefault(chip.indices[:depth], (chip, folder))
            if other != folder:
                raise DataError(
                    f"{chip.name!r} and {first.name!r} have the same class number in their names "
                    f"but are in {folder!r} and {other!r}; move one"
                )


def _groups(
    root: Path, chips: list[_Chip], group_by: str
) -> tuple[list[str] | None, tuple[str, ...]]:
    if group_by == "chip":
        return None, ("chips of one ship may be in train and test",)
    path = root / META
    if not path.is_file():
        return None, (
            f"no {META}, so ships cannot be identified and one ship may be in both splits",
        )
    ships = dict(_ships(path))
    unknown = sum(chip.path.stem not in ships for chip in chips)
    note = f"not in {META} and treated as ships of their own: {counted(unknown, 'chip')}"
    groups = [ships.get(chip.path.stem, chip.path.stem) for chip in chips]
    return groups, (
        *([note] if unknown else []),
        f"all chips of one ship (MMSI, {META}) are in one split",
    )


def _ships(path: Path) -> Iterator[tuple[str, str]]:
    """Return the ship of each chip, by chip name."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{str(path)!r} is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from error
    lines = text.splitlines()
    tab = bool(lines) and "\t" in lines[0]
    reader = csv.DictReader(lines, delimiter="\t" if tab else ",")
    columns = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
    if not {"id", "mmsi"} <= columns.keys():
        raise DataError(
            f"{str(path)!r} lacks the columns 'id' and 'mmsi', it has {list(columns)}; fix it, "
            "or use :group_by=chip"
        )
    for row in reader:
        chip, ship = row[columns["id"]], row[columns["mmsi"]]
        if not (chip and chip.strip()) or not (ship and ship.strip()):
            raise DataError(f"line {reader.line_num} of {str(path)!r} has no id or no mmsi")
        yield Path(chip.strip()).stem, f"mmsi-{ship.strip()}"
