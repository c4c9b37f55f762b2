"""Oriented boxes: their forms, overlap, and what a detector's answers are measured by (NumPy)."""

from tailora.boxes.forms import CONVENTIONS, to_boxes, to_convention, to_corners

__all__ = ["CONVENTIONS", "to_boxes", "to_convention", "to_corners"]
