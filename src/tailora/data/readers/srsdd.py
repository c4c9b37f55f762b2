"""SRSDD-v1.0: ships of six types in 1 m SAR images, labelled in DOTA's format.

Reference: Lei et al., "SRSDD-v1.0: A High-Resolution SAR Rotation Ship Detection Dataset", Remote
Sensing 13 (2021) 5104. That its label files are in DOTA's format follows from code that reads them;
we did not have the files themselves.
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
        path: Folder with `train` and `test` (and optionally `val`), each with images and label
            files.
        options: Which objects, and how to crop them.
        seed: Seeds what is split from train.

    Raises:
        DataError: Files are missing or malformed, or a class is not one of the six.
    """
    options, root = options or ObjectOptions(), Path(path)
    found = find_labelled_images(root, labels=options.labels, unpaired=options.unpaired)
    check_classes(found.images, SRSDD_CLASSES, "SRSDD")
    return assemble_objects(root, found.images, options, seed=seed, notes=found.notes)
