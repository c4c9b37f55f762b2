"""Oriented boxes: formats, overlap, and detection metrics."""

from tailora.boxes.dota_evaluation import (
    COCO_THRESHOLDS,
    PROTOCOLS,
    Boxes,
    DetectionScores,
    Matches,
    average_precision,
    evaluate_detections,
    match_detections,
)
from tailora.boxes.forms import (
    CONVENTIONS,
    rectangle_around,
    smallest_rectangle,
    to_boxes,
    to_convention,
    to_corners,
)
from tailora.boxes.moves import moved_boxes, turned_boxes
from tailora.boxes.overlap import iou_matrix
from tailora.boxes.submission import read_submission, write_submission
from tailora.boxes.suppression import overlapping_groups, rotated_nms
from tailora.boxes.tiles import (
    Tile,
    make_tiles,
    merge_tiles,
    objects_in_tile,
    parse_tile_name,
    tile_starts,
)

__all__ = [
    "COCO_THRESHOLDS",
    "CONVENTIONS",
    "PROTOCOLS",
    "Boxes",
    "DetectionScores",
    "Matches",
    "Tile",
    "average_precision",
    "evaluate_detections",
    "iou_matrix",
    "make_tiles",
    "match_detections",
    "merge_tiles",
    "moved_boxes",
    "objects_in_tile",
    "overlapping_groups",
    "parse_tile_name",
    "read_submission",
    "rectangle_around",
    "rotated_nms",
    "smallest_rectangle",
    "tile_starts",
    "to_boxes",
    "to_convention",
    "to_corners",
    "turned_boxes",
    "write_submission",
]
