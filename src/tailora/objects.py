"""Objects in the place of names: what a recipe says of them, and how a name stands for one.

A recipe is text. An object that equals what a registered name and its options give is written as
that name; any other as `"object:package.Class"`, with what can be said of it as its options. While
a run is made or read, that name stands for copies of the object.
"""

import copy
import hashlib
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from tailora import registry
from tailora.errors import RunError, TailoraError

_LONGEST: Final = 200  # characters of a repr
_LARGEST: Final = 2**63  # whole numbers that TOML holds
_TOLD: Final = ("repr", "values", "state")
_PRIVATE: Final = ("training", "name_or_path")  # torch's mode, and a place on this machine
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


Lend = Callable[[str, dict[str, Any]], object]


@dataclass(frozen=True)
class Given:
    """What a recipe says of an object.

    Args:
        name: `"object:package.Class"`, or the registered name of what equals it.
        options: Description of the object, or options of the name.
        lent: What the name stands for meanwhile, by shelf and name; empty where it was registered.
    """

    name: str
    options: dict[str, Any]
    lent: dict[tuple[str, str], Callable[..., Any]]


def as_given(
    family: str,
    part: object,
    *,
    facts: Mapping[str, object] | None = None,
    usual: Mapping[str, Any] | None = None,
    about: object = None,
    lend: Lend | None = None,
) -> Given:
    """Say what a recipe holds in the place of an object.

    Args:
        family: Its shelf.
        part: The object.
        facts: What registered classes are made from, to find one that equals it; None looks for
            none.
        usual: Options that a run sets for any part of the shelf, with the values it gives.
        about: What is named and described in its place.
        lend: Makes what is lent from name and description; None lends the object itself.
    """
    usual = usual or {}
    known = None if facts is None else _registered(family, part, facts, usual)
    if known is not None:
        return Given(*known, {})
    told = describe(part if about is None else about)
    name = object_name(part if about is None else about)
    lent = Lent(part if lend is None else lend(name, told), {**usual, **told})
    return Given(name, told, {(family, name): lent})


def given_again(
    family: str, name: str, told: Mapping[str, Any], given: Given, *, by: Sequence[str] = _TOLD
) -> Given:
    """Let an object stand for the one that a run was made with.

    Args:
        family: Its shelf.
        name: As the run has it.
        told: Description that the run has.
        given: The object, from `as_given`.
        by: What of the descriptions must agree.

    Raises:
        RunError: The run has no object there, or another one.
    """
    kind = registry.kind(family)
    if not name.startswith(registry.OBJECT):
        raise RunError(f"the run has {kind} {name!r}, which is found by its name: give no object")
    if given.name != name or any(given.options.get(key) != told.get(key) for key in by):
        own, other = (one.removeprefix(registry.OBJECT) for one in (given.name, name))
        odd = f"got {own}" if own != other else "its values or weights differ"
        raise RunError(f"the run was fitted with another {kind} {other} ({odd}): give that one")
    return given


class Lent:
    """Gives copies of an object, whatever it is called with.

    Args:
        part: The object.
        options: That it may be called with.
    """

    def __init__(self, part: object, options: Mapping[str, Any]) -> None:
        self.part = part
        self.__name__ = type(part).__name__
        self.__doc__ = type(part).__doc__
        keyword = inspect.Parameter.KEYWORD_ONLY
        self.__signature__ = inspect.Signature(
            [inspect.Parameter(name, keyword, default=value) for name, value in options.items()]
        )

    def __call__(self, **_: Any) -> Any:
        """Return a copy."""
        return copy.deepcopy(self.part)


def object_name(part: object) -> str:
    """Name an object by its class.

    Example:
        >>> object_name(nn.Flatten())
        'object:torch.nn.modules.flatten.Flatten'
    """
    return f"{registry.OBJECT}{type(part).__module__}.{type(part).__qualname__}"


def describe(part: object) -> dict[str, Any]:
    """Say of an object what a recipe can hold.

    Returns:
        `repr`: on one line, without addresses, at most 200 characters. `values`: its public
        attributes that are numbers, truth values or text. `state`: a hash of its tensors and
        arrays. Those that are empty are left out.

    Example:
        >>> describe(nn.Dropout(0.5))
        {'repr': 'Dropout(p=0.5, inplace=False)', 'values': {'inplace': False, 'p': 0.5}}
    """
    own = getattr(part, "__dict__", {})
    told = {
        "repr": " ".join(_ADDRESS.sub("", repr(part)).split())[:_LONGEST],
        "values": {
            key: value
            for key, value in sorted(own.items())
            if not key.startswith("_") and key not in _PRIVATE and _is_plain(value)
        },
        "state": _state(part, own),
    }
    return {key: value for key, value in told.items() if value}


def _is_plain(value: object) -> bool:
    if isinstance(value, int):  # or bool
        return abs(value) < _LARGEST
    return isinstance(value, str) or (isinstance(value, float) and not math.isnan(value))


def _state(part: object, own: Mapping[str, Any]) -> str:
    arrays = {k: v for k, v in own.items() if isinstance(v, np.ndarray | Tensor)}
    if isinstance(part, nn.Module):
        arrays |= part.state_dict()
    if not arrays:
        return ""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        values = torch.as_tensor(array).detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)} ".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{digest.hexdigest()}"


def _told(name: str, told: Mapping[str, Any]) -> str:
    return " ".join([name.removeprefix(registry.OBJECT), *(f"{k}={v}" for k, v in told.items())])


def _registered(
    family: str, part: object, facts: Mapping[str, object], usual: Mapping[str, Any]
) -> tuple[str, dict[str, Any]] | None:
    """Name and options whose part equals an object; None where there are none."""
    kind, shelf = type(part), registry.entries(family)
    where = (kind.__module__, kind.__qualname__)
    for name, entry in shelf.items():
        if entry.part is not kind and (entry.module, entry.symbol) != where:
            continue
        known = {key: default for key, default in entry.options.items() if hasattr(part, key)}
        chosen = {key: getattr(part, key) for key in known}
        try:
            twin = registry.build(kind, facts, {**usual, **chosen})
        except (TailoraError, TypeError, ValueError):
            return None
        if not same(part, twin) or not all(map(_is_plain, chosen.values())):
            return None
        defaults = {**known, **usual}
        return name, {key: value for key, value in chosen.items() if value != defaults[key]}
    return None


_DEEPEST: Final = 20


def same(one: Any, other: Any, *, depth: int = 0) -> bool:
    """Return whether two objects hold the same; where that is not certain they do not."""
    if type(one) is not type(other) or depth > _DEEPEST:
        return False
    if isinstance(one, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, Mapping):
        return [*one] == [*other] and all(same(one[k], other[k], depth=depth + 1) for k in one)
    if isinstance(one, Sequence) and not isinstance(one, str):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(same(*pair, depth=depth + 1) for pair in pairs)
    if (hasattr(one, "__dict__") and not callable(one)) or isinstance(one, nn.Module):
        return same(vars(one), vars(other), depth=depth + 1)
    return bool(one == other)
