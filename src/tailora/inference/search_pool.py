"""What a search looks through: images, or windows of a scene."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.config.recipe import DataOptions
from tailora.data import Dataset, FileImages, open_dataset
from tailora.data.bands.names import name_in
from tailora.data.images import EXTENSIONS
from tailora.data.readers.published import recognise
from tailora.data.readers.visible_files import visible_entries, visible_files
from tailora.data.scenes.chips import scene_facts
from tailora.data.scenes.dataset import LARGEST_CHIP, Chips
from tailora.data.scenes.scene import SCENE_EXTENSIONS, Scene, open_scene
from tailora.data.sources import ImageSource, SelectedImages, file_path
from tailora.errors import ConfigError, DataError
from tailora.inference.maps.chip_grid import LEAST_CHIP, Block, ChipGrid
from tailora.inference.maps.chip_reader import ChipReader, ahead
from tailora.inference.scene_inputs import SceneOptions, find_scenes, open_for
from tailora.methods.band_choice import with_band_names
from tailora.methods.names import check_names

if TYPE_CHECKING:  # importing a run takes seconds, most of them for PEFT
    from tailora.runs.run import Run

Prepare = Callable[[NDArray[Any], str], NDArray[Any]]
"""Makes an image (bands, height, width) the input of a model; the text names it in messages."""

FEATURES: Final = "tailora-features"
"""Folder that keeps features, beside what is written."""

_AT_ONCE: Final = 64  # images


@final
class SceneWindows:
    """Windows of a scene, row by row.

    Args:
        scene: The scene.
        grid: Their places.
    """

    def __init__(self, scene: Scene, grid: ChipGrid) -> None:
        self.scene, self.grid = scene, grid

    def __len__(self) -> int:
        return len(self.grid)

    def read(self, i: int) -> NDArray[Any]:
        """Read window `i` (bands, chip, chip); pixels without data get the mean of their band.

        Raises:
            DataError: It cannot be read, or most of it is without data.
        """
        row, column = divmod(i, len(self.grid.columns.starts))
        block = Block(row, row + 1, column, column + 1)
        found = ChipReader(self.scene, self.grid, lambda chip: chip).read(block)
        if found.images is None:
            raise DataError(f"most of window {self.id(i)!r} is without data")
        return found.images[0]

    def id(self, i: int) -> str:
        """Return the centre, e.g. `row00812-column03311`."""
        top, left, _, _ = self.box(i)
        row, column = top + self.grid.chip // 2, left + self.grid.chip // 2
        return f"row{row:05d}-column{column:05d}"

    def mark(self, _i: int) -> tuple[int, int]:
        """Return size and checksum of the scene's files and of how they are read."""
        return self._facts

    def bounds(self, i: int) -> tuple[float, float, float, float]:
        """Return west, south, east and north of window `i` in the CRS of the scene."""
        row, column, _, _ = self.box(i)
        return self.scene.grid.window(row, column, self.grid.chip, self.grid.chip).bounds

    def box(self, i: int) -> tuple[int, int, int, int]:
        """Return the rows and columns of window `i`: first row and column, and those after."""
        down, across = divmod(i, len(self.grid.columns.starts))
        row = int(self.grid.rows.starts[down])
        column = int(self.grid.columns.starts[across])
        return row, column, row + self.grid.chip, column + self.grid.chip

    def overlapping(self, box: tuple[int, int, int, int]) -> tuple[slice, slice]:
        """Return the windows that overlap a box of pixels, as rows and columns of the grid."""
        chip, (top, left, bottom, right) = self.grid.chip, box
        rows, columns = (
            slice(*np.searchsorted(axis.starts, [first - chip + 1, last]).tolist())
            for axis, first, last in (
                (self.grid.rows, top, bottom),
                (self.grid.columns, left, right),
            )
        )
        return rows, columns

    @cached_property
    def _facts(self) -> tuple[int, int]:
        return scene_facts(self.scene, self.grid.chip)


@final
@dataclass(frozen=True, eq=False)
class Pool:
    """Images that are searched.

    Args:
        name: For messages.
        source: Reads them.
        mark: Changes whenever an image does.
        bands: Names of their bands, if known.
        wavelengths: Centre of each band in micrometres, if all are known.
        labels: Class index of each (images,), negative if unknown; None without labels.
        classes: Class names.
        notes: How the images are read.
        data: The dataset that they are from, unless they are windows of a scene.
    """

    name: str
    source: ImageSource
    mark: str
    bands: tuple[str, ...] | None = None
    wavelengths: tuple[float, ...] | None = None
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    data: Dataset | None = None

    @property
    def windows(self) -> SceneWindows | None:
        """The source, if a scene is searched."""
        return self.source if isinstance(self.source, SceneWindows) else None

    @cached_property
    def rows(self) -> dict[str, int]:
        """Number of each image by its id."""
        return {self.source.id(i): i for i in range(len(self.source))}

    @cached_property
    def files(self) -> dict[Path, int]:
        """Number of each image that has a file of its own, by the resolved path."""
        paths = ((file_path(self.source, i), i) for i in range(len(self.source)))
        return {path.resolve(): i for path, i in paths if path is not None}

    def label(self, row: int) -> str | None:
        """Class of an image, if known."""
        if self.labels is None or self.labels[row] < 0:
            return None
        return self.classes[self.labels[row]]

    def some(self, most: int) -> Dataset:
        """Return evenly spaced images as a dataset for statistics of their pixels."""
        count = min(most, len(self.source))
        rows = np.linspace(0, len(self.source) - 1, count).round().astype(np.int64)
        return Dataset(
            self.name, SelectedImages(self.source, rows), np.zeros(count, dtype=np.int64),
            ("searched",), np.full(count, "train"), to_learn=False,
            bands=self.bands, wavelengths=self.wavelengths,
        )  # fmt: skip

    def read(
        self, prepare: Prepare, *, skip_broken: bool
    ) -> Iterator[tuple[int, NDArray[np.int64], NDArray[Any]]]:
        """Read all images in groups, while threads read the next ones.

        Args:
            prepare: Makes them the input of a model.
            skip_broken: Leave out unreadable images, instead of stopping.

        Returns:
            Images of each group, the numbers (images,) of those that can be used, and the images
            (images, bands, size, size).

        Raises:
            DataError: An image cannot be read or prepared.
        """
        if self.windows is not None:
            yield from _read_windows(self.windows, prepare, skip_broken=skip_broken)
            return

        def read(start: int) -> tuple[int, NDArray[np.int64], NDArray[Any]]:
            rows, images = [], []
            end = min(start + _AT_ONCE, len(self.source))
            for row in range(start, end):
                try:
                    what = f"image {self.source.id(row)!r}"
                    images.append(prepare(self.source.read(row), what))
                    rows.append(row)
                except DataError as error:
                    if not skip_broken:
                        raise DataError(f"{error}; --skip-broken skips such images") from error
            return end - start, np.array(rows, dtype=np.int64), np.array(images)

        yield from ahead(read, range(0, len(self.source), _AT_ONCE))


def _read_windows(
    windows: SceneWindows, prepare: Prepare, *, skip_broken: bool
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[Any]]]:
    what, columns = f"scene {windows.scene.name!r}", len(windows.grid.columns.starts)
    reader = ChipReader(
        windows.scene, windows.grid, lambda chip: prepare(chip, what), skip_broken=skip_broken
    )
    blocks = [block for strip in windows.grid.strips() for block in strip]
    for found in ahead(reader.read, blocks):
        i, j = np.nonzero(found.usable)
        rows = (i + found.block.i0) * columns + j + found.block.j0
        yield found.usable.size, rows, np.array([]) if found.images is None else found.images


def open_pool(
    source: str | Path | Dataset,
    run: "Run | None",
    options: DataOptions,
    *,
    seed: int = 0,
    chip: int | None = None,
    step: int | None = None,
    overlap: bool = True,
) -> Pool:
    """Open a dataset, a folder of images or a scene to search.

    Args:
        source: Dataset, or what `open_dataset` takes; a folder with images directly in it is
            searched at any depth; a raster, or a folder of rasters named after bands, is a scene.
        run: Says which bands of a scene are read; None reads all.
        options: How bands are named.
        seed: Of a built-in dataset.
        chip: Pixels per side of the windows of a scene; None uses that of the run, else 64.
        step: Stride between windows; None means half a window, or a whole one.
        overlap: Whether windows overlap if no stride is given.

    Raises:
        DataError: There is nothing to search, or it cannot be opened.
        ConfigError: A window size or stride out of range, or for images that have none.
    """
    files = None if isinstance(source, Dataset) else _scene_files(Path(source))
    if files is not None:
        return _scene_pool(files, run, options, chip, step, overlap=overlap)
    for option, value in (("--chip", chip), ("--step", step)):
        if value is not None:
            raise ConfigError(f"{option} is for windows of a scene: leave it out")
    images = None if isinstance(source, Dataset) else _loose_images(Path(source))
    if images is not None:
        data, labelled = images, False
    else:
        opened = (
            source
            if isinstance(source, Dataset)
            else open_dataset(source, seed=seed, to_learn=False)
        )
        data, labelled = opened, opened.targets is None
    check_names(data)
    named = with_band_names(data, options)
    return Pool(
        data.name, named.source, f"{named.fingerprint} {named.bands}", named.bands,
        named.wavelengths, data.labels if labelled else None, data.classes if labelled else (),
        tuple(note for note in named.notes if note not in data.notes), named,
    )  # fmt: skip


def _scene_files(path: Path) -> list[Path] | None:
    """Return a raster, or a folder of bands, as what `find_scenes` takes."""
    if path.is_file() and path.suffix.lower() in SCENE_EXTENSIONS:
        return [path]
    if path.is_dir():
        inside = [p for p in visible_entries(path) if p.suffix.lower() in SCENE_EXTENSIONS]
        return [path] if sum(bool(name_in(p.stem)) for p in inside) > 1 else None
    return None


def _scene_pool(
    files: list[Path],
    run: "Run | None",
    options: DataOptions,
    chip: int | None,
    step: int | None,
    *,
    overlap: bool,
) -> Pool:
    [(name, bands)] = find_scenes(files)
    if run is not None:
        scene = open_for(run, bands, name, SceneOptions())[0]
    else:
        scene = open_scene(
            bands, name=name, sensor=options.sensor, band_names=options.band_names,
            alpha=options.alpha == "band",
        )  # fmt: skip
    side = chip if chip is not None else (run and run.record.dataset.chip) or Chips().chip
    if not LEAST_CHIP <= side <= LARGEST_CHIP:
        raise ConfigError(f"--chip must lie in [{LEAST_CHIP}, {LARGEST_CHIP}], got {side}")
    stride = max(1, side // 2 if overlap else side) if step is None else step
    grid = ChipGrid(scene.shape, side, stride)
    paths = sorted({band.path for band in scene.bands})
    times = [path.stat().st_mtime_ns for path in paths]  # ends alone miss an edit in between
    facts = repr((scene_facts(scene, side), times, grid.step))
    mark = hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()
    return Pool(
        name, SceneWindows(scene, grid), mark, scene.names, scene.wavelengths, notes=scene.notes
    )


def _loose_images(root: Path) -> Dataset | None:
    """Return images of a folder that has some directly in it, as a dataset without labels."""
    if not root.is_dir() or recognise(root):
        return None
    files = [path for path in visible_files(root) if path.suffix.lower() in EXTENSIONS]
    if not files:
        raise DataError(f"no image ({', '.join(EXTENSIONS)}) in {str(root)!r}; check the path")
    if all(path.parent != root for path in files):
        return None
    ids = [path.relative_to(root).as_posix() for path in files]
    return Dataset(
        root.resolve().name, FileImages(files, ids), np.zeros(len(files), dtype=np.int64),
        ("searched",), np.full(len(files), "test"), to_learn=False,
    )  # fmt: skip
