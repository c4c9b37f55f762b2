"""Named terms of a loss: a loss records what it adds up, for the training history."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from torch import Tensor

_NOTED: Final[ContextVar[dict[str, Tensor] | None]] = ContextVar("noted", default=None)


def note_part(name: str, value: Tensor) -> None:
    """Record a term of the current loss; does nothing outside training.

    Args:
        name: Name, e.g. `"diversity"`. Terms of the same name are added up. With several processes,
            the names of an epoch's first batch are kept.
        value: A scalar, with its sign and weight in the loss.
    """
    noted = _NOTED.get()
    if noted is not None:
        value = value.detach()
        noted[name] = noted[name] + value if name in noted else value


@contextmanager
def noted_parts() -> Iterator[dict[str, Tensor]]:
    """Collect what `note_part` records inside this context, by name."""
    noted: dict[str, Tensor] = {}
    token = _NOTED.set(noted)
    try:
        yield noted
    finally:
        _NOTED.reset(token)
