"""The pretrained encoder, not adapted."""

from typing import final

from tailora.methods.job import Job
from tailora.methods.lora import fit_detector
from tailora.methods.method import INPUT, Method


@final
class ZeroShot(Method):
    """The pretrained encoder, not adapted, with a linear probe."""

    name = "zero-shot"
    title = "zero-shot"
    summary = "the pretrained encoder, not adapted, with a linear probe"
    uses = INPUT
    stands_on = ()
    trains = False
    has_adapter = False
    layered = True
    detects = True
    objectives = True  # none is used, so none is rejected
    style = ("#8a94a0", "D")

    def find(self, job: Job) -> None:
        """Train the detector of a task that has one, on the encoder as it is."""
        if job.task.detects:
            fit_detector(job, self.name)
