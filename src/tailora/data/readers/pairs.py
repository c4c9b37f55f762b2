"""Read pairs of images of two dates, with masks of land cover at both or of change."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailora.data.change_masks import (
    SECOND_COLOURS,
    UNCHANGED,
    ChangeFiles,
    ChangeMask,
    PairImages,
    ReadMask,
    TransitionMasks,
    code_names,
    codes,
    covers_of,
    read_coloured,
    read_indexed,
)
from tailora.data.dataset import Dataset, assemble_targets, divided
from tailora.data.images import UNREADABLE
from tailora.data.masks import (
    IGNORED,
    ClassTable,
    read_class_table,
    read_mask,
)
from tailora.data.readers.masks import by_stem, class_table, value_of
from tailora.data.readers.table import TABLE_EXTENSIONS, read_table
from tailora.data.readers.warped_pairs import Warp, WarpedImages, WarpedMasks, warp_of
from tailora.data.sources import FileImages, ImageSource
from tailora.data.splits import split_name
from tailora.errors import DataError
from tailora.numbers import counted, named_list
from tailora.transitions import parse_transitions

LAYOUTS: Final = (
    ("before", "after", "masks_before", "masks_after"),
    ("im1", "im2", "label1", "label2"),  # SECOND
    ("A", "B", "labelA", "labelB"),  # Landsat-SCD
    ("before", "after", "change"),
    ("A", "B", "label"),  # LEVIR-CD and its like
)
"""Folders of both dates, and of their masks or of one mask of change; the first that fits."""
_COLUMNS: Final = (("before", "after", "mask_before", "mask_after"), ("before", "after", "change"))
_BINARY: Final = 3  # folders, or columns, with one mask of change
_THREADS: Final = 4


@final
@dataclass(frozen=True)
class _Pairs:
    ids: list[str]
    images: tuple[list[Path], list[Path]]
    masks: list[tuple[Path, ...]]
    splits: list[str] | None = None
    groups: list[str] | None = None


def open_changes(
    source: str | Path,
    *,
    seed: int = 0,
    to_learn: bool = True,
    classes: str | Path | None = None,
    ignore: int | str | None = None,
) -> Dataset:
    """Open pairs of images with masks, whose classes are transitions of land cover.

    Args:
        source: A folder with one of `LAYOUTS`, whose files have equal stems, or with such folders
            in `train`, `val` and `test`; or a CSV or Parquet table with columns `before`, `after`
            and `mask_before`, `mask_after` or `change`, and optionally `split` and `group`.
        seed: Seeds missing splits.
        to_learn: False for data only used for evaluation; see `Dataset`.
        classes: Class table of masks of values; None takes `classes.csv` or `classes.txt` beside
            the images. Masks of colours have those of SECOND.
        ignore: Value of pixels that have no class, besides those that the table calls `ignore`.

    Second dates on another grid are warped onto the first, if both say where they lie.

    Raises:
        DataError: The layout is another one, an image has no partner or mask, sizes differ, dates
            share less than 1 % of the ground of the first, a mask has values or colours without a
            name, or an error of `tailora.data.check`.
        ConfigError: An option has a wrong value.
    """
    path = Path(source)
    if path.is_dir():
        found = _from_folder(path)
    elif path.suffix.lower() in TABLE_EXTENSIONS and path.is_file():
        found = _from_table(path)
    else:
        raise DataError(
            f"no folder or table ({', '.join(TABLE_EXTENSIONS)}) of pairs: {str(path)!r}"
        )
    warps = _warps(found)
    ignored = [] if ignore is None else [value_of(ignore)]
    folder = path if path.is_dir() else path.parent
    names, read = _reader(folder, found.masks, classes, ignored)
    first, second = (FileImages(images, found.ids) for images in found.images)
    masks, notes = ChangeFiles(found.masks, read), ()
    if warps:
        second, masks = WarpedImages(second, warps), WarpedMasks(masks, warps)
        notes = (f"second dates warped onto the grid of the first: {counted(len(warps), 'pair')}",)
    return assemble_changes(
        path.resolve().stem if path.is_file() else path.resolve().name,
        PairImages(first, second), masks, names,
        splits=found.splits, groups=found.groups, seed=seed, notes=notes, to_learn=to_learn,
    )  # fmt: skip


def assemble_changes(
    name: str,
    source: ImageSource,
    masks: ChangeMask,
    names: Sequence[str],
    *,
    splits: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    notes: tuple[str, ...] = (),
    to_learn: bool = True,
) -> Dataset:
    """Build a data set of pairs whose classes are the transitions that occur, and their inverses.

    Args:
        name: What to call it.
        source: Reads pairs.
        masks: Land cover of each pair.
        names: Names of land cover, from 1; empty for masks of change.
        splits: Of each pair; None divides pairs, or whole groups, 70 : 10 : 20.
        groups: Group of each pair.
        seed: Decides the division.
        notes: What to know about the data.
        to_learn: False for data that are only measured on.

    Raises:
        DataError: Nothing changed in any pair, or an error of `tailora.data.check`.
    """

    def count(i: int) -> tuple[NDArray[np.int64], int, bool]:
        covers = masks.covers(i)
        if covers is None:
            return np.zeros(len(labels), dtype=np.int64), 0, False
        code = codes(covers, names)
        odd = int(((covers[0] == 0) != (covers[1] == 0))[(covers >= 0).all(axis=0)].sum())
        return np.bincount(code[code >= 0], minlength=len(labels)), odd, not (code >= 0).any()

    labels = code_names(names)
    with ThreadPoolExecutor(_THREADS) as pool:
        counted_pairs = list(pool.map(count, range(len(masks))))
    pixels = np.stack([one for one, _, _ in counted_pairs])
    odd = sum(n for _, n, _ in counted_pairs)
    empty = sum(nothing for _, _, nothing in counted_pairs)
    both = pixels + pixels[:, parse_transitions(labels).inverse]
    if not both[:, parse_transitions(labels).changed].any():
        raise DataError(f"nothing changed in any pair of {name!r}; check its masks")
    own = None if groups is None else np.array(groups, dtype=np.str_)
    if splits is not None:
        sides = np.array(splits, dtype=np.str_)
    else:
        sides = divided(both, own, seed) if to_learn else np.full(len(both), "test")
    kept = both.any(axis=0)
    told = [*notes, *_unlabelled(odd, empty)]
    if to_learn:
        on_both = both[sides == "train"].any(axis=0) & both[sides == "test"].any(axis=0)
        rare = [labels[code] for code in np.flatnonzero(kept & ~on_both)]
        kept &= on_both
        if rare:
            told.append(f"not in training and test, so not labelled: {named_list(rare)}")
    used = np.flatnonzero(kept)
    chosen = [labels[code] for code in used]
    return assemble_targets(
        name, source, TransitionMasks(masks, names, chosen, both[:, used]), classes=chosen,
        splits=sides.tolist(), groups=groups, seed=seed, notes=tuple(told), to_learn=to_learn,
        dates=2,
    )  # fmt: skip


def _unlabelled(odd: int, empty: int) -> Iterator[str]:
    """Say how many pixels only one date calls unchanged, and how many pairs have no class."""
    if odd:
        yield f"called unchanged at one date alone, so not labelled: {counted(odd, 'pixel')}"
    if empty:
        yield f"no pixel has a class at both dates, so not labelled: {counted(empty, 'pair')}"


def _from_folder(root: Path) -> _Pairs:
    layout = _layout(root)
    if layout is not None:
        return _of_layout(root, layout)
    sides = {
        folder: split
        for folder in sorted(root.iterdir())
        if folder.is_dir() and (split := split_name(folder.name))
    }
    parts = [(folder, split, _layout(folder)) for folder, split in sides.items()]
    found = [
        (folder, split, _of_layout(folder, layout)) for folder, split, layout in parts if layout
    ]
    if not found:
        raise DataError(
            f"{str(root)!r} has no folders of pairs; put images of both dates, with equal names, "
            f"and their masks into {' or '.join(', '.join(one) for one in LAYOUTS[::3])}, or "
            "images of one date and their masks into images, masks"
        )
    if len({len(pairs.masks[0]) for _, _, pairs in found}) > 1:
        raise DataError(f"the splits of {str(root)!r} have unlike masks; use one layout for all")
    return _Pairs(
        [f"{folder.name}/{name}" for folder, _, pairs in found for name in pairs.ids],
        ([p for _, _, one in found for p in one.images[0]],
         [p for _, _, one in found for p in one.images[1]]),
        [masks for _, _, pairs in found for masks in pairs.masks],
        [split for _, split, pairs in found for _ in pairs.ids],
    )  # fmt: skip


def pairs_of_images(root: Path) -> tuple[FileImages, WarpedImages]:
    """Open the images of both dates in a folder, without masks; ids are their stems.

    Second dates on another grid are warped onto the first, if both say where they lie.

    Raises:
        DataError: There are no folders of both dates, an image has no partner, or dates of other
            sizes say nothing about where they lie, or share less than 1 % of the ground.
    """
    for layout in dict.fromkeys(one[:2] for one in LAYOUTS):
        if all((root / name).is_dir() for name in layout):
            found = _of_layout(root, layout)
            first, second = (FileImages(images, found.ids) for images in found.images)
            return first, WarpedImages(second, _warps(found))
    raise DataError(
        f"{str(root)!r} has no folders before/ and after/; put images of both dates, with equal "
        "names, there"
    )


def _layout(root: Path) -> tuple[str, ...] | None:
    fitting = (one for one in LAYOUTS if all((root / name).is_dir() for name in one))
    return next(fitting, None)


def _of_layout(root: Path, layout: tuple[str, ...]) -> _Pairs:
    files = [by_stem(root / name) for name in layout]
    everywhere = set.intersection(*(set(one) for one in files))
    for name, one in zip(layout, files, strict=True):
        alone = sorted(one.keys() - everywhere)
        if alone:
            lacking = [
                other for other, own in zip(layout, files, strict=True) if alone[0] not in own
            ]
            raise DataError(
                f"{one[alone[0]].name!r} in {str(root / name)!r} has no file of that name in "
                f"{lacking[0]!r} ({counted(len(alone), 'file')} like it); every pair needs "
                f"{', '.join(layout)}"
            )
    stems = sorted(everywhere)
    if not stems:
        raise DataError(f"no images in {str(root / layout[0])!r}; put pairs there")
    return _Pairs(
        stems,
        ([files[0][stem] for stem in stems], [files[1][stem] for stem in stems]),
        [tuple(one[stem] for one in files[2:]) for stem in stems],
    )


def _from_table(path: Path) -> _Pairs:
    try:
        table, columns = read_table(path, _COLUMNS[0]), _COLUMNS[0]
    except DataError:
        try:
            table, columns = read_table(path, _COLUMNS[1]), _COLUMNS[1]
        except DataError as error:
            raise DataError(
                f"{error} (or the columns {', '.join(_COLUMNS[0])}; or image, mask for images of "
                "one date, which pairs are made from)"
            ) from error
    masks = [table.files(column) for column in columns[2:]]
    ids = [
        f"{before} {after}"
        for before, after in zip(table.columns["before"], table.columns["after"], strict=True)
    ]
    if len(set(ids)) < len(ids):
        again = [i for i, name in enumerate(ids) if ids.index(name) < i]
        raise table.error(again, f"lists pair {ids[again[0]]!r} again", "list each pair once")
    return _Pairs(
        ids, (table.files("before"), table.files("after")), list(zip(*masks, strict=True)),
        table.splits(), table.columns.get("group"),
    )  # fmt: skip


def _warps(pairs: _Pairs) -> dict[int, Warp]:
    """Check where the files of all pairs lie; return which second dates must be warped."""
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(warp_of, *pairs.images, pairs.masks))
    return {i: warp for i, warp in enumerate(found) if warp}


def _reader(
    folder: Path,
    masks: Sequence[tuple[Path, ...]],
    classes: str | Path | None,
    ignored: Sequence[int],
) -> tuple[tuple[str, ...], ReadMask]:
    """Names of land cover, and what reads a mask as such."""
    if len(masks[0]) == _BINARY - 2:
        return (), partial(_read_binary, ignored=tuple(ignored))
    if _is_coloured(masks[0][0]):
        return covers_of(tuple(SECOND_COLOURS.values())), partial(
            read_coloured, colours=SECOND_COLOURS
        )
    table = read_class_table(
        class_table(folder, classes, [mask for pair in masks for mask in pair]), ignore=ignored
    )
    return covers_of(table.classes), partial(read_indexed, table=_with_unchanged(table))


def _with_unchanged(table: ClassTable) -> ClassTable:
    """Take 0 for unchanged where the table does not name it."""
    if 0 in table.names or 0 in table.ignored:
        return table
    return ClassTable({0: UNCHANGED, **table.names}, table.ignored, table.source)


def _is_coloured(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.mode in ("RGB", "RGBA")
    except UNREADABLE:
        return False  # read as a mask of values, whose errors say more


def _read_binary(path: Path, *, ignored: Sequence[int]) -> NDArray[np.int16]:
    values = read_mask(path)
    none = (values < 0) | np.isin(values, ignored)
    found = np.unique(values[~none])
    if len(found[found > 0]) > 1:
        raise DataError(
            f"mask {str(path)!r} has values {', '.join(map(str, found.tolist()[:5]))}; a mask of "
            "change has 0 and one other, besides --ignore VALUE"
        )
    return np.where(none, IGNORED, values > 0).astype(np.int16)
