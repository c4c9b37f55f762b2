"""Kinds of change: which transitions are of one kind, and which are no change at all.

A table of rules is data of a region: what is clear-cutting or growth there, and which transitions
are only the model's (rock to old forest in ten years) or of no interest.

Reference: Kristen et al., HabitAlp 2.0, arXiv 2511.00073, whose transitions between habitats become
kinds of change by rules of which later ones overwrite earlier ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.class_names import canonical_name
from tailora.errors import DataError, unknown_name
from tailora.inference.maps.class_map import numbered_lines
from tailora.metrics.change_rule import Changes

ANY: Final = "*"
"""Any class, in a rule."""
OTHER: Final = "other"
"""Kind of transitions without a rule."""
_HEADING: Final = ["from", "to", "kind"]


@final
@dataclass(frozen=True, eq=False)
class ChangeRules:
    """What kind of change each transition is.

    Args:
        names: Land cover, by value from 1.
        kinds: Names of kinds; the first is empty, which is no change.
        table: Number of the kind of a transition, by land cover before and after, where 0 is cover
            that is not known (classes + 1, classes + 1).
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    table: NDArray[np.int64]

    def kind(self, before: str, after: str) -> str:
        """Return the kind of a transition between two classes."""
        places = (self.names.index(name) + 1 for name in (before, after))
        return self.kinds[self.table[*places]]

    def apply(self, said: Changes) -> Changes:
        """Take transitions that are no change for none; they keep their land cover before."""
        dropped = said.changed & (self.table[said.before, said.after] == 0)
        return replace(
            said, changed=said.changed & ~dropped, after=np.where(dropped, said.before, said.after),
            confidence=np.where(dropped, 1 - said.confidence, said.confidence),
        )  # fmt: skip


def read_rules(path: Path, names: Sequence[str]) -> ChangeRules:
    """Read rules from a CSV file with lines FROM,TO,KIND; a heading is skipped.

    Args:
        path: The file. FROM and TO are classes or `*`, an empty KIND is no change, and a later line
            overwrites earlier ones.
        names: Land cover of the run.

    Raises:
        DataError: It cannot be read, has no rule, or a line is something else.
        ConfigError: A class is unknown; the message has the nearest one.
    """
    kinds = {"": 0, OTHER: 1}
    table = np.full((len(names) + 1, len(names) + 1), kinds[OTHER])
    rules = 0
    for number, line in numbered_lines(path, "rules"):
        cells = [cell.strip() for cell in line]
        if number == 1 and [cell.lower() for cell in cells] == _HEADING:
            continue
        if len(cells) != len(_HEADING) or not all(cells[:2]):
            raise DataError(
                f"line {number} of {str(path)!r} is not FROM,TO,KIND such as `forest,bare,clearing`"
                f" or `*,water,`: {','.join(line)!r}"
            )
        places = [_places(cell, names) for cell in cells[:2]]
        table[np.ix_(*places)] = kinds.setdefault(cells[2], len(kinds))
        rules += 1
    if not rules:
        raise DataError(f"{str(path)!r} has no rule; it needs lines such as `forest,bare,clearing`")
    return ChangeRules(tuple(names), tuple(kinds), table)


def _places(cell: str, names: Sequence[str]) -> list[int]:
    if cell == ANY:
        return list(range(len(names) + 1))
    name = canonical_name(cell)
    if name not in names:
        raise unknown_name("class", name, names)
    return [list(names).index(name) + 1]
