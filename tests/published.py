"""Files in the published formats of DOTA, SRSDD, FUSAR-Ship and FUSRS, with planted objects.

What is planted is returned, so that readers are tested against a known truth. Nothing of tailora is
used to make it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CELL = 48  # pixels; each object has a cell of its own
DOTA_COUNTS = {
    "train": {"ship": 40, "small-vehicle": 24, "plane": 12, "harbor": 9, "helicopter": 6},
    "val": {"ship": 16, "small-vehicle": 10, "plane": 6, "harbor": 5, "helicopter": 4},
}


@dataclass(frozen=True)
class Planted:
    """One object as it stands in an image and in its label file."""

    split: str
    image: str
    line: int
    name: str
    corners: np.ndarray
    difficult: int
    colour: tuple[int, ...]


def rectangle(centre: Sequence[float], sides: Sequence[float], degrees: float) -> np.ndarray:
    """Corners (4, 2) of a box turned clockwise on the screen."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cos, -sin], [sin, cos]])
    half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array(sides) / 2
    return half @ turn.T + np.array(centre)


def paint(picture: np.ndarray, corners: np.ndarray, colour: Sequence[int]) -> None:
    """Fill the pixels of (rows, columns, bands) whose centre lies in a convex polygon."""
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    inside = np.ones(picture.shape[:2], dtype=bool)
    for (x, y), (to_x, to_y) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inside &= (to_x - x) * (rows - y) - (to_y - y) * (columns - x) >= 0
    picture[inside] = colour


def label_line(corners: np.ndarray, name: str, difficult: int) -> str:
    """One line of a label file, as published."""
    return " ".join([*(f"{value:.1f}" for value in corners.ravel()), name, str(difficult)])


def write_dota(
    root: Path,
    counts: Mapping[str, Mapping[str, int]] = DOTA_COUNTS,
    *,
    images: int = 6,
    labels: str = "labelTxt",
    header: str = "imagesource:GoogleEarth\ngsd:0.146\n",
    bands: int = 3,
    suffix: str = ".png",
    seed: int = 0,
) -> list[Planted]:
    """Write `images` pictures a split with their label files; every fifth object is difficult.

    Args:
        root: Folder to fill.
        counts: Objects of each class in each split, spread over the images in turn.
        images: Pictures a split.
        labels: Folder of the labels in each split's folder.
        header: First lines of each label file.
        bands: 3 for colour, 1 for grey.
        suffix: Type of the pictures.
        seed: Of places, sizes and noise.
    """
    rng = np.random.default_rng(seed)
    planted: list[Planted] = []
    for split, classes in counts.items():
        names = [name for name, count in classes.items() for _ in range(count)]
        side = CELL * math.ceil(math.sqrt(math.ceil(len(names) / images)))
        for i in range(images):
            stem = f"P{len(planted):04d}"
            picture = rng.integers(0, 40, (side, side, bands), dtype=np.uint8)
            new = [
                _plant(picture, k, name, split, f"{split}/images/{stem}{suffix}", header, rng)
                for k, name in enumerate(names[i::images])
            ]
            lines = [label_line(item.corners, item.name, item.difficult) for item in new]
            write_picture(root / split / "images" / f"{stem}{suffix}", picture)
            write_lines(root / split / labels / f"{stem}.txt", [*header.splitlines(), *lines])
            planted += new
    return planted


def _plant(
    picture: np.ndarray,
    k: int,
    name: str,
    split: str,
    image: str,
    header: str,
    rng: np.random.Generator,
) -> Planted:
    row, column = divmod(k, picture.shape[1] // CELL)
    centre = np.array([column + 0.5, row + 0.5]) * CELL + rng.uniform(-4, 4, 2)
    tone = sum(map(ord, name)) * 37 % 150
    colour = tuple(int(80 + (tone + 53 * band) % 170) for band in range(picture.shape[2]))
    sides = (rng.uniform(14, 26), rng.uniform(6, 12))
    corners = rectangle(centre, sides, rng.uniform(0, 180)).round(1)
    paint(picture, corners, colour)
    line = len(header.splitlines()) + k + 1
    return Planted(split, image, line, name, corners, int(k % 5 == 4), colour)


def write_picture(path: Path, picture: np.ndarray) -> Path:
    """Save (rows, columns, bands)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.squeeze()).save(path)
    return path


def write_lines(path: Path, lines: Sequence[str], *, end: str = "\n") -> Path:
    """Write text lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}{end}" for line in lines).encode())
    return path


SRSDD_COUNTS = {
    "train": {
        "Container": 30, "Fishing": 12, "Dredger": 10, "ore-oil": 9, "Cell-Container": 8,
        "LawEnforce": 6,
    },
    "test": {
        "Container": 12, "Fishing": 6, "Dredger": 5, "ore-oil": 4, "Cell-Container": 4,
        "LawEnforce": 3,
    },
}  # fmt: skip


def write_srsdd(root: Path, *, images: int = 6) -> list[Planted]:
    """Write grey pictures with the classes of SRSDD in DOTA's format, train and test."""
    return write_dota(root, SRSDD_COUNTS, images=images, header="", bands=1, labels="labelTxt")


FUSAR_COUNTS = {
    ("Cargo", "BulkCarrier"): 24,
    ("Cargo", "ContainerShip"): 12,
    ("Fishing", "FishingVessel"): 14,
    ("Tanker", "OilTanker"): 8,
}


def write_fusar(root: Path, *, side: int = 16, meta: bool = True, seed: int = 0) -> dict[str, int]:
    """Write chips `CATEGORY/SUBCATEGORY/Ship_CxxSyyNzzzz.tiff`; two chips a ship.

    Returns:
        The MMSI of each chip, by name.
    """
    rng = np.random.default_rng(seed)
    categories: dict[str, list[str]] = {}
    ships: dict[str, int] = {}
    rows = ["id,mmsi,length,width,polarMode,centerLookAngle,heightspace,widthspace,path"]
    for (category, subcategory), count in FUSAR_COUNTS.items():
        kinds = categories.setdefault(category, [])
        kinds.append(subcategory)
        numbers = f"C{len(categories):02d}S{len(kinds):02d}"
        for i in range(count):
            name = f"Ship_{numbers}N{i + 1:04d}"
            chip = rng.integers(0, 60, (side, side), dtype=np.uint8)
            chip[4:-4, 6:-6] = 90 + 40 * len(categories)
            write_picture(root / category / subcategory / f"{name}.tiff", chip)
            ships[name] = 412_000_000 + 1000 * len(ships) - i % 2 * 1000
            rows.append(f"{name},{ships[name]},180,30,DH,42.51,1.7,1.1,{category}\\{subcategory}")
    if meta:
        write_lines(root / "meta.csv", rows, end="\r\n")
    return ships


FUSRS_SMALL = {
    "cargo": (20, 5, 10), "other": (14, 4, 8), "fishing": (10, 3, 6), "tanker": (7, 3, 5),
    "dredger": (6, 3, 4),
}  # fmt: skip


def write_fusrs(root: Path, *, lists: bool = False, side: int = 16, seed: int = 0) -> None:
    """Write chips with the classes of FUSRS: in class folders, or beside lists of images."""
    rng = np.random.default_rng(seed)
    for k, split in enumerate(("train", "val", "test")):
        lines = []
        for number, (name, counts) in enumerate(FUSRS_SMALL.items()):
            for i in range(counts[k]):
                chip = rng.integers(0, 40, (side, side), dtype=np.uint8)
                chip[5:-5, 3 : 6 + 2 * number] = 70 + 40 * number
                place = f"chips/{split}_{name}_{i}.png" if lists else f"{split}/{name}/{i:04d}.png"
                write_picture(root / place, chip)
                lines.append(f"{place} {number}")
        if lines and lists:
            write_lines(root / f"{split}.txt", lines)
    if lists:
        write_lines(root / "classnames.txt", list(FUSRS_SMALL))
