"""Published datasets on the user's disk, by name and path: `dota:/data/DOTA:margin=0.1`."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from tailora.data.dataset import Dataset
from tailora.data.readers.dota import open_dota
from tailora.data.readers.dota_labels import read_label_file
from tailora.data.readers.fusar import is_fusar, open_fusar
from tailora.data.readers.fusrs import open_fusrs
from tailora.data.readers.labelled_images import has_label_folders
from tailora.data.readers.oriented_objects import ObjectOptions
from tailora.data.readers.srsdd import SRSDD_CLASSES, open_srsdd
from tailora.data.readers.visible_files import visible_files
from tailora.errors import ConfigError, DataError, unknown_name

_OPENERS: Final[Mapping[str, Callable[..., Dataset]]] = {
    "dota": open_dota,
    "fusar": open_fusar,
    "fusrs": open_fusrs,
    "srsdd": open_srsdd,
}
PUBLISHED: Final = tuple(_OPENERS)
"""Published datasets that are read as unpacked, as `"dota:PATH"`."""

_OBJECTS: Final = "options"
_KINDS: Final = {int: "a whole number", float: "a number", str: "a word"}


def open_published(name: str, words: Sequence[str], *, seed: int = 0) -> Dataset:
    """Open a dataset from the parts of `name:path:option=value:...`.

    Args:
        name: One of `PUBLISHED`.
        words: Parts between colons after the name: a path (which may contain colons itself) and
            options.
        seed: Seeds missing splits.

    Raises:
        DataError: There is no path, or an error of the dataset's reader.
        ConfigError: An unknown option, or an invalid value.
    """
    first = next((i for i, word in enumerate(words) if i and "=" in word), len(words))
    path, assignments = ":".join(words[:first]), words[first:]
    if not path:
        raise DataError(f"{name!r} is read from your files: give {name}:PATH")
    defaults = published_options(name)
    chosen = dict(read_option(name, defaults, assignment) for assignment in assignments)
    if _OBJECTS in inspect.signature(_OPENERS[name]).parameters:
        own = {field.name for field in fields(ObjectOptions)}
        objects = ObjectOptions(**{key: value for key, value in chosen.items() if key in own})
        chosen = {key: value for key, value in chosen.items() if key not in own}
        chosen[_OBJECTS] = objects
    return _OPENERS[name](Path(path).expanduser(), seed=seed, **chosen)


def published_options(name: str) -> dict[str, Any]:
    """Every option of a published dataset with its default."""
    parameters = inspect.signature(_OPENERS[name]).parameters
    options = {key: p.default for key, p in parameters.items() if key not in ("path", "seed")}
    if _OBJECTS in options:
        del options[_OBJECTS]
        options |= {field.name: field.default for field in fields(ObjectOptions)}
    return options


def recognise(root: Path) -> str | None:
    """Return the published dataset whose layout a folder has, None for another layout.

    Label folders named like DOTA's (`labelTxt...`, `annfiles`) make it `"dota"`, or `"srsdd"` if
    the first label is an SRSDD class; chips named like FUSAR-Ship's make it `"fusar"`.
    """
    if has_label_folders(root):
        return "srsdd" if _first_class(root) in SRSDD_CLASSES else "dota"
    return "fusar" if is_fusar(root) else None


def _first_class(root: Path) -> str | None:
    for path in (p for p in visible_files(root) if p.suffix == ".txt"):
        try:
            labels = read_label_file(path)
        except DataError:
            continue  # reading all of them will report the error
        if labels.objects:
            return labels.objects[0].name
    return None


def read_option(name: str, defaults: Mapping[str, Any], assignment: str) -> tuple[str, Any]:
    """Read `option=value` of a dataset as the type of the option's default.

    Args:
        name: Of the dataset, for messages.
        defaults: Every option with its default.
        assignment: As written.

    Raises:
        ConfigError: An unknown option, no value, or one of another type.
    """
    key, equals, value = assignment.partition("=")
    if key not in defaults:
        raise unknown_name(f"option of {name}", key, defaults)
    kind = type(defaults[key])
    try:
        if equals:
            return key, kind(value)
    except ValueError:
        pass
    shown = repr(value) if equals else "nothing"
    raise ConfigError(f"{name}:{key}= takes {_KINDS[kind]}, got {shown}")
