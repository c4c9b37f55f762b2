"""Training: one short loop that yields steps; logging, saving and stopping are the caller's."""

from tailora.train.loop import Schedule, Step, train

__all__ = ["Schedule", "Step", "train"]
