"""Decode every image once, to one size and number of bands, into one array on disk."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, final

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from tailora.data.dataset import Dataset
from tailora.data.images import one_image, require_size, resize
from tailora.errors import DataError
from tailora.numbers import counted
from tailora.progress import Progress, silent
from tailora.storage import read_json, write_atomically, write_json

_COLOUR_BANDS: Final = 3


@final
class ArrayWriter:
    """Append images of one size; grey ones become three equal bands once a colour image occurs.

    Uses ordinary writes, because a memory map kills the process when the disk is full.

    Args:
        path: File to write; complete once `rows` images and gaps have been appended.
        rows: Total number of images and gaps.
    """

    def __init__(self, path: Path, rows: int) -> None:
        self.path = path
        self.rows = rows
        self.written = 0
        self._file: BinaryIO = path.open("wb")
        self._shape: tuple[int, ...] | None = None  # of one image; unknown before the first
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
        """Write the next image (bands, size, size); the same bands as before, or 1 and 3 mixed."""
        if self._shape is None:
            self._shape, self._dtype = image.shape, image.dtype
            self._write_header()
            self._file.write(bytes(image.nbytes) * self.written)  # gaps so far
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
        """Restart with three bands, copying each grey image so far three times."""
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


IMAGES: Final = "images.npy"
MANIFEST: Final = "manifest.json"

_SCHEMA: Final = 2
_THREADS: Final = 4
_DECODED_AHEAD: Final = 32
_VALUES_AT_ONCE: Final = 2**22  # for the statistics: 32 MB in float64
_NAMED: Final = 5  # broken images listed in a note; the manifest has all


@final
class PreparedImages:
    """Images of one size, read from disk on demand.

    Args:
        folder: Output folder of `prepare_images`.
        dataset: The dataset they were made from.
        manifest: Metadata written by `prepare_images`.

    Attributes:
        dataset: The dataset without broken images; its row `i` is row `i` here.
        kept: Rows of the original dataset that could be read (rows,).
        broken: Names of the images that could not be read.
        source_dtype: Dtype of the images before preparation, e.g. `"uint16"`.
        value_range: Minimum and maximum before resizing.

    Raises:
        DataError: Without the broken images a class has no training or no test sample left.
    """

    def __init__(self, folder: Path, dataset: Dataset, manifest: dict[str, Any]) -> None:
        broken = manifest["broken"]
        self.kept = np.delete(np.arange(len(dataset)), [entry["row"] for entry in broken])
        self.broken: tuple[str, ...] = tuple(entry["id"] for entry in broken)
        self.dataset = _without_broken(dataset, self.kept, self.broken)
        self.source_dtype: str = manifest["source_dtype"]
        self.value_range: tuple[float, float] = tuple(manifest["value_range"])
        self._images: NDArray[Any] = np.load(folder / IMAGES, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def bands(self) -> int:
        """Bands of every image, of one date."""
        return self._images.shape[1] // self.dataset.dates

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """Read some images.

        Args:
            indices: Rows of `self.dataset` (batch,).

        Returns:
            (batch, dates * bands, size, size), uint8 for 8-bit sources, else float32 in the values
            of the source.
        """
        return torch.from_numpy(self._read(np.asarray(indices)))

    def digests(self, indices: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Hash the content of some images (rows,): equal images of equal size have equal hashes."""
        return np.array([_digest(self._read(np.array([i]))) for i in indices], dtype=np.uint64)

    def sample(self, indices: NDArray[np.int64], *, at_most: int = 2**22) -> NDArray[Any]:
        """Return stored values of evenly spaced images among some (images, bands, size, size).

        Both dates of a pair are images of their own.

        Args:
            indices: Rows of `self.dataset` (rows,), not empty.
            at_most: Number of values to read; at least one image.
        """
        count = max(1, min(len(indices), at_most // self._images[0].size))
        chosen = indices[np.linspace(0, len(indices) - 1, count).round().astype(int)]
        return self._single(self._read(chosen))

    def band_statistics(
        self,
        indices: NDArray[np.int64],
        convert: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation of each band over all pixels, in stored values.

        Args:
            indices: Rows of `self.dataset` (rows,), not empty: the training rows, so that nothing
                is learnt from the test split.
            convert: Applied to (images, bands, size, size) first; None uses stored values.

        Returns:
            Mean and standard deviation (bands,); 0 for a constant band.

        Reference: Chan, Golub & LeVeque, The American Statistician 37 (1983), equation 1.5: sums of
            squares of parts are merged without cancellation.
        """
        at_once = max(1, _VALUES_AT_ONCE // self._images[0].size)
        n, mean, squares = 0, np.zeros(self.bands), np.zeros(self.bands)
        for start in range(0, len(indices), at_once):
            part = self._single(self._read(indices[start : start + at_once])).astype(np.float64)
            part = part if convert is None else convert(part)
            size = part.size // self.bands
            part_mean = part.mean(axis=(0, 2, 3))
            step = part_mean - mean
            squares += ((part - part_mean[:, None, None]) ** 2).sum(axis=(0, 2, 3))
            squares += step**2 * (n * size / (n + size))
            mean += step * (size / (n + size))
            n += size
        return mean, np.sqrt(squares / n)

    def _single(self, images: NDArray[Any]) -> NDArray[Any]:
        """Take the dates of each sample for samples of their own."""
        return images.reshape(-1, self.bands, *images.shape[2:])

    def _read(self, indices: NDArray[np.int64]) -> NDArray[Any]:
        return np.asarray(self._images[self.kept[indices]])


def prepare_images(
    dataset: Dataset,
    folder: Path,
    *,
    image_size: int,
    fit: str = "crop",
    skip_broken: bool = False,
    progress: Progress = silent,
) -> PreparedImages:
    """Decode and resize every image, or reuse the result of an earlier call with equal arguments.

    Args:
        dataset: What to decode. Grey images among colour ones become three equal bands.
        folder: Receives `images.npy` and `manifest.json`.
        image_size: Pixels per side.
        fit: `"crop"` or `"stretch"`; see `resize`.
        skip_broken: Skip images that cannot be decoded, instead of stopping at the first.
        progress: Notified of every image.

    Raises:
        DataError: An image cannot be decoded, two images have incompatible bands or dtypes, or a
            class is lost with the broken images.
        ConfigError: Invalid size or fit.
        StorageError: The disk is full.
    """
    require_size(image_size, fit=fit)
    wanted = {
        "schema": _SCHEMA,
        "dataset": dataset.fingerprint,
        "image_size": image_size,
        "fit": fit,
    }
    manifest = _left_before(folder, wanted)
    if manifest is None or (manifest["broken"] and not skip_broken):
        # from here on the old manifest would describe other images
        (folder / MANIFEST).unlink(missing_ok=True)
        decoding = _Decoding(dataset, image_size=image_size, fit=fit, skip_broken=skip_broken)
        write_atomically(folder / IMAGES, lambda path: decoding.run(path, progress))
        manifest = wanted | decoding.facts()
        write_json(folder / MANIFEST, manifest)
    return PreparedImages(folder, dataset, manifest)


def _digest(pixels: NDArray[Any]) -> int:
    content = hashlib.blake2b(pixels.tobytes(), digest_size=8)
    return int.from_bytes(content.digest(), "little")


def _left_before(folder: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """Read the manifest of an earlier call if its images are complete and match."""
    try:
        np.load(folder / IMAGES, mmap_mode="r")
        manifest = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        return None
    return manifest if wanted.items() <= manifest.items() else None


def _without_broken(dataset: Dataset, kept: NDArray[np.int64], broken: tuple[str, ...]) -> Dataset:
    if not broken:
        return dataset
    more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
    names = ", ".join(broken[:_NAMED]) + more
    return dataset.select(kept, note=f"{counted(len(broken), 'broken image')} left out: {names}")


@final
@dataclass(frozen=True)
class _Decoded:
    """One image, resized, with its original properties."""

    id: str
    pixels: NDArray[Any]
    source_dtype: str
    value_range: tuple[float, float]


@final
class _Decoding:
    """One pass over the images, collecting the contents of the manifest."""

    def __init__(self, dataset: Dataset, *, image_size: int, fit: str, skip_broken: bool) -> None:
        self.dataset = dataset
        self.image_size = image_size
        self.fit = fit
        self.skip_broken = skip_broken
        self.first: _Decoded | None = None
        self.low, self.high = np.inf, -np.inf
        self.broken: list[dict[str, Any]] = []

    def facts(self) -> dict[str, Any]:
        return {
            "source_dtype": self.first.source_dtype if self.first else None,
            "value_range": [self.low, self.high],
            "broken": self.broken,
        }

    def run(self, path: Path, progress: Progress) -> None:
        rows = len(self.dataset)
        with ArrayWriter(path, rows) as writer, progress("decoding images", rows) as advance:
            for row, image in enumerate(self._decode_in_order()):
                if isinstance(image, DataError):
                    self._note_broken(row, image)
                    writer.append_gap()
                else:
                    self._note(image)
                    writer.append(image.pixels)
                advance(1)
        if self.first is None:
            raise DataError(f"no image of {rows} can be decoded")

    def _decode_in_order(self) -> Iterator[_Decoded | DataError]:
        rows = len(self.dataset)
        with ThreadPoolExecutor(_THREADS) as pool:
            for start in range(0, rows, _DECODED_AHEAD):
                yield from pool.map(self._decode, range(start, min(start + _DECODED_AHEAD, rows)))

    def _decode(self, row: int) -> _Decoded | DataError:
        name = self.dataset.source.id(row)
        try:
            with one_image():
                return self._read(row, name)
        except DataError as error:
            return error

    def _read(self, row: int, name: str) -> _Decoded:
        image = self.dataset.source.read(row)
        low, high = float(image.min()), float(image.max())
        if not np.isfinite([low, high]).all():
            raise DataError(f"image {name!r} has NaN or infinite pixels")
        pixels = resize(image, self.image_size, fit=self.fit)
        return _Decoded(name, pixels, str(image.dtype), (low, high))

    def _note(self, image: _Decoded) -> None:
        self.first = self.first or image
        _require_like(self.first, image)
        self.low = min(self.low, image.value_range[0])
        self.high = max(self.high, image.value_range[1])

    def _note_broken(self, row: int, error: DataError) -> None:
        if not self.skip_broken:
            raise DataError(f"{error}; fix it, or skip such images with --skip-broken")
        self.broken.append({"row": row, "id": self.dataset.source.id(row), "reason": str(error)})


def _require_like(first: _Decoded, image: _Decoded) -> None:
    bands = {len(first.pixels), len(image.pixels)}
    if first.source_dtype != image.source_dtype or not (len(bands) == 1 or bands == {1, 3}):
        raise DataError(
            f"images must have the same bands and dtype: {first.id!r} has {len(first.pixels)} of "
            f"{first.source_dtype}, {image.id!r} has {len(image.pixels)} of "
            f"{image.source_dtype}; convert one kind (only grey and colour may be mixed)"
        )
