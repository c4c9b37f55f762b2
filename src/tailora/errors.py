"""Errors that say what was wrong, what was got and what to do.

Each specific error also inherits one of Python's own (`ValueError`, `OSError`, ...), so
a caller who never heard of tailora catches it. The command line prints the message as one line and
exits with code 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches

_FEW = 12


class TailoraError(Exception):
    """Anything a user can mend; the message is one line."""


class DataError(TailoraError, ValueError):
    """The images, labels or splits cannot be used as they are."""


class ConfigError(TailoraError, ValueError):
    """An option, a method name or a combination of options is wrong."""


class BackboneError(TailoraError, ValueError):
    """The encoder or its weights cannot be had, or do not fit the data."""


class RunError(TailoraError, ValueError):
    """A run folder is incomplete, of another version, or belongs to other data."""


class StorageError(TailoraError, OSError):
    """A file could not be written; nothing half-written was left."""


class TrainingError(TailoraError, ArithmeticError):
    """A training went wrong: its loss is no finite number any more."""


class ProcessError(TailoraError, RuntimeError):
    """Another process of the same run has ended, and this one cannot go on alone."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """Build the error for a name nobody knows, with the nearest one that exists.

    Args:
        kind: What the name should have been, e.g. `"tuner"`.
        name: What was given.
        known: Every valid name.

    Example:
        >>> str(unknown_name("loss", "focl", ["focal", "cross-entropy"]))
        "unknown loss 'focl'; did you mean 'focal'? (known: cross-entropy, focal)"
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    few = not near or len(names) <= _FEW  # a long list would bury the name that was meant
    return ConfigError(f"unknown {kind} {name!r}{hint}" + few * f" (known: {', '.join(names)})")
