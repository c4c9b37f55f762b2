"""Keep warnings that PEFT provokes away from the user, who can do nothing about them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_NOISE: Final = (
    "`is_gradient_checkpointing` is deprecated",  # transformers 5 gives up a name that PEFT asks
    "Unsupported layer type .*LayerNorm",  # what PEFT's own LN tuning is made for
    ".*LoRA tensor.s. have invalid shape",  # a layer that AdaLoRA pruned to rank 0
    "The following rank_pattern keys did not match",  # AdaLoRA's, which has its own keys
    "fan_in_fan_out is set to True but",  # PEFT sets it right by itself
    "Unexpected keyword arguments .* for class",  # refused when a run is read, if they say anything
    "Found missing adapter keys",  # refused in one line when a run is read
)


@contextmanager
def without_peft_noise() -> Iterator[None]:
    """Silence known warnings of wrapping, saving and opening a model that works, and no others."""
    with warnings.catch_warnings():
        for message in _NOISE:
            warnings.filterwarnings("ignore", message=message)
        yield
