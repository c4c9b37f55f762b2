"""The detector of a finished run, if its task trains one with the adapter."""

import torch
from torch import nn

from tailora.runs.run import Run
from tailora.runs.weights import DETECTOR, load_into
from tailora.tasks.task import Task


def run_detector(run: Run, task: Task) -> nn.Module | None:
    """Read the detector of a run onto the device of its model; None if its task has none.

    Raises:
        RunError: The file is missing or damaged.
    """
    if not task.detects:
        return None
    encoder, size = run.model.encoder, run.input.image_size
    with torch.random.fork_rng():  # initial weights are replaced
        train = run.recipe.train  # its loss of presence says what a score is
        detector = task.detector(
            encoder.features, task.grid(encoder, size), size, stages=task.stages(encoder, size),
            detector=train.detector, presence=train.presence,
        )  # fmt: skip
    if detector is None:
        return None
    device = next(run.model.parameters()).device
    return load_into(detector, run.folder.path / DETECTOR).to(device)
