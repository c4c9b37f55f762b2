"""Suppress warnings that PEFT provokes and users cannot act on."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_NOISE: Final = (
    "`is_gradient_checkpointing` is deprecated",  # transformers 5 deprecates a name that PEFT uses
    "Unsupported layer type .*LayerNorm",  # exactly what PEFT's LN tuning is for
    ".*LoRA tensor.s. have invalid shape",  # a layer that AdaLoRA pruned to rank 0
    "The following rank_pattern keys did not match",  # AdaLoRA has its own keys
    "fan_in_fan_out is set to True but",  # PEFT corrects it itself
    "Unexpected keyword arguments .* for class",  # rejected when a run is read, if they matter
    "Found missing adapter keys",  # rejected in one line when a run is read
)


@contextmanager
def without_peft_noise() -> Iterator[None]:
    """Silence known harmless warnings of wrapping, saving and loading a model, and no others."""
    with warnings.catch_warnings():
        for message in _NOISE:
            warnings.filterwarnings("ignore", message=message)
        yield
