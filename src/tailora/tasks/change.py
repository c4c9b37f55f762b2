"""Change: what changed between two images of a place, from what and into what.

A class is a transition of land cover, or what stays; one decision is a token of both dates. Its
features are those of both dates and how far they differ. Every pair counts in both orders, with the
inverse transitions: what is learnt, and said, does not depend on which date is called the first.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import DataError
from tailora.tasks.ground_maps import ground_maps
from tailora.tasks.segmentation import (
    Segmentation,
    pixel_logits,
    true_classes,
)
from tailora.tasks.task import Measured
from tailora.tasks.tokens import token_encoder
from tailora.tasks.worst_windows import worst_windows
from tailora.transitions import Transitions, parse_transitions

if TYPE_CHECKING:
    from torch import Tensor

    from tailora.backbones import AnyEncoder
    from tailora.data import Dataset
    from tailora.decisions import Decisions
    from tailora.metrics import RunMetrics
    from tailora.metrics.change import Dates
    from tailora.metrics.places import Places
    from tailora.report.blocks import Section
    from tailora.runs.result import RunResult

DIRECT_HEAD: Final = "factored"
"""Usual head, which learns transitions."""
POST_CLASSIFICATION: Final = "post-classification"
"""Head that classifies each date by itself, and compares."""
_ORDERS: Final = 2  # of the dates
_OF_ONE_DATE: Final = ("bluemarble-dense",)  # built in, with masks
_PARTS: Final = 3  # of the features: both dates, and how far they differ


@final
class Change(Segmentation):
    """Decide which transition each pixel of a pair of images went through."""

    name = "change"
    title = "change"
    summary = "what changed between two images, from what and into what, from pairs with masks"
    per_pixel = False
    pooling = "mean"
    transitions = True
    defaults = MappingProxyType({"probe.loss": DIRECT_HEAD})
    scored = (
        "the class of tokens, in both orders of their dates; scores of pixels are SeK and others"
    )
    instead = "compare two scenes with `tailora change RUN BEFORE AFTER --out change.tif`"

    def open(
        self, source: str | Path, *, seed: int = 0, to_learn: bool = True, **options: Any
    ) -> "Dataset":
        """Open pairs of images with masks or two scenes, or make pairs of images of one date.

        Two scenes are one with the option `after`; see `tailora.data.scene_dates`. Of one date are
        scenes with labels, a folder with images/ and masks/ or a table with columns
        `image` and `mask`, as `tailora.data.open_masks` reads them, or a built-in dataset with
        masks; see `tailora.data.star_pairs`.

        Raises:
            DataError: See `tailora.data.open_changes`; of one date, `Segmentation.open`.
            ConfigError: An option is wrong, or is one of scenes.
        """
        from tailora.data import BUILT_IN, open_changes, open_dataset
        from tailora.data.open import is_scene, open_windows, refuse_misspelt
        from tailora.data.readers.masks import has_masks_of_one_date
        from tailora.data.scene_dates import open_date_windows
        from tailora.data.star_pairs import pair_up
        from tailora.errors import ConfigError

        refuse_misspelt(source)
        given = {key: value for key, value in options.items() if value is not None}
        if is_scene(source, given):
            cut = open_date_windows
            return open_windows(source, seed=seed, to_learn=to_learn, cut=cut, **given)
        name = str(source).partition(":")[0]
        built_in = name in _OF_ONE_DATE and not Path(name).exists()
        if built_in or has_masks_of_one_date(source):
            return pair_up(super().open(source, seed=seed, to_learn=to_learn, **given), seed=seed)
        given.pop("usual_chip", None)
        if name in BUILT_IN and not Path(name).exists():
            return open_dataset(source, seed=seed, to_learn=to_learn, **given)
        of_scenes = sorted(given.keys() - {"classes", "ignore"})
        if of_scenes:
            raise ConfigError(
                f"{', '.join(of_scenes)} are options of scenes, which task {self.name!r} does not "
                "learn from; give a folder or table of pairs with masks"
            )
        return open_changes(source, seed=seed, to_learn=to_learn, **given)

    def check(self, data: "Dataset") -> None:
        """Refuse data that are no pairs with masks."""
        if data.targets is None or data.dates != _ORDERS:
            raise DataError(
                f"dataset {data.name!r} has no pairs of images with masks, which task "
                f"{self.name!r} needs; leave out --task, or give such pairs"
            )
        parse_transitions(data.classes)

    def grid(self, encoder: "AnyEncoder", image_size: int) -> tuple[int, ...]:
        """Orders of the dates, and tokens along both sides of an image."""
        return (_ORDERS, *self.tokens(encoder, image_size))

    def targets(
        self, data: "Dataset", grid: tuple[int, ...], *, fit: str = "crop"
    ) -> NDArray[np.integer]:
        """Transition of each token in both orders; see `Segmentation.targets`."""
        own = super().targets(data, grid[1:], fit=fit)
        inverse = np.append(parse_transitions(data.classes).inverse, -1)  # -1 takes the last
        return np.stack([own, inverse[own].astype(own.dtype)], axis=1)

    def mask_objects(self, data: "Dataset") -> NDArray[np.int64]:
        """Count the areas of each transition in training pairs, in both orders (classes,)."""
        own = super().mask_objects(data)
        return own + own[parse_transitions(data.classes).inverse]

    def names(
        self, data: "Dataset", decisions: "Decisions", grid: tuple[int, ...]
    ) -> Sequence[str]:
        """Pair, order of its dates, row and column of each token."""
        ids = {i: data.source.id(int(i)) for i in decisions.samples}
        found = []
        for i, place in zip(decisions.sample, decisions.place, strict=True):
            order, token = divmod(int(place), grid[1] * grid[2])
            swapped = "#swapped" if order else ""
            found.append(f"{ids[i]}{swapped}#{token // grid[2]},{token % grid[2]}")
        return found

    def model(self, encoder: "AnyEncoder") -> "Callable[[Tensor], Tensor]":
        """Features of each patch in both orders (batch, 2, rows, columns, features)."""
        tokens = token_encoder(encoder, self.name)
        return lambda images: in_both_orders(tokens.patch_features(images))

    def turned(self, targets: "Tensor", turns: NDArray[np.integer]) -> "Tensor":
        """Turn masks of tokens with their images."""
        from tailora.backbones.symmetries import dihedral

        return dihedral(targets, turns)

    def _layers(self, data: "Dataset", sample: int, fit: str) -> NDArray[np.integer]:
        """Transition of each pixel in both orders of the dates."""
        [own] = super()._layers(data, sample, fit)
        inverse = np.append(parse_transitions(data.classes).inverse, -1)  # -1 takes the last
        return np.stack([own, inverse[own].astype(own.dtype)])

    def decided(
        self, logits: NDArray[np.floating], shape: tuple[int, ...], classes: Sequence[str]
    ) -> NDArray[np.int64]:
        """Transition of each pixel, by the mean of what is said in both orders."""
        return transition_logits(logits, shape, _parsed(tuple(classes))).argmax(dim=0).numpy()

    def other_head(self, head: str, classes: Sequence[str]) -> str | None:
        """Post-classification beside any other head, where land cover is known."""
        if len(_parsed(tuple(classes)).covers) < _ORDERS:
            return None
        return DIRECT_HEAD if head == POST_CLASSIFICATION else POST_CLASSIFICATION

    def measure(self, measured: Measured) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Metrics of change over pixels of every row of the results."""
        from tailora.metrics.change import SCORES, ChangeCounts, change_metrics
        from tailora.metrics.segmentation import interval, number, pixel_table, sums_of

        found = _parsed(tuple(measured.classes))
        counts = [ChangeCounts(len(found.covers), found.change_table) for _ in measured.rows]
        used: list[int] = []
        areas = np.zeros((len(measured.samples), 3, len(measured.classes)), dtype=np.int64)
        for i in range(len(measured.samples)):
            truth = true_classes(measured, i)
            if truth is None or not (truth >= 0).any():
                continue
            used.append(i)
            said = [
                self.decided(row.logits(np.array([i]))[0], truth.shape, measured.classes)
                for row in measured.rows
            ]
            for own_said, one in zip(said, counts, strict=True):
                one.add(_dates(truth, found), _dates(own_said, found))
            both = _stays_as_one(found, truth, said[-1])
            areas[i] = sums_of(pixel_table(*both, len(measured.classes)))
        units = list(used) if measured.units is None else measured.units[used].tolist()
        options: dict[str, Any] = {
            "replicates": measured.replicates, "confidence": measured.confidence,
            "seed": measured.seed,
        }  # fmt: skip
        scored = [
            change_metrics(one, units, measured.groups, measured.classes, **options)
            for one in counts
        ]
        rows = [
            {"method": row.method, "head": row.head, **entry}
            for row, (entry, _) in zip(measured.rows, scored, strict=True)
        ]
        last, own, differences = measured.rows[-1], scored[-1][1], []
        for row, (_, other) in list(zip(measured.rows, scored, strict=True))[:-1]:
            entry: dict[str, Any] = {
                "method": last.method, "head": last.head, "against": row.method,
                "against_head": row.head,
            }  # fmt: skip
            for name in SCORES:
                drawn = own.replicates[name] - other.replicates[name]
                change = own.point[name] - other.point[name]
                ends = interval(drawn[:, None], measured.confidence)[0]
                entry |= {
                    name: number(change),
                    f"{name}_interval": ends if len(set(units)) > 1 else None,
                }
            differences.append(entry)
        decide = partial(self.truth_and_said, measured)
        hits, true, _ = np.moveaxis(areas, 1, 0)
        labelled, right = true.sum(axis=1), hits.sum(axis=1)
        rare = [c for c in measured.groups.tail if found.changed[c]]
        worst = worst_windows(measured, used, areas[used], rare, decide)
        return {
            "pairs": len(used),
            "unit": "pair" if measured.units is None else "group",
            "units": len(set(units)),
            "covers": list(found.covers),
            "train_pixels": list(measured.train_pixels),
            "rows": rows,
            "differences": differences,
            **_false_alarms(measured, found),
        }, worst | ground_maps(measured, labelled - right, labelled, decide)

    def truth_and_said(
        self, measured: Measured, i: int
    ) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
        """True and predicted transition of each pixel of pair `i`; what stays is one class."""
        return _stays_as_one(_parsed(tuple(measured.classes)), *super().truth_and_said(measured, i))

    def compared_by(self) -> "type[Places]":
        """Counts of pixels, and of the land cover of both dates."""
        from tailora.metrics.change import ChangeSums

        return ChangeSums

    def places(self, measured: Measured) -> "Places":
        """Pixels of each transition in each pair, and tables of the land cover of both dates."""
        from tailora.metrics.change import ChangeSums, date_table
        from tailora.metrics.segmentation import pixel_table, sums_of

        found = _parsed(tuple(measured.classes))
        pairs, classes, side = len(measured.samples), len(measured.classes), len(found.covers) + 1
        sums = np.zeros((pairs, 3, classes), dtype=np.int64)
        tables = np.zeros((pairs, side, side), dtype=np.int64)
        for i, truth, said in self.told(measured):
            sums[i] = sums_of(pixel_table(truth, said, classes))
            tables[i] = date_table(_dates(truth, found), _dates(said, found), side)
        return ChangeSums(measured.image_units, sums, tables)

    def sections(self) -> "Sequence[Callable[[RunResult], Section | None]]":
        """Scores of change, the ground of the test pairs, and the worst pairs."""
        from tailora.report.change_sections import (
            change_ground_section,
            change_windows_section,
            changes_section,
        )

        return changes_section, change_ground_section, change_windows_section

    def shown(self, metrics: "RunMetrics") -> Sequence[Any]:
        """The table of scores of change."""
        from tailora.report.change_sections import change_table, false_alarms

        return change_table(metrics), *false_alarms(metrics)


_parsed = cache(parse_transitions)


def in_both_orders(features: "Tensor") -> "Tensor":
    """Features of pairs (batch, ..., features) in both orders of the dates (batch, 2, ...)."""
    import torch

    first, second, apart = features.chunk(_PARTS, dim=-1)
    return torch.stack([features, torch.cat([second, first, apart], dim=-1)], dim=1)


def transition_logits(
    logits: NDArray[np.floating], shape: tuple[int, ...], found: Transitions
) -> "Tensor":
    """Logits of each pixel (classes, *shape): the mean of those in both orders of the dates.

    Args:
        logits: In both orders (2, rows, columns, classes).
        shape: Rows and columns of pixels.
        found: What the classes mean.
    """
    mean = (logits[0] + logits[1][..., found.inverse]) / _ORDERS
    return pixel_logits(mean, shape)


def _false_alarms(measured: Measured, found: Transitions) -> dict[str, dict[str, float]]:
    """Share of pixels that are called changed where nothing did.

    Each first image is paired with itself, and with itself shifted by a pixel, as images that are
    not registered well are. Empty where only features are at hand.
    """
    if measured.said is None:
        return {}
    shares: dict[str, list[float]] = {"identical": [], "shifted": []}
    for sample in measured.samples:
        image = measured.data.source.read(int(sample))
        first = image[: len(image) // _ORDERS]
        moved = np.concatenate([first[..., :1], first[..., :-1]], axis=-1)
        for own, other in zip(shares.values(), (first, moved), strict=True):
            logits = measured.said(np.concatenate([first, other]))
            classes = transition_logits(logits, first.shape[1:], found).argmax(dim=0).numpy()
            own.append(float(found.changed[classes].mean()))
    return {"false_alarms": {name: float(np.mean(own)) for name, own in shares.items()}}


def _stays_as_one(
    found: Transitions, truth: NDArray[np.integer], said: NDArray[np.int64]
) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Give all that stays the number of the first class that does, as metrics count it."""
    first = int(np.argmin(found.changed))
    number = np.append(np.where(found.changed, np.arange(len(found.changed)), first), -1)
    return number[truth], number[said]


def _dates(classes: NDArray[np.integer], found: Transitions) -> "Dates":
    """Land cover at both dates of pixels with a class: 0 where it stays, negative for none."""
    table = np.concatenate([found.change_table, [[-1, -1]]])[classes]  # -1 takes the last
    return table[..., 0], table[..., 1]
