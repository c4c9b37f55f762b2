"""Objects in images: oriented boxes with classes, and the tiles that large images are cut into."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.boxes import Tile, objects_in_tile, to_boxes
from tailora.data.readers.picture_windows import PictureWindows

_THIN: Final = 1e-6  # pixels


@final
@dataclass(frozen=True, eq=False)
class Objects:
    """Objects of an image, or of a tile of one.

    Args:
        corners: x and y in pixels (objects, 4, 2), where pixel (0, 0) covers [0, 1) x [0, 1).
        classes: Class index of each (objects,).
        difficult: Not 0 where it does not count: marked as difficult, or cut by the border of its
            tile (objects,).
    """

    corners: NDArray[np.float64]
    classes: NDArray[np.int64]
    difficult: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def boxes(self) -> NDArray[np.float64]:
        """Centre, sides and angle of each (objects, 5)."""
        return to_boxes(self.corners)

    def counted(self, classes: int) -> NDArray[np.int64]:
        """Number of objects of each class, without difficult ones (classes,)."""
        return np.bincount(self.classes[self.difficult == 0], minlength=classes)


NO_OBJECTS: Final = Objects(
    np.zeros((0, 4, 2)), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
)


@final
@dataclass(frozen=True, eq=False)
class TileObjects:
    """What `TiledObjects` knows of one tile.

    Args:
        picture: Name of the image.
        tile: Where in it.
        inside: Objects sufficiently inside, in pixels of the tile.
        whole: All objects of the image, in its own pixels.
        gsd: Ground sampling distance of the image in metres per pixel; None if it is not known.
    """

    picture: str
    tile: Tile
    inside: Objects
    whole: Objects
    gsd: float | None = None


@final
class TiledObjects:
    """Annotations of tiles; a `tailora.data.Targets`, for which one class suffices.

    Args:
        names: Name of each image.
        objects: Its objects.
        owners: Image of each tile (tiles,).
        tiles: The tiles.
        classes: Number of classes.
        gsd: Ground sampling distance of each image in metres per pixel, None where it is not known;
            empty for none.
    """

    fewest_classes: Final = 1

    def __init__(
        self,
        names: Sequence[str],
        objects: Sequence[Objects],
        owners: NDArray[np.int64],
        tiles: Sequence[Tile],
        classes: int,
        gsd: Sequence[float | None] = (),
    ) -> None:
        self.gsd = tuple(gsd) or (None,) * len(names)
        self.names, self.objects, self.owners = tuple(names), tuple(objects), owners
        self.tiles, self.classes = tuple(tiles), classes
        self.inside = [
            _inside(objects[owner], tile) for owner, tile in zip(owners, tiles, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.tiles)

    def read(self, i: int) -> Any:
        """Objects of tile `i`: a `TileObjects`."""
        owner = int(self.owners[i])
        return TileObjects(
            self.names[owner], self.tiles[i], self.inside[i], self.objects[owner], self.gsd[owner]
        )

    def tally(self) -> NDArray[np.int64]:
        """Objects of each class in each tile, without difficult or cut ones (tiles, classes)."""
        return np.array([one.counted(self.classes) for one in self.inside]).reshape(
            len(self), self.classes
        )

    def mark(self, i: int) -> tuple[int, int]:
        """Number and checksum of the objects of tile `i`, and of how large its pixels are."""
        one, gsd = self.inside[i], self.gsd[int(self.owners[i])]
        checksum = 0 if gsd is None else zlib.crc32(np.float64(gsd).tobytes())
        for part in (one.corners, one.classes, one.difficult):
            checksum = zlib.crc32(np.ascontiguousarray(part).tobytes(), checksum)
        return len(one), checksum


def _inside(objects: Objects, tile: Tile) -> Objects:
    kept, corners, flags = objects_in_tile(objects.corners, objects.difficult, tile)
    return Objects(corners, objects.classes[kept], flags)


def has_area(corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each shape (objects, 4, 2) has an area (objects,)."""
    return to_boxes(corners)[:, 2:4].min(axis=1, initial=np.inf) >= _THIN


@final
class ObjectTiles:
    """Tiles of image files as an image source; pixels outside an image are 0.

    Args:
        paths: The files.
        names: Their names.
        owners: File of each tile (tiles,), those of one file one after the other.
        tiles: The tiles.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        names: Sequence[str],
        owners: NDArray[np.int64],
        tiles: Sequence[Tile],
    ) -> None:
        self.windows = PictureWindows(paths)
        self.names, self.owners, self.tiles = tuple(names), owners, tuple(tiles)
        self.alone = np.bincount(owners, minlength=len(names)) == 1

    def __len__(self) -> int:
        return len(self.tiles)

    def id(self, i: int) -> str:
        """Name of the image, with size and place of the tile if it has several."""
        owner = int(self.owners[i])
        name = self.names[owner]
        return name if self.alone[owner] else self.tiles[i].name(name)

    def cut_from(self, i: int) -> tuple[Path, str]:
        """The file of tile `i`, and its place there."""
        return self.windows.paths[self.owners[i]], str(self.tiles[i])

    def read(self, i: int) -> NDArray[Any]:
        """Read tile `i` (bands, size, size) in the dtype of the file.

        Raises:
            DataError: The file cannot be decoded.
        """
        tile = self.tiles[i]
        return self.windows.read(
            int(self.owners[i]), top=tile.top, left=tile.left, height=tile.size, width=tile.size
        )
