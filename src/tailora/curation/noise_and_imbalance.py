"""How noisy and how unequal classes are, and what to do about it first.

Wrong labels that are spread evenly fill rare classes with images of large ones: how many images a
class really has is estimated beside how many have its label, and both are summed up by head, middle
and tail, since remedies differ. Noise asks for looking at labels, imbalance for more of them.

Reference: Liu et al., Automatic Dataset Construction (ADC), arXiv 2408.11338, which measures both
before it chooses remedies; its estimates of noise are others, here they are confident learning's.
"""

from collections.abc import Sequence
from typing import Final

from tailora.counts import GROUP_NAMES
from tailora.curation.result import CuratedClass, CuratedGroup
from tailora.numbers import counted, percent

NOISY: Final = 0.1
"""Share of wrong labels from which they are to be looked at."""
ALIKE: Final = 0.4
"""Share from which it is rather the encoder that cannot tell classes apart."""
UNEQUAL: Final = 10.0
"""Times that the largest class is larger, from which more images are to be found."""


def class_to_do(
    doubted: int,
    mislabelled: float | None,
    missed: float | None,
    imbalance: float,
    *,
    confused: str | None = None,
) -> str:
    """Say what a class needs before anything is fitted to it.

    Args:
        doubted: Labels of it for which another class is likelier.
        mislabelled: Estimated share of its labels that are wrong; None if none could be judged.
        missed: Estimated share of its images that have another label; None likewise.
        imbalance: Images of the largest class over its own, at least 1.
        confused: Class that most of the doubted are taken for.
    """
    what = []
    if mislabelled is None:
        what.append("label images of it from elsewhere, by which its labels can be judged")
    elif mislabelled >= ALIKE and confused:
        what.append(f"compare with {confused} by eye: alike to the encoder")
    else:
        if mislabelled >= NOISY and doubted:
            what.append(f"look at {counted(doubted, 'doubtful label')}")
        if missed is not None and missed >= NOISY:
            what.append("look for it under other labels")
    if imbalance >= UNEQUAL:
        what.append("find more images of it")
    small = f" ({counted(doubted, 'doubtful label')})" if doubted else ""
    return ", ".join(what) or f"nothing urgent{small}"


def noise_by_group(classes: Sequence[CuratedClass]) -> list[CuratedGroup]:
    """Sum classes up by head, middle and tail, and over all.

    Args:
        classes: All that have images, the largest first.

    Returns:
        Groups that have a class, then `"all"`.
    """
    members = {name: [one for one in classes if one.group == name] for name in GROUP_NAMES}
    return [_summed(name, own) for name, own in (*members.items(), ("all", classes)) if own]


def _summed(name: str, classes: Sequence[CuratedClass]) -> CuratedGroup:
    known = [(one.mislabelled * one.judged) for one in classes if one.mislabelled is not None]
    judged = sum(one.judged for one in classes if one.mislabelled is not None)
    wrong = sum(known) if known else None
    imbalance = max(one.imbalance for one in classes)
    return CuratedGroup(
        name=name,
        classes=len(classes),
        images=sum(one.images for one in classes),
        judged=judged,
        doubted=sum(one.doubted for one in classes),
        mislabelled=None if wrong is None else wrong / judged,
        imbalance=imbalance,
        effective=sum(one.effective for one in classes),
        estimated=sum(one.estimated for one in classes),
        to_do=_sentence(wrong, judged, imbalance),
    )


def _sentence(wrong: float | None, judged: int, imbalance: float) -> str:
    if wrong is None:
        noise = "its labels cannot be judged"
    elif wrong < NOISY * judged:
        noise = f"few labels look wrong ({percent(wrong / judged)} %)"
    elif wrong < ALIKE * judged:
        noise = (
            f"about {round(wrong):,} of {judged:,} labels may be wrong ({percent(wrong / judged)} "
            "%): look at the doubtful ones first"
        )
    else:
        noise = (
            f"the encoder tells these classes apart badly, so {percent(wrong / judged)} % wrong "
            "labels are no estimate: look at the most doubtful only"
        )
    if imbalance < UNEQUAL:
        return f"{noise}; sizes differ little (at most {imbalance:.1f} times)"
    return (
        f"{noise}; the largest class has {imbalance:.0f} times the images of the smallest: find "
        "more of that, and judge by macro-F1"
    )
