"""SRSDD-v1.0: ships of six kinds in SAR images of 1 m, labelled in DOTA's format.

Reference: Lei et al., "SRSDD-v1.0: A High-Resolution SAR Rotation Ship Detection Dataset", Remote
Sensing 13 (2021) 5104. That its label files are DOTA's was gathered from code that reads them; the
files themselves were not at hand.
"""

from pathlib import Path
from typing import Final

from tailora.data.dataset import Dataset
from tailora.data.readers.dota import check_classes
from tailora.data.readers.labelled_images import find_labelled_images
from tailora.data.readers.oriented_objects import ObjectOptions, assemble_objects

SRSDD_CLASSES: Final = (
    "Cell-Container", "Container", "Dredger", "Fishing", "LawEnforce", "ore-oil",
)  # fmt: skip


def open_srsdd(path: str | Path, *, options: ObjectOptions | None = None, seed: int = 0) -> Dataset:
    """Open the ships of SRSDD, one crop each.

    Args:
        path: Holds `train` and `test` (and `val` if made), each with images and label files.
        options: Which objects, and how they are cut out.
        seed: Decides what is carved out of train.

    Raises:
        DataError: Files are missing or malformed, or a class is none of the six.
    """
    options, root = options or ObjectOptions(), Path(path)
    found = find_labelled_images(root, labels=options.labels, unpaired=options.unpaired)
    check_classes(found.images, SRSDD_CLASSES, "SRSDD")
    return assemble_objects(root, found.images, options, seed=seed, notes=found.notes)
