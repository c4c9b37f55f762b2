"""Re-cut a window around a pixel of a class, which gets to a random place of it.

A window lies where its data put it, so that an object is always seen with the same surroundings at
the same place. Moved with their window, its pixels are seen at other places. What comes into the
window is not read from beyond it: there may be validation or test pixels, or nothing. The image is
reflected there, and its pixels have no class.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DRAWS = 3
"""Random numbers for one window: its class, the pixel of it, and where that gets to."""


def draw_move(
    wanted: NDArray[np.bool_], places: NDArray[np.int64], reach: float, draws: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Draw a pixel of a class, and how far it moves.

    Args:
        wanted: Which pixels are of the class (rows, columns), at least one.
        places: Row and column of the pixels that it may get to (places, 2), e.g. the centres of
            tokens.
        reach: Largest distance that it moves, down or right, in shares of the side; if no place is
            so near, the nearest is taken.
        draws: For the pixel and its place, in [0, 1) (2,).

    Returns:
        Pixels that the window moves down and right (2,).

    Example:
        >>> wanted = np.array([[False, True], [False, False]])
        >>> draw_move(wanted, np.array([[1, 0]]), 1.0, np.array([0.5, 0.5])).tolist()
        [1, -1]
    """
    pixels = np.argwhere(wanted)
    pixel = pixels[int(draws[0] * len(pixels))]
    apart = np.abs((places - pixel) / wanted.shape).max(axis=1)
    near = np.flatnonzero(apart <= max(reach, apart.min()))
    return places[near[int(draws[1] * len(near))]] - pixel


def move_mask(
    mask: NDArray[np.integer], move: NDArray[np.int64], nothing: int
) -> NDArray[np.integer]:
    """Move a mask; what comes into it has no class.

    Args:
        mask: Class of each pixel (..., rows, columns).
        move: Pixels down and right (2,), fewer than there are.
        nothing: Value of pixels without a class.
    """
    found = np.full_like(mask, nothing)
    (to_rows, rows), (to_columns, columns) = (
        (slice(max(0, n), size + min(0, n)), slice(max(0, -n), size - max(0, n)))
        for n, size in zip(move.tolist(), mask.shape[-2:], strict=True)
    )
    found[..., to_rows, to_columns] = mask[..., rows, columns]
    return found


def move_images(images: Tensor, moves: NDArray[np.integer]) -> Tensor:
    """Move images; what comes into them is their reflection.

    Args:
        images: (batch, bands, rows, columns).
        moves: Pixels down and right (batch, 2), fewer than there are.
    """
    found = torch.empty_like(images)
    for i, move in enumerate(moves.tolist()):
        rows, columns = (
            _reflected(n, size) for n, size in zip(move, images.shape[-2:], strict=True)
        )
        found[i] = images[i][:, rows.to(images.device)][:, :, columns.to(images.device)]
    return found


def _reflected(move: int, size: int) -> Tensor:
    """Which row comes to each place, counted back from the edges."""
    at = (torch.arange(size) - move).abs()
    return torch.where(at < size, at, 2 * (size - 1) - at)
