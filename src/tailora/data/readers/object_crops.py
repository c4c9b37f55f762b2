"""Crops around labelled objects in large images, cut on reading."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tailora.boxes import to_boxes
from tailora.data.readers.picture_windows import PictureWindows
from tailora.errors import ConfigError, unknown_name

TURNS: Final = ("upright", "along")
FRAMES: Final = ("square", "box")


@final
@dataclass(frozen=True)
class CropOptions:
    """How an object is cropped.

    Args:
        turn: `"upright"` crops along rows and columns around the hull of the corners; `"along"`
            rotates the image so that the object's long side is horizontal.
        frame: `"square"` around the longer side, so that nothing of a long object is lost when
            images are made square; `"box"` in the object's own aspect ratio (use
            `data.resize="stretch"` then).
        margin: Margin on each side, as a fraction of the longer side, at least 0.

    Raises:
        ConfigError: An unknown option value, or a margin below 0.
    """

    turn: str = "upright"
    frame: str = "square"
    margin: float = 0.2

    def __post_init__(self) -> None:
        if self.turn not in TURNS:
            raise unknown_name("turn", self.turn, TURNS)
        if self.frame not in FRAMES:
            raise unknown_name("frame", self.frame, FRAMES)
        if not 0 <= self.margin < math.inf:
            raise ConfigError(f"margin must be at least 0, got {self.margin}")


@final
class ObjectCrops:
    """Objects in images as an image source; pixels outside an image are 0.

    Args:
        windows: The images.
        owners: Image of each object (objects,); neighbouring objects should share theirs.
        corners: (objects, 4, 2) x and y in pixels, where pixel (0, 0) covers [0, 1) x [0, 1).
        ids: Name of each object.
        options: How to crop.
    """

    def __init__(
        self,
        windows: PictureWindows,
        owners: NDArray[np.int64],
        corners: NDArray[np.float64],
        ids: Sequence[str],
        options: CropOptions,
    ) -> None:
        self.windows = windows
        self.owners = owners
        self.corners = corners
        self.ids = tuple(ids)
        self.options = options

    def __len__(self) -> int:
        return len(self.ids)

    def id(self, i: int) -> str:
        """Return image and line of the label file, e.g. `train/images/P0000.png#12`."""
        return self.ids[i]

    def cut_from(self, i: int) -> tuple[Path, str]:
        """Return the file of object `i`, and what distinguishes it from its other crops."""
        return self.windows.paths[self.owners[i]], f"{self.corners[i].tolist()} {self.options}"

    def read(self, i: int) -> NDArray[Any]:
        """Crop object `i`, (bands, height, width) in the dtype of the file.

        Raises:
            DataError: The file cannot be decoded.
        """
        picture, corners = int(self.owners[i]), self.corners[i]
        if self.options.turn == "along":
            return self._read_along(picture, corners)
        low, high = corners.min(axis=0), corners.max(axis=0)
        width, height = self._size(high - low)
        left, top = np.floor((low + high - (width, height)) / 2 + 0.5).astype(int).tolist()
        return self.windows.read(picture, top=top, left=left, height=height, width=width)

    def _size(self, sides: NDArray[np.float64]) -> tuple[int, int]:
        """Return columns and rows of a crop around an object of these sides."""
        longer = float(sides.max())
        if self.options.frame == "square":
            sides = np.full(2, longer)
        width, height = np.ceil(sides + 2 * self.options.margin * longer - 1e-6).astype(int)
        return max(1, int(width)), max(1, int(height))

    def _read_along(self, picture: int, corners: NDArray[np.float64]) -> NDArray[Any]:
        box = to_boxes(corners[None])[0]
        centre, theta = box[:2], float(box[4])
        width, height = self._size(box[2:4])
        along = np.array([math.cos(theta), math.sin(theta)])
        across = np.array([-along[1], along[0]])
        reach = (np.abs(along) * width + np.abs(across) * height) / 2 + 1
        left, top = np.floor(centre - reach).astype(int).tolist()
        right, bottom = np.ceil(centre + reach).astype(int).tolist()
        window = self.windows.read(
            picture, top=top, left=left, height=bottom - top, width=right - left
        )
        # output pixel centres are half a pixel off (row, column); rows run across, columns along
        matrix = np.array([[across[1], along[1]], [across[0], along[0]]])
        middle = centre[::-1] - (top, left) - 0.5
        offset = middle - matrix @ ((height - 1) / 2, (width - 1) / 2)
        return _turned(window, matrix, offset, (height, width))


def _turned(
    window: NDArray[Any],
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    shape: tuple[int, int],
) -> NDArray[Any]:
    """Sample a window bilinearly; integers are rounded."""
    places = np.tensordot(matrix, np.indices(shape), axes=1) + offset[:, None, None]
    turned = np.stack(
        [ndimage.map_coordinates(band.astype(np.float64), places, order=1) for band in window]
    )
    if np.issubdtype(window.dtype, np.integer):
        turned = np.rint(turned)
    return turned.astype(window.dtype)
