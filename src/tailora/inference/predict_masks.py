"""Predict a class for every pixel of image files with a segmentation run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tailora.class_colours import class_colours
from tailora.data import resize
from tailora.data.images import EXTENSIONS
from tailora.data.masks import IGNORE
from tailora.errors import ConfigError, DataError
from tailora.heads.pulaski import PulaskiHead
from tailora.inference.map_scenes import drawn_shares, part_shares
from tailora.inference.maps.blend import Blend
from tailora.inference.maps.chip_grid import ChipGrid
from tailora.inference.maps.chip_reader import whole
from tailora.inference.maps.scene_map import label_dtype
from tailora.inference.predict import image_files, read_or_skip
from tailora.methods.scoring import csv_text
from tailora.progress import Progress, silent
from tailora.runs.run import Run
from tailora.storage import guard_disk, write_atomically, write_text

CLASS_TABLE: Final = "classes.csv"


@final
@dataclass(frozen=True)
class PredictedMasks:
    """Masks that were written.

    Attributes:
        files: A PNG for each image.
        pixels: Number of pixels of each class, by name.
        broken: Images skipped with `skip_broken`.
    """

    files: list[Path]
    pixels: dict[str, int]
    broken: list[str]


def predict_masks(
    run: Run,
    paths: Sequence[Path],
    out: Path,
    *,
    draws: int = 0,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> PredictedMasks:
    """Write a mask for each image, of its size and name: PNG with values from 1.

    With `draws`, masks that the head draws are beside it, in folders `draw_1` and so on. The folder
    gets a class table too, so that it can be read as masks. An image larger than the windows of
    training is covered by such windows, blended as in a map.

    Args:
        run: From `load_run`, of a task with a class for every pixel.
        paths: Files, or folders that are searched for images.
        out: Folder; made if it does not exist.
        draws: Masks that the head draws of each image too, see `PulaskiHead`.
        skip_broken: Skip unreadable images instead of stopping.
        progress: Shows progress.

    Raises:
        DataError: No image, an unreadable one, or one of another type than the training images.
        ConfigError: Two images would have the same mask, a mask would replace an image, or the head
            does not draw so many masks.
    """
    _check_draws(run, draws)
    dtype = label_dtype(len(run.classes))
    files = [pair for path in paths for pair in _named(path)]
    if not files:
        raise DataError(
            f"no images in {[str(p) for p in paths]}; give {', '.join(EXTENSIONS)} files"
        )
    targets = [out / name for _, name in files]
    _check(files, targets)
    totals = np.zeros(len(run.classes), dtype=np.int64)
    written: list[Path] = []
    broken: list[str] = []
    with progress("predicting", len(files)) as advance:
        for (path, _), target in zip(files, targets, strict=True):
            image = read_or_skip(run, path, skip_broken=skip_broken)
            advance(1)
            if image is None:
                broken.append(str(path))
                continue
            mask = pixel_classes(run, image)
            totals += np.bincount(mask.ravel(), minlength=len(totals))
            write_mask(target, (mask + 1).astype(dtype), run.class_names)
            written.append(target)
            for k, drawn in enumerate(drawn_classes(run, image, draws), 1):
                beside = out / f"draw_{k}" / target.relative_to(out)
                write_mask(beside, (drawn + 1).astype(dtype), run.class_names)
    if not written:
        raise DataError(f"no image of {len(files)} can be read, e.g. {broken[0]!r}")
    lines = [["value", "name"], ["0", IGNORE]]
    lines += [[str(c), name] for c, name in enumerate(run.class_names, 1)]
    write_text(out / CLASS_TABLE, csv_text(lines))
    return PredictedMasks(written, dict(zip(run.class_names, totals.tolist(), strict=True)), broken)


def pixel_classes(run: Run, image: NDArray[Any]) -> NDArray[np.int64]:
    """Class index of every pixel (rows, columns) of an image in the run's bands."""

    def said(windows: torch.Tensor, chip: int) -> NDArray[np.float32]:
        return part_shares(run, windows, chip, raw=True)

    return blended(run, image, said, len(run.classes)).argmax(axis=-1)


def drawn_classes(run: Run, image: NDArray[Any], draws: int) -> NDArray[np.int64]:
    """Class index of every pixel (draws, rows, columns) in each of the masks that a head draws.

    Neighbouring windows of a large image are drawn alike, see `PulaskiHead.noise`.
    """
    if not draws:
        return np.zeros((0, *image.shape[1:]), dtype=np.int64)

    def said(windows: torch.Tensor, chip: int) -> NDArray[np.float32]:
        return drawn_shares(run, windows, chip, draws).reshape(len(windows), chip, chip, -1)

    found = blended(run, image, said, draws * len(run.classes))
    return np.moveaxis(found.reshape(*image.shape[1:], draws, -1).argmax(axis=-1), -1, 0)


def _check_draws(run: Run, draws: int) -> None:
    head = run.model.head
    if draws and not isinstance(head, PulaskiHead):
        raise ConfigError(
            "the head of this run draws no masks; leave out --draws, or fit it with --probe pulaski"
        )
    if isinstance(head, PulaskiHead) and not 0 <= draws <= len(head.noise):
        raise ConfigError(f"--draws must be from 0 to {len(head.noise)}, got {draws}")


def blended(
    run: Run,
    image: NDArray[Any],
    said: Callable[[torch.Tensor, int], NDArray[np.float32]],
    width: int,
) -> NDArray[np.float32]:
    """Probabilities at every pixel of an image, from windows of the side of those of training.

    Args:
        run: From `load_run`.
        image: (bands, rows, columns).
        said: Takes windows of the run's size (windows, bands, size, size) and their side in pixels
            of the image; gives (windows, side, side, width).
        width: Probabilities of a pixel.

    Returns:
        (rows, columns, width).
    """
    shape = image.shape[1:]
    chip = run.record.dataset.chip or min(shape)
    grid = ChipGrid((shape[0], shape[1]), chip, max(1, chip // 2), chip)
    blend, rows = Blend(grid, width), []
    for strip in grid.strips():
        for block in strip:
            starts = [
                (int(top), int(left))
                for top in grid.rows.starts[block.i0 : block.i1]
                for left in grid.columns.starts[block.j0 : block.j1]
            ]
            windows = [
                resize(
                    whole(image[:, top : top + chip, left : left + chip], chip),
                    run.input.image_size,
                    fit=run.input.resize,
                )
                for top, left in starts
            ]
            shares = said(torch.from_numpy(np.stack(windows)), chip)
            (top, bottom), (left, right) = (
                grid.rows.own(block.i0, block.i1),
                grid.columns.own(block.j0, block.j1),
            )
            usable = np.ones((block.i1 - block.i0, block.j1 - block.j0), dtype=bool)
            blend.add(block, shares, usable, np.ones((bottom - top, right - left), dtype=bool))
        rows.append(blend.take(strip[0].i1)[0])
    return np.concatenate(rows)


def _named(path: Path) -> list[tuple[Path, str]]:
    """Images of a file or folder, and the name of the mask of each, below the folder of masks."""
    folder = path if path.is_dir() else path.parent
    return [
        (file, file.relative_to(folder).with_suffix(".png").as_posix())
        for file in image_files([path])
    ]


def _check(files: Sequence[tuple[Path, str]], targets: Sequence[Path]) -> None:
    images = {path.resolve() for path, _ in files}
    seen: dict[Path, Path] = {}
    for (path, _), target in zip(files, targets, strict=True):
        if target in seen:
            raise ConfigError(
                f"{str(seen[target])!r} and {str(path)!r} would have the same mask "
                f"{str(target)!r}; predict them into different folders"
            )
        if target.resolve() in images:
            raise ConfigError(
                f"the mask {str(target)!r} would replace an image; choose another --out"
            )
        seen[target] = path


def write_mask(path: Path, values: NDArray[Any], names: Sequence[str]) -> None:
    """Write values as PNG, in the colours of maps if they fit into 8 bits.

    Args:
        path: File to write.
        values: 0 for none, from 1 in the order of `names`, and others in black (rows, columns).
        names: What they are.
    """
    image = Image.fromarray(values)
    if values.dtype == np.uint8:
        image = image.convert("P")  # of equal values, since no palette is there yet
        palette = [0, 0, 0, *(part for colour in class_colours(names) for part in colour)]
        if values.max(initial=0) > len(names):
            palette += [0] * (3 * 256 - len(palette))
        image.putpalette(palette)
    with guard_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda temporary: image.save(temporary, format="PNG"))
