"""One spelling of each class name, however spreadsheets or file systems write it."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from tailora.errors import DataError

# zero-width space, byte order mark, word joiner, soft hyphen: nobody sees them; joiners (U+200C,
# U+200D) stay, since Persian and Indic spelling needs them
_INVISIBLE: Final[dict[int, None]] = dict.fromkeys((0x200B, 0xFEFF, 0x2060, 0x00AD))
_DIRECTIONS: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def canonical_name(text: str) -> str:
    """Normalise a class name to the form that is compared, stored and shown.

    Unicode is composed (NFC), runs of white space become one space, and invisible characters are
    removed.

    Args:
        text: As written in a folder, table or label file.

    Raises:
        DataError: The name has a control character or one that changes the writing direction.

    Example:
        >>> canonical_name(" bare  soil ") == canonical_name("bare soil")
        True
    """
    name = unicodedata.normalize("NFC", " ".join(text.translate(_INVISIBLE).split()))
    if any(c in _DIRECTIONS or unicodedata.category(c) == "Cc" for c in name):
        raise DataError(
            f"class name {name!a} has a control character, which terminals, XML and spreadsheets "
            "would act on; rename the class"
        )
    return name


def merged_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return notes on names with several spellings, or that differ only in capitals.

    Args:
        names: Original spellings.

    Example:
        >>> merged_names(["field", "field "])
        ("'field' was spelt in 2 ways: 'field', 'field '",)
    """
    spellings: dict[str, set[str]] = defaultdict(set)
    for name in set(names):
        spellings[canonical_name(name)].add(name)
    several = [
        f"{name!r} was spelt in {len(given)} ways: {', '.join(map(ascii, sorted(given)))}"
        for name, given in sorted(spellings.items())
        if len(given) > 1
    ]
    folded: dict[str, list[str]] = defaultdict(list)
    for name in sorted(spellings):
        folded[name.casefold()].append(name)
    alike = [
        f"classes that differ only in capitals: {', '.join(same)}"
        for same in folded.values()
        if len(same) > 1
    ]
    return (*several, *alike)
