"""A feature bank on disk: one array and a manifest of its origin.

Features are one vector for each image, or a map of tokens, kept in half precision: slices of the
array that is given read only what they take.

A bank is reused only if its manifest equals the requested one exactly: another encoder, adapter,
image size or row gives new features, never old ones under a new name.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tailora.storage import create_array, delete, read_json, write_atomically, write_json

Width = int | tuple[int, ...]


@dataclass(frozen=True)
class FeatureBank:
    """A folder that holds `features.npy` (rows, ..., features) and `manifest.json`.

    Args:
        folder: Folder of the bank, which may not exist yet.
        manifest: JSON-able facts that determine the features.
        dtype: Of the array; half precision has a relative error of 5e-4.
    """

    folder: Path
    manifest: dict[str, Any]
    dtype: Literal["float32", "float16"] = "float32"

    @property
    def array_path(self) -> Path:
        """The array file."""
        return self.folder / "features.npy"

    def share(self, index: int, of: int) -> "FeatureBank":
        """Return the bank for one process's share, until all are done."""
        facts = {**self.manifest, "share": index, "of": of}
        return replace(self, folder=self.folder / f"share-{index}-of-{of}", manifest=facts)

    def remove(self) -> None:
        """Delete the bank from disk."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def matches(self) -> bool:
        """Return whether features with exactly this manifest exist."""
        try:
            kept = read_json(self.folder / "manifest.json")
        except (OSError, ValueError):  # there is none, or it is truncated
            return False
        return self.array_path.is_file() and _letters(kept) == _letters(self.manifest)

    def kept(self, rows: int, width: Width) -> NDArray[np.float32] | None:
        """Return the features if they exist with exactly this manifest, and are complete.

        Args:
            rows: Number of samples.
            width: Number of features, or the shape (..., features) of a map of them.

        Returns:
            Read-only memory map (rows, ..., features), or None.
        """
        if not self.matches():
            return None
        try:
            array = np.load(self.array_path, mmap_mode="r")
        except (OSError, ValueError, EOFError):  # truncated, or something else
            return None
        shape = getattr(array, "shape", None)
        is_whole = shape == whole_shape(rows, width) and array.dtype == self.dtype
        return array if is_whole else None

    def load_or_make(
        self, rows: int, width: Width, fill: Callable[[NDArray[np.float32]], None]
    ) -> NDArray[np.float32]:
        """Return the features, computing them only without a matching and complete bank.

        Args:
            rows: Number of samples.
            width: Number of features, or the shape (..., features) of a map of them.
            fill: Writes every row of the array it is given.

        Returns:
            Read-only memory map (rows, ..., features).
        """
        kept = self.kept(rows, width)
        if kept is not None:
            return kept
        # delete a bank of another origin first, so that no manifest ever describes a foreign array
        delete(self.folder / "manifest.json")
        delete(self.array_path)
        shape = whole_shape(rows, width)
        write_atomically(self.array_path, lambda path: _fill(path, shape, self.dtype, fill))
        write_json(self.folder / "manifest.json", self.manifest)
        return np.load(self.array_path, mmap_mode="r")


def _letters(manifest: Any) -> str:
    return json.dumps(manifest, sort_keys=True)


def whole_shape(rows: int, width: Width) -> tuple[int, ...]:
    """Shape of the features of so many samples."""
    return (rows, width) if isinstance(width, int) else (rows, *width)


def _fill(
    path: Path,
    shape: tuple[int, ...],
    dtype: str,
    fill: Callable[[NDArray[Any]], None],
) -> None:
    array = create_array(path, shape, np.dtype(dtype))
    fill(array)
    array.flush()
