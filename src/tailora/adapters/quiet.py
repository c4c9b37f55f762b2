"""Keep warnings that PEFT provokes in transformers away from the user, who can do nothing."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_peft_noise() -> Iterator[None]:
    """Silence two warnings of wrapping a model, and no others.

    PEFT asks each transformers model for `is_gradient_checkpointing`, a name that transformers 5
    gives up, and does not know the layer type that its own LN tuning is made for.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning
        )
        warnings.filterwarnings("ignore", message="Unsupported layer type .*LayerNorm")
        yield
