"""What `curate` finds: about images, classes and copies."""

from dataclasses import asdict, dataclass
from typing import Any, final

from tailora.data import Duplicate
from tailora.frames import Rows


@final
@dataclass(frozen=True)
class CuratedImage:
    """What was found about one image.

    Args:
        id: Of the image in the data.
        path: Of its file, if it has one of its own.
        label: Its class; None without labels.
        split: `"train"`, `"val"` or `"test"`.
        group: Its group in the data, if it has one.
        suggested: Likeliest class, if that is not its label.
        support: Probability of its label against the likeliest other class, in [0, 1]: below 0.5
            another is likelier. None if its class has too few images to be judged.
        el2n: Length of the error of a head that has not seen it, in [0, sqrt 2].
        el2n_z: The same within its class, in deviations.
        self_influence: Squared gradient of that head.
        self_influence_z: The same within its class, in deviations.
        pvi: Bits that the image says about its label, beyond the shares of the classes.
        forgotten: Times that a head that learns it predicted it right and later wrong, mean over
            its trainings.
        learnt: Whether that head ever predicted it right.
        training_confidence: Mean probability of its label while the run's encoder was trained on
            it, in [0, 1]; as all `training_` values None without a run that learnt the image.
        training_variability: Standard deviation of that probability.
        training_el2n: Mean length of the error in that training.
        training_self_influence: Mean squared gradient of the head in that training.
        training_forgotten: Epochs in which it was wrong after one in which it was right.
        training_learnt: Whether it was right in any epoch.
        training_vog: Variance of gradients over the epochs, of a run with `train.vog`.
        training_vog_z: The same within its class, in deviations, as its paper compares it.
        distance: Mahalanobis distance to the mean of the others of its class.
        outlier: Whether that is far beyond what is usual.
        copies: Images that are near duplicates of it.
    """

    id: str
    path: str | None
    label: str | None
    split: str
    group: str | None
    suggested: str | None
    support: float | None
    el2n: float | None
    el2n_z: float | None
    self_influence: float | None
    self_influence_z: float | None
    pvi: float | None
    forgotten: float | None
    learnt: bool | None
    training_confidence: float | None
    training_variability: float | None
    training_el2n: float | None
    training_self_influence: float | None
    training_forgotten: int | None
    training_learnt: bool | None
    training_vog: float | None
    training_vog_z: float | None
    distance: float | None
    outlier: bool
    copies: int


@final
@dataclass(frozen=True)
class CuratedClass:
    """What was found about a class.

    Args:
        name: Of the class.
        group: `"head"`, `"middle"` or `"tail"`, by its images.
        images: Number of its images.
        judged: Those of which the label could be judged.
        doubted: Those for which another class is likelier.
        mislabelled: Estimated share of its labels that are wrong, in [0, 1]; None if none could be
            judged.
        missed: Estimated share of the images of the class that have another label.
        confused: Class that most of the doubted are taken for.
        forgotten: Mean times that an image of it was forgotten.
        unlearnt: Images of it that a head that learns them never predicted right.
        outliers: Images far from the others.
        copies: Images with a near duplicate.
        imbalance: Images of the largest class over its own, at least 1.
        effective: Effective number of its images, as the class-balanced loss counts them.
        estimated: Images that are really of the class, by the estimated shares; those that could
            not be judged are taken as they are.
        to_do: What it needs first, in a few words.
    """

    name: str
    group: str
    images: int
    judged: int
    doubted: int
    mislabelled: float | None
    missed: float | None
    confused: str | None
    forgotten: float
    unlearnt: int
    outliers: int
    copies: int
    imbalance: float
    effective: float
    estimated: float
    to_do: str


@final
@dataclass(frozen=True)
class CuratedGroup:
    """Noise and imbalance of the head, middle or tail classes, or of all.

    Args:
        name: `"head"`, `"middle"`, `"tail"` or `"all"`.
        classes: How many there are.
        images: With their labels.
        judged: Those of which the label could be judged.
        doubted: Those for which another class is likelier.
        mislabelled: Estimated share of their labels that are wrong, in [0, 1]; None if none could
            be judged.
        imbalance: Images of the largest class of all over those of the smallest of these.
        effective: Sum of the effective numbers of their images.
        estimated: Images that are really of them, by the estimated shares.
        to_do: What to do about it, in a sentence.
    """

    name: str
    classes: int
    images: int
    judged: int
    doubted: int
    mislabelled: float | None
    imbalance: float
    effective: float
    estimated: float
    to_do: str


@final
@dataclass(frozen=True)
class NearCopies(Duplicate):
    """Near duplicates of each other; without labels those are empty.

    Args:
        rows: Their numbers in `Curation.images`.
    """

    rows: tuple[int, ...]


@final
@dataclass(frozen=True)
class Curation:
    """What was found in a dataset.

    Args:
        data: Its name.
        images: One per image, in order; unreadable ones are left out.
        classes: Largest first; empty without labels.
        groups: Noise and imbalance of head, middle and tail classes, then of all; empty without
            labels.
        copies: Groups of near duplicates: those with different labels first, then those across
            splits.
        doubts: Numbers in `images` of doubted labels, the most doubtful first.
        notes: What to know.
    """

    data: str
    images: Rows[CuratedImage]
    classes: Rows[CuratedClass]
    groups: Rows[CuratedGroup]
    copies: Rows[NearCopies]
    doubts: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def leaks(self) -> int:
        """Groups of near duplicates that are in several splits."""
        return sum(one.leaks for one in self.copies)

    @property
    def conflicts(self) -> int:
        """Groups of near duplicates that have several labels."""
        return sum(one.conflicts for one in self.copies)

    @property
    def outliers(self) -> tuple[int, ...]:
        """Numbers in `images` of outliers, the farthest first."""
        found = [i for i, one in enumerate(self.images) if one.outlier]
        return tuple(sorted(found, key=lambda i: -(self.images[i].distance or 0.0)))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; images are in their own table."""
        return {
            "data": self.data,
            "images": len(self.images),
            "doubted": len(self.doubts),
            "outliers": len(self.outliers),
            "leaks": self.leaks,
            "conflicts": self.conflicts,
            "classes": [asdict(one) for one in self.classes],
            "groups": [asdict(one) for one in self.groups],
            "copies": [asdict(one) for one in self.copies],
            "notes": list(self.notes),
        }
