"""What `--tune` may choose from, ranges and values by recipe key, and what it chooses by."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tailora.config.recipe import cast_value, parse_assignment
from tailora.errors import ConfigError, unknown_name
from tailora.metrics.group_f1 import MACRO_KEYS

BY_GROUPS: Final = "groups"
MEASURES: Final = (*MACRO_KEYS, BY_GROUPS)
DEFAULT_TRIALS: Final = 20

_DIGITS: Final = 4  # of a chosen number: it is written, and used, as short as this
_SCALES: Final = ("log",)
_FORM: Final = "--tune takes key=low..high, key=low..high,log or key=value,value"


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, both included.

    Args:
        key: Of the recipe.
        low: Least value.
        high: Greatest value.
        log: Try orders of magnitude evenly, not values.
    """

    key: str
    low: float
    high: float
    log: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int)

    @property
    def ends(self) -> tuple[float, float]:
        """The values that a recipe must bear for all between to be worth a trial."""
        return self.low, self.high

    def holds(self, value: Any) -> bool:
        """Return whether a value lies in the range."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high

    def short(self, value: float) -> float:
        """Round to so few digits that a value can be read, written and given again.

        Example:
            >>> Range("deblora.pull", 0.0, 1.0).short(0.123456)
            0.1235
        """
        if self.is_whole:
            return int(value)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)

    def text(self) -> str:
        """Write it as it is given."""
        return f"{self.low}..{self.high}" + self.log * ",log"


@dataclass(frozen=True)
class Choices:
    """Values of a key, in no order."""

    key: str
    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values: each must be one that a recipe bears."""
        return self.values

    def holds(self, value: Any) -> bool:
        """Return whether a value is among them."""
        return value in self.values

    def short(self, value: Any) -> Any:
        """The value itself."""
        return value

    def text(self) -> str:
        """Write them as they are given."""
        return ",".join(str(v).lower() if isinstance(v, bool) else str(v) for v in self.values)


Dimension = Range | Choices


@dataclass(frozen=True)
class Tuning:
    """How options are chosen on validation, for every row by itself.

    Args:
        space: What is chosen, from where.
        trials: How many values are tried a row, the recipe's own first.
        by: Macro-F1 on validation over `"all"` classes, those of the `"head"`, `"middle"` or
            `"tail"`, or the mean of these three, `"groups"`.

    Raises:
        ConfigError: An empty space, a key twice, an unknown measure, fewer than two trials.
    """

    space: tuple[Dimension, ...]
    trials: int = DEFAULT_TRIALS
    by: str = "all"

    def __post_init__(self) -> None:
        keys = [dimension.key for dimension in self.space]
        if not keys:
            raise ConfigError("nothing to tune; give --tune key=low..high")
        for key in keys:
            if keys.count(key) > 1:
                raise ConfigError(f"{key} is tuned twice; give one range for it")
        if self.by not in MEASURES:
            raise unknown_name("measure to tune by", self.by, MEASURES)
        if self.trials < 2:  # the recipe's own, and something else
            raise ConfigError(
                f"trials must be at least 2, got {self.trials}: the first is the recipe's own"
            )

    def value(self, scores: Mapping[str, float | None]) -> float | None:
        """What a trial is judged by, from macro-F1 by group; None where it is not defined."""
        if self.by != BY_GROUPS:
            return scores.get(self.by)
        groups = [scores.get(name) for name in MACRO_KEYS if name != "all"]
        known = [score for score in groups if score is not None]
        return sum(known) / len(known) if known else None


def parse_tune(text: str) -> Dimension:
    """Read `key=low..high`, `key=low..high,log` or `key=value,value`.

    Raises:
        ConfigError: Unknown key, an empty range, a value of the wrong type, or another form.

    Example:
        >>> parse_tune("train.lr=1e-4..1e-2,log").text()
        '0.0001..0.01,log'
        >>> parse_tune("deblora.move=shrink,shift").values
        ('shrink', 'shift')
    """
    key, equals, given = (part.strip() for part in text.partition("="))
    parse_assignment(f"{key}=0")  # an unknown key is the first thing to say
    parts = [part.strip() for part in given.split(",") if part.strip()]
    if not equals or not parts:
        raise ConfigError(f"{_FORM}, got {text!r}")
    if _is_range(parts[0]):
        return _range(key, parts)
    values = tuple(dict.fromkeys(_value(key, part) for part in parts))
    if len(values) < 2:  # one value is no choice
        raise ConfigError(f"{key} has one value to choose from; {_FORM}, or give it with --set")
    return Choices(key, values)


def space_key(space: Sequence[Dimension], facts: Sequence[Any]) -> str:
    """Name a study by all that its trials depend on: equal keys are one study, gone on with."""
    told = [[dimension.key, dimension.text()] for dimension in space]
    text = json.dumps([sorted(told), *facts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _is_range(text: str) -> bool:
    return ".." in text and "/" not in text  # else a relative folder


def _range(key: str, parts: Sequence[str]) -> Range:
    low, high = (_number(key, end) for end in parts[0].split("..", 1))
    for scale in parts[1:]:
        if scale not in _SCALES:
            raise unknown_name("scale of a range", scale, _SCALES)
    log = len(parts) > 1
    if not low < high:
        raise ConfigError(f"{key}={parts[0]} is an empty range; give the lower end first")
    if log and low <= 0:
        raise ConfigError(f"{key}={parts[0]},log needs a lower end above 0")
    return Range(key, low, high, log)


def _number(key: str, text: str) -> float:
    found = _value(key, text.strip())
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise ConfigError(f"a range of {key} has numbers at both ends, got {text!r}; {_FORM}")
    return found


def _value(key: str, text: str) -> Any:
    return cast_value(key, parse_assignment(f"{key}={text}")[1])
