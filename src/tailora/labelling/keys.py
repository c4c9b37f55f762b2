"""Which key of the keyboard stands for which class."""

from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Final

from tailora.errors import ConfigError, unknown_name

COMMANDS: Final = {
    "a": "confirm all suggestions that are left",
    "b": "other bands",
    "c": "other contrast",
    "n": "next page",
    "s": "unsure",
    "u": "undo",
    "x": "skip",
    "z": "zoom",
}
"""Letters that no class can have, and what they do; the page has them in `label.js`."""

_DEFAULT: Final = "123456789" + "".join(c for c in ascii_lowercase if c not in COMMANDS)


def class_keys(classes: Sequence[str], chosen: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give classes a key each: the chosen one, else the next free of 1-9 and the letters.

    Args:
        classes: Class names, in the order in which keys are given.
        chosen: Keys of some classes.

    Returns:
        Key of each class; those for which none is left are missing, and are found by name.

    Raises:
        ConfigError: A chosen key is not one letter or digit, is a command or is chosen twice, or
            the class is unknown.

    Example:
        >>> class_keys(["water", "quarry", "forest"], {"quarry": "q"})
        {'water': '1', 'quarry': 'q', 'forest': '2'}
    """
    own: dict[str, str] = {}
    for name, key in (chosen or {}).items():
        if name not in classes:
            raise unknown_name("class", name, classes)
        own[name] = _checked(name, key, own)
    free = iter(key for key in _DEFAULT if key not in own.values())
    given = {name: own.get(name) or next(free, None) for name in classes}
    return {name: key for name, key in given.items() if key is not None}


def _checked(name: str, key: str, taken: Mapping[str, str]) -> str:
    letter = key.lower()
    if len(letter) != 1 or not letter.isalnum():
        raise ConfigError(f"the key of class {name!r} must be one letter or digit, got {key!r}")
    if letter in COMMANDS:
        raise ConfigError(
            f"key {key!r} of class {name!r} is a command ({COMMANDS[letter]}); choose another"
        )
    for other, used in taken.items():
        if used == letter:
            raise ConfigError(f"classes {other!r} and {name!r} have the same key {key!r}")
    return letter
