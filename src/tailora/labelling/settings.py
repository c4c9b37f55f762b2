"""What a session is about: `session.json`, written once."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from tailora.class_names import canonical_name
from tailora.config.recipe import Recipe
from tailora.errors import ConfigError, DataError, RunError, unknown_name
from tailora.labelling.journal import SKIP, UNSURE
from tailora.labelling.keys import class_keys
from tailora.storage import read_json, typed, write_json

SETTINGS: Final = "session.json"
_FORMAT: Final = 1
_TAB: Final = "\t"  # between a name and its key
_LONGEST: Final = 2**20  # bytes of a file of class names


@final
@dataclass(frozen=True)
class Settings:
    """Everything that determines a session besides its answers.

    Args:
        data: As given, or an absolute path.
        name: Of the data.
        mark: Of the images; changes whenever one does.
        images: How many there are.
        classes: Names, in the order of their keys.
        keys: Of the keyboard, for classes that have one.
        seed: Of what is drawn.
        random_share: Share of what is shown that is drawn evenly.
        target: Labels wanted of each class.
        run: Run whose encoder is used.
        recipe: Keys of the recipe that are not the default, without a run.
        chip: Pixels per side of the windows of a scene.
        step: Stride between windows.
        skip_broken: Whether unreadable images are left out.
        features: Folder that keeps features.
        width: How many there are for each image.
        manifest: Facts that determine them.
        format: Of the folder.
    """

    data: str
    name: str
    mark: str
    images: int
    classes: tuple[str, ...]
    keys: dict[str, str]
    seed: int
    random_share: float
    target: int
    run: str | None
    recipe: dict[str, Any]
    chip: int | None
    step: int | None
    skip_broken: bool
    features: str
    width: int
    manifest: dict[str, Any]
    format: int = _FORMAT

    def write(self, folder: Path) -> None:
        """Write `session.json`."""
        write_json(folder / SETTINGS, dataclasses.asdict(self))

    def full_recipe(self) -> Recipe:
        """Return the recipe of the encoder, without a run."""
        return Recipe().override(self.recipe)


def read_settings(folder: Path) -> Settings:
    """Read what a session is about.

    Raises:
        RunError: There is no session, or it is damaged or of another version.
    """
    path = folder / SETTINGS
    try:
        content = read_json(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(
            f"no session of labels in {str(folder)!r}: it has no {SETTINGS}; `tailora label DATA` "
            "makes one"
        ) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != _FORMAT:
        raise RunError(
            f"the session {str(folder)!r} has format {found!r} and this version of tailora reads "
            f"{_FORMAT}: open it with the version that made it"
        )
    return typed(Settings, content, path)


def changed_keys(recipe: Recipe) -> dict[str, Any]:
    """Return the keys of a recipe that are not the default."""
    default = Recipe().flat()
    return {key: value for key, value in recipe.flat().items() if value != default[key]}


def read_classes(given: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Read class names from a file with one in each line, or from `a,b,c`.

    Raises:
        ConfigError: There are fewer than two, one occurs twice or is empty or reserved, or the
            file cannot be read.
    """
    try:
        names = [canonical_name(text.partition(_TAB)[0]) for text in _texts(given)]
    except DataError as error:
        raise ConfigError(str(error)) from error
    if "" in names:
        raise ConfigError(f"class {names.index('') + 1} of --classes has an empty name: remove it")
    twice = [name for name, count in Counter(map(str.casefold, names)).items() if count > 1]
    if twice:
        raise ConfigError(f"--classes lists {twice[0]!r} more than once: each class has its key")
    for name in names:
        if name.casefold() in (UNSURE, SKIP):
            raise ConfigError(f"{name!r} is an answer of its own: call the class something else")
    if len(names) < 2:
        raise ConfigError(
            f"labels need two classes or more, got {names}: --classes a,b,c or a file with a name "
            "in each line; everything else can be one called other"
        )
    return tuple(names)


def read_keys(given: str | Path | Sequence[str]) -> dict[str, str]:
    """Return the key of each class: what follows its name and a tab, or else by its place.

    Raises:
        ConfigError: As `read_classes` and `class_keys`.
    """
    names = read_classes(given)
    stated = [text.partition(_TAB)[2].strip() for text in _texts(given)]
    return class_keys(names, {name: key for name, key in zip(names, stated, strict=True) if key})


def read_examples(texts: Sequence[str], classes: Sequence[str]) -> dict[str, list[str]]:
    """Read examples of classes from texts `CLASS=EXAMPLES`.

    Raises:
        ConfigError: No class is given, or it is none of the classes.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, example = text.partition("=")
        if not equals or not example.strip():
            raise ConfigError(
                f"--like must be CLASS=EXAMPLE, e.g. {classes[0]}=a.png; got {text!r}"
            )
        found.setdefault(name.strip(), []).append(example)
    return found


def check_examples(like: Iterable[str], classes: Sequence[str]) -> None:
    """Reject examples of other classes.

    Raises:
        ConfigError: A class is unknown.
    """
    for name in like:
        if name not in classes:
            raise unknown_name("class", name, classes)


def _texts(given: str | Path | Sequence[str]) -> list[str]:
    if isinstance(given, str | Path):
        return _lines(Path(given)) if _is_file(given) else str(given).split(",")
    return list(given)


def _is_file(given: str | Path) -> bool:
    try:
        return Path(given).is_file()
    except (OSError, ValueError):  # longer than a name can be
        return False


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise ConfigError(f"{str(path)!r} is no list of classes: it is larger than a megabyte")
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the classes of {str(path)!r}: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    return lines
