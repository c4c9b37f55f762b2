"""Errors that state the problem, the value received and the fix.

Each specific error also inherits from a built-in one (`ValueError`, `OSError`, ...), so generic
handlers catch it. The command line prints the message as one line and exits with code 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches

_FEW = 12


class TailoraError(Exception):
    """Base class of errors that users can fix; the message is one line."""


class DataError(TailoraError, ValueError):
    """The images, labels or splits cannot be used."""


class ConfigError(TailoraError, ValueError):
    """An option, a method name or a combination of options is invalid."""


class BackboneError(TailoraError, ValueError):
    """The encoder or its weights are unavailable, or do not fit the data."""


class RunError(TailoraError, ValueError):
    """A run folder is incomplete, of another version, or belongs to other data."""


class StorageError(TailoraError, OSError):
    """A file could not be written; no partial file was left."""


class TrainingError(TailoraError, ArithmeticError):
    """Training failed: its loss is not finite."""


class ProcessError(TailoraError, RuntimeError):
    """Another process of the same run has ended, so this one cannot continue."""


def unknown_name(kind: str, name: str, known: Iterable[str], *, listed_by: str = "") -> ConfigError:
    """Build the error for an unknown name, with the nearest valid one.

    Args:
        kind: What the name refers to, e.g. `"tuner"`.
        name: The unknown name.
        known: Every valid name.
        listed_by: Command that lists them, where they are too many for a message.

    Example:
        >>> str(unknown_name("loss", "focl", ["focal", "cross-entropy"]))
        "unknown loss 'focl'; did you mean 'focal'? (known: cross-entropy, focal)"
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.0 if listed_by else 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    if listed_by:
        return ConfigError(f"unknown {kind} {name!r}{hint} (`{listed_by}` lists all)")
    few = not near or len(names) <= _FEW  # a long list would bury the name that was meant
    return ConfigError(f"unknown {kind} {name!r}{hint}" + few * f" (known: {', '.join(names)})")
