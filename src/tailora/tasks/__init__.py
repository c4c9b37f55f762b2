"""What is decided about an image; its `__all__` are the tasks by name."""

from typing import TYPE_CHECKING

from tailora.source import import_when_asked

if TYPE_CHECKING:
    from tailora.tasks.change import Change
    from tailora.tasks.classification import Classification
    from tailora.tasks.segmentation import Segmentation

__all__ = ["Change", "Classification", "Segmentation"]

import_when_asked(__name__)
