"""Write a .npy array of images one by one, before it is known how many bands they have."""

from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_COLOUR_BANDS: Final = 3


@final
class ArrayWriter:
    """Append images of one size; grey ones become three equal bands once a colour image has come.

    Ordinary writes, because a memory map that meets a full disk kills the process.

    Args:
        path: The file to write; it is whole once `rows` images and gaps were appended.
        rows: Images and gaps to come.
    """

    def __init__(self, path: Path, rows: int) -> None:
        self.path = path
        self.rows = rows
        self.written = 0
        self._file: BinaryIO = path.open("wb")
        self._shape: tuple[int, ...] | None = None  # of one image; not known before the first
        self._dtype = np.dtype(np.uint8)

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, image: NDArray[Any]) -> None:
        """Write the next image (bands, size, size); bands are those before, or 1 and 3 mixed."""
        if self._shape is None:
            self._shape, self._dtype = image.shape, image.dtype
            self._write_header()
            self._file.write(bytes(image.nbytes) * self.written)  # the gaps so far
        elif len(image) > self._shape[0]:
            self._widen()
        elif len(image) < self._shape[0]:
            image = np.repeat(image, _COLOUR_BANDS, axis=0)
        self._file.write(image.tobytes())
        self.written += 1

    def append_gap(self) -> None:
        """Write zeros in place of an image that could not be read."""
        if self._shape is not None:
            self._file.write(bytes(prod(self._shape) * self._dtype.itemsize))
        self.written += 1

    def _write_header(self) -> None:
        facts = {
            "descr": npy.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self.rows, *(self._shape or ())),
        }
        npy.write_array_header_1_0(self._file, facts)

    def _widen(self) -> None:
        """Start again with three bands, copying each grey image so far three times."""
        grey = self.path.with_suffix(".grey")
        self._file.close()
        self.path.replace(grey)
        self._file = self.path.open("wb")
        try:
            with grey.open("rb") as old:
                npy.read_magic(old)
                shape, _, dtype = npy.read_array_header_1_0(old)
                self._shape = (_COLOUR_BANDS, *shape[2:])
                self._write_header()
                for _ in range(self.written):
                    self._file.write(old.read(prod(shape[1:]) * dtype.itemsize) * _COLOUR_BANDS)
        finally:
            grey.unlink()
