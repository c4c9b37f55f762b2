"""Pairs of dates cut from two scenes of one place, with labels of what changed.

The second scene may have any grid: each of its windows is warped onto those of the first when it is
read. Labels lie on the first, as for windows of one date.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.change_masks import UNCHANGED, PairImages, covers_of
from tailora.data.dataset import Dataset
from tailora.data.masks import IGNORED
from tailora.data.rasters.values import fill_gaps
from tailora.data.readers.pairs import assemble_changes
from tailora.data.scenes.chips import SceneChips, scene_facts
from tailora.data.scenes.dataset import Chips
from tailora.data.scenes.scene import Scene, open_scene
from tailora.data.scenes.scene_files import SceneFiles, labels_of
from tailora.data.scenes.warped import Coverage, WarpedScene, warped_onto
from tailora.data.scenes.windows import WINDOW, open_scene_windows, pixel_labels
from tailora.data.sources import SelectedImages
from tailora.data.star_pairs import pair_up
from tailora.data.targets import Targets
from tailora.errors import ConfigError, DataError
from tailora.numbers import counted
from tailora.transitions import ARROW, CHANGE, NO_CHANGE

_ARROWS: Final = (ARROW, "->", "→")
_FIELDS: Final = " / "  # between the values of two fields
_BOTH: Final = 2


def open_date_windows(
    scenes: Sequence[SceneFiles],
    chips: Chips | None = None,
    *,
    name: str,
    seed: int = 0,
    to_learn: bool = True,
) -> Dataset:
    """Cut windows of two dates whose classes are transitions; of one date, make pairs (`pair_up`).

    Labels name transitions (`forest → mine`, `forest -> mine`, or the two fields of `class_field`),
    `change` or `no change`; a raster without names has 0 for no change and one other value. Or they
    are land cover of the first date, and `labels_after` that of the second. Splits are those of
    `open_scene_windows`.

    Args:
        scenes: At least one; all with a second date, or none.
        chips: How windows are cut.
        name: Name of the dataset.
        seed: Seeds the assignment of blocks.
        to_learn: See `open_scene_windows`.

    Raises:
        DataError: Scenes of a pair have other bands or values, or share less than 1 % of the ground
            of the first; a label is no transition; nothing changed, or nothing stays; or as for
            `open_scene_windows`.
        ConfigError: An option is out of range, or does not fit two dates.
    """
    if not any(one.after or one.labels_after for one in scenes):
        return pair_up(
            open_scene_windows(scenes, chips, name=name, seed=seed, to_learn=to_learn), seed=seed
        )
    _check_options(scenes)
    how = chips or Chips(chip=WINDOW)
    firsts = [replace(one, after=(), labels_after=None) for one in scenes]
    data = open_scene_windows(firsts, how, name=name, seed=seed, to_learn=to_learn)
    source, targets = data.source, data.targets
    assert isinstance(source, SceneChips)
    assert targets is not None
    seconds = [_second(*pair) for pair in zip(scenes, source.scenes, strict=True)]
    later = _Later(source, seconds)
    names, meaning, cover = _meaning(scenes, source.scenes, data.classes, how.outside)
    kept = np.array([i for i in range(len(data)) if later.valid(i).mean() >= 1 - how.most_nodata])
    if not len(kept):
        raise DataError(
            f"no window of {name!r} has data at the second date; give two scenes of one place, or "
            "check nodata"
        )
    notes = [*data.notes, *(note for one in seconds for note in (*one.scene.notes, *_warp(one)))]
    if len(kept) < len(data):
        gone = counted(len(data) - len(kept), "window")
        notes.append(f"left out, with too few pixels with data at the second date: {gone}")
    groups = None if data.groups is None else data.groups[kept].tolist()
    made = assemble_changes(
        name,
        PairImages(SelectedImages(source, kept), SelectedImages(later, kept)),
        _Masks(targets, later, kept, meaning, cover),
        names,
        splits=data.splits[kept].tolist(), groups=groups, seed=seed, to_learn=to_learn,
        notes=tuple(dict.fromkeys(notes)),
    )  # fmt: skip
    return replace(made, bands=data.bands, wavelengths=data.wavelengths)


@final
class _Later:
    """Windows of the second date, on the pixels of the first."""

    def __init__(self, source: SceneChips, seconds: Sequence[WarpedScene]) -> None:
        self.source, self.seconds = source, seconds
        self._marks = [scene_facts(one.scene, source.chip) for one in seconds]
        self._valid = Coverage(lambda i: self._read(i)[1])

    def __len__(self) -> int:
        return len(self.source)

    def window(self, i: int) -> tuple[int, int, int, int]:
        """Row, column, height and width of window `i`."""
        places, chip = self.source.places, self.source.chip
        half = chip // 2
        return int(places.rows[i]) - half, int(places.columns[i]) - half, chip, chip

    def valid(self, i: int) -> NDArray[np.bool_]:
        """Return which pixels of window `i` have data."""
        return self._valid(i)

    def read(self, i: int) -> NDArray[Any]:
        """Read window `i`; gaps get the mean of the others of the band."""
        values, valid = self._read(i)
        return fill_gaps(values, np.broadcast_to(~valid, values.shape))

    def id(self, i: int) -> str:
        return self.source.id(i)

    def mark(self, i: int) -> tuple[int, int]:
        return self._marks[self.source.places.scenes[i]]

    def _read(self, i: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        return self.seconds[self.source.places.scenes[i]].read(*self.window(i))


class _SecondCover:
    """Land cover of the second date by its own labels, numbered as that of the first."""

    def __init__(
        self, scenes: Sequence[SceneFiles], opened: Sequence[Scene], outside: str | None
    ) -> None:
        own = [replace(one, labels=one.labels_after or one.labels) for one in scenes]
        laid, self.classes, _ = pixel_labels(opened, labels_of(own, opened), outside)
        self.laid = {one.number: one for one in laid}
        self.numbers = np.zeros(0, dtype=np.int64)

    def number(self, names: Sequence[str]) -> None:
        """Give the classes the numbers of land cover, from 1."""
        known = [names.index(name) + 1 for name in self.classes]
        self.numbers = np.array([*known, IGNORED], dtype=np.int64)  # -1 takes the last

    def on(self, scene: int, window: tuple[int, int, int, int]) -> NDArray[np.int64]:
        """Land cover of a window, `IGNORED` for none."""
        if scene not in self.laid:
            return np.full(window[2:], IGNORED, dtype=np.int64)
        return self.numbers[self.laid[scene].on(*window)[0]]


@final
class _Masks:
    def __init__(
        self,
        targets: Targets,
        later: _Later,
        kept: NDArray[np.int64],
        meaning: NDArray[np.int64],
        second: _SecondCover | None,
    ) -> None:
        self.targets, self.later, self.kept = targets, later, kept
        self.meaning, self.second = meaning, second
        self._marks: dict[int, tuple[int, int]] = {}  # labels are laid for each
        self.one_at_a_time = Lock()  # laying and warping silence warnings, which threads share

    def __len__(self) -> int:
        return len(self.kept)

    def covers(self, i: int) -> NDArray[np.int16] | None:
        row = int(self.kept[i])
        with self.one_at_a_time:
            own = self.targets.read(row)
            if own is None:
                return None
            first, second = np.moveaxis(self.meaning[own], -1, 0)
            if self.second is not None:
                scene = int(self.later.source.places.scenes[row])
                second = self.second.on(scene, self.later.window(row))
            valid = self.later.valid(row)
        found = np.where(valid, np.stack([first, second]), IGNORED).astype(np.int16)
        if i not in self._marks:
            self._marks[i] = found.nbytes, zlib.crc32(found.tobytes())
        return found

    def mark(self, i: int) -> tuple[int, int]:
        if i not in self._marks and self.covers(i) is None:
            return 0, 0
        return self._marks[i]


def _check_options(scenes: Sequence[SceneFiles]) -> None:
    if not all(one.after for one in scenes):
        raise ConfigError(
            "some scenes have no second date (after): give one to all, or to none to make pairs of "
            "dates from labels of one"
        )
    if len({one.labels_after is None for one in scenes}) > 1:
        raise ConfigError("labels_after is missing for some scenes; give it to all, or to none")
    if any(one.rater_field is not None for one in scenes):
        raise ConfigError("rater_field does not apply to labels of two dates; leave it out")


def _second(one: SceneFiles, first: Scene) -> WarpedScene:
    """Open the second date, and bring it to the pixels of the first."""
    scene = open_scene(
        one.after, bands=one.bands, band_names=one.band_names, sensor=one.sensor,
        nodata=one.nodata, resampling=one.resampling, alpha=one.alpha,
    )  # fmt: skip
    own, found = ((len(of.bands), of.names, of.dtype) for of in (first, scene))
    if own != found:
        raise DataError(
            f"{scene.name!r} has other bands than {first.name!r}: {_said(scene)}, not "
            f'{_said(first)}; choose the common ones with bands = ["..."], or convert one'
        )
    return warped_onto(first, scene)


def _said(scene: Scene) -> str:
    names = f" ({', '.join(scene.names)})" if scene.names else ""
    return f"{counted(len(scene.bands), 'band')}{names} of {scene.dtype}"


def _warp(second: WarpedScene) -> tuple[str, ...]:
    own, grid = second.scene.grid, second.grid
    if own.offset_in(grid) is not None:
        return ()
    sides = (f"pixels of {one.pixel[0]:g} in {one.crs.to_string()}" for one in (own, grid))
    return (f"second date {second.name!r} is warped: from {' to '.join(sides)}",)


def _meaning(
    scenes: Sequence[SceneFiles],
    opened: Sequence[Scene],
    classes: Sequence[str],
    outside: str | None,
) -> tuple[tuple[str, ...], NDArray[np.int64], _SecondCover | None]:
    """Names of land cover, its number before and after by class of the labels, and its own labels.

    The last row is that of pixels without a class.
    """
    if scenes[0].labels_after is not None:
        second = _SecondCover(scenes, opened, outside)
        names = covers_of([*classes, *second.classes])
        second.number(names)
        number = [names.index(name) + 1 for name in classes]
        return names, np.array([[n, n] for n in (*number, IGNORED)], dtype=np.int64), second
    two_fields = (scenes[0].class_field or "").count(",") == 1
    of_values = _binary_values(classes)
    pairs = [of_values.get(name) or _transition(name, two_fields=two_fields) for name in classes]
    if all(before != after or before == CHANGE for before, after in pairs):
        raise DataError(
            f"labels {str(scenes[0].labels)!r} name only what changed, and nothing that stayed; if "
            f"all that changed is drawn, add --outside '{NO_CHANGE}'"
        )
    names = covers_of([cover for pair in pairs for cover in pair])
    if CHANGE in names:
        if len(names) > 1:
            raise DataError(
                f"labels {str(scenes[0].labels)!r} name both transitions and {CHANGE!r}; name the "
                f"transition of each change, or call all {CHANGE!r}"
            )
        return (
            (),
            np.array([[int(one == CHANGE)] * _BOTH for one, _ in pairs] + [[IGNORED] * _BOTH]),
            None,
        )
    number = {UNCHANGED: 0, **{cover: n for n, cover in enumerate(names, start=1)}}
    rows = [[number[cover] for cover in pair] for pair in pairs]
    return names, np.array([*rows, [IGNORED] * _BOTH], dtype=np.int64), None


def _binary_values(classes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """What the values of a mask of change mean that has no names: 0, and one other."""
    others = [name for name in classes if name != "0"]
    if len(classes) != _BOTH or len(others) != 1 or not others[0].isdecimal():
        return {}
    return {"0": (UNCHANGED, UNCHANGED), others[0]: (CHANGE, CHANGE)}


def _transition(name: str, *, two_fields: bool) -> tuple[str, str]:
    """Land cover before and after in the name of a class."""
    if name in (NO_CHANGE, UNCHANGED):
        return UNCHANGED, UNCHANGED
    if name == CHANGE:
        return CHANGE, CHANGE
    for arrow in (_FIELDS,) if two_fields else _ARROWS:
        parts = [part.strip() for part in name.split(arrow)]
        if len(parts) == _BOTH and all(parts):
            return parts[0], parts[1]
    raise DataError(
        f"label {name!r} is no transition such as 'forest → mine', nor {CHANGE!r} or "
        f"{NO_CHANGE!r}; name both land covers in two fields (--class-field from,to), or give "
        "the land cover of the second date as labels_after"
    )
