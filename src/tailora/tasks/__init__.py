"""What is decided about an image; its `__all__` are the tasks by name."""

from typing import TYPE_CHECKING

from tailora.source import import_when_asked

if TYPE_CHECKING:
    from tailora.tasks.change import Change
    from tailora.tasks.classification import Classification
    from tailora.tasks.detection import Detection
    from tailora.tasks.segmentation import Segmentation

__all__ = ["Change", "Classification", "Detection", "Segmentation"]

import_when_asked(__name__)
