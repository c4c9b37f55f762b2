"""One label for each image, or for each chip of a scene."""

from typing import TYPE_CHECKING, final

from tailora.errors import DataError
from tailora.tasks.task import Task

if TYPE_CHECKING:
    from tailora.data import Dataset


@final
class Classification(Task):
    """Decide which class an image belongs to."""

    name = "classify"
    title = "classification"
    summary = "which class an image, or a chip of a scene, belongs to"

    def check(self, data: "Dataset") -> None:
        """Refuse images with more than one label each."""
        if data.targets is not None:
            raise DataError(
                f"data set {data.name!r} has annotations within its images, and task "
                f"{self.name!r} needs one label for each: choose its task with --task"
            )
