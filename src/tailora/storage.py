"""Write files so that readers never see partial ones: temporary name first, then rename."""

import errno
import hashlib
import json
import math
import os
import shutil
import tomllib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import get_ident
from typing import Any, TypeVar

import numpy as np
from numpy.lib.format import open_memmap
from numpy.lib.npyio import NpzFile
from numpy.typing import DTypeLike, NDArray
from pydantic import AfterValidator, TypeAdapter, ValidationError
from safetensors import SafetensorError

from tailora.errors import RunError, StorageError

_T = TypeVar("_T")

_ON_ONE_LINE = {int, float, type(None)}
_MOST_DIGITS = 20  # of a whole number; those of 64 bits have as many
_DEEPEST = 64  # levels of JSON or TOML; tailora writes fewer than ten
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file next to `path`, then rename it.

    Args:
        path: Final name; its folder is created if missing.
        write: Called with the temporary path (same suffix as `path`).

    Raises:
        StorageError: The disk is full or the folder cannot be written; the temporary file is
            removed.
    """
    temporary = path.with_name(f".{path.stem}.writing-{os.getpid()}-{get_ident()}{path.suffix}")
    try:
        with guard_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            temporary.replace(path)
    finally:
        with suppress(OSError):  # what went wrong above is the news, not that nothing is left
            temporary.unlink(missing_ok=True)


@contextmanager
def guard_disk(path: Path) -> Iterator[None]:
    """Turn a failure to write `path` into a `StorageError` with advice."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise _storage_error(path, error) from error
    except SafetensorError as error:  # its message holds the system's error as text
        number = next((n for n in _FULL if f"os error {n}" in str(error)), errno.EIO)
        raise _storage_error(path, OSError(number, str(error))) from error


def create_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> np.memmap[Any, Any]:
    """Create a memory-mapped `.npy` file with its full size reserved on disk.

    A sparse map on a full disk kills the process with a signal at some later write; reserving turns
    that into an error here.

    Raises:
        OSError: The disk is full (let `write_atomically` or `guard_disk` explain it).
    """
    array = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # file system cannot
                    raise
    return array


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, without changing newlines."""
    write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8", newline=""))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, non-ASCII unescaped; NaN is rejected (not valid JSON).

    A list of numbers is on one line: a confusion matrix of a few thousand classes would otherwise
    take a line per cell, and half a minute.
    """
    write_text(path, _json(value, "\n") + "\n")


def _json(value: Any, margin: str) -> str:
    """Write a value whose own line begins with `margin`, which holds the line break."""
    inner = margin + "  "
    if isinstance(value, dict) and value:
        parts = [
            f"{_plain_json({key: 0})[1:-4]}: {_json(one, inner)}" for key, one in value.items()
        ]
        return "{" + inner + f",{inner}".join(parts) + margin + "}"
    if isinstance(value, (list, tuple)) and not set(map(type, value)) <= _ON_ONE_LINE:
        return "[" + inner + f",{inner}".join(_json(one, inner) for one in value) + margin + "]"
    return _plain_json(value)


def _plain_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def file_sha256(path: Path) -> bytes:
    """Return the SHA-256 of a file's content, 32 bytes; read in chunks.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file.

    Raises:
        FileNotFoundError: There is none.
        RunError: It cannot be read, or is not valid JSON; NaN, numbers beyond 64 bits, duplicate
            keys and lone surrogates are not.
    """
    return _parsed(path, _parse_json)


def read_json_lines(path: Path, *, ended: bool = False) -> list[Any]:
    """Read a UTF-8 file with one JSON value per line.

    Args:
        path: The file.
        ended: Leave out a last line without its end, which somebody is writing.

    Raises:
        FileNotFoundError: There is none.
        RunError: See `read_json`.
    """

    def parse(text: str) -> list[Any]:
        lines = text.split("\n")
        return [_parse_json(line) for line in lines[: -1 if ended else None] if line]

    return _parsed(path, parse)


def _parse_json(text: str) -> Any:
    value = json.loads(
        text,
        parse_constant=_no_number,
        parse_float=_finite,
        parse_int=_whole,
        object_pairs_hook=_object,
    )
    _check_depth(value)
    json.dumps(value, ensure_ascii=False).encode()  # half a character fails here, not later
    return value


def _parsed(path: Path, parse: Callable[[str], _T]) -> _T:
    try:
        return parse(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise RunError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except RecursionError as error:
        raise RunError(f"{str(path)!r} is damaged: it is nested too deeply") from error
    except ValueError as error:  # of bytes that are no text, text that is no JSON, endless digits
        raise RunError(f"{str(path)!r} is damaged ({error})") from error


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read all arrays of an `.npz` file.

    Raises:
        FileNotFoundError: There is none.
        RunError: It cannot be read, or is no `.npz` file.
    """
    try:
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            if not isinstance(stored, NpzFile):
                raise ValueError("it is not an .npz file")
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (
        ValueError, EOFError, KeyError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise RunError(f"{str(path)!r} is damaged ({' '.join(str(error).split())})") from error


def parse_toml(text: str) -> dict[str, Any]:
    """Read hand-written TOML.

    Raises:
        tomllib.TOMLDecodeError: It is not TOML. ValueError: It is, but with a number beyond 64
        bits, a NUL character in a text, or nested
            deeper than anything that tailora reads.
    """
    try:
        content = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check_depth(content)
    _check_leaves(content)
    return content


def parse_value(text: str) -> Any:
    """Read one value as TOML, or else as a bare word: the text itself.

    Raises:
        ValueError: It is TOML that `parse_toml` rejects.
    """
    try:
        return parse_toml(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def keyed(*names: str) -> AfterValidator:
    """Let `typed` reject a mapping without one of these keys."""

    def check(value: Mapping[str, _T]) -> Mapping[str, _T]:
        if missing := [name for name in names if name not in value]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return value

    return AfterValidator(check)


def typed(kind: type[_T], value: Any, path: Path) -> _T:
    """Validate the type of a value read from a JSON file, without converting anything.

    Args:
        kind: A dataclass, or any other annotation.
        value: From `read_json`.
        path: The file, for the error.

    Raises:
        RunError: Something is missing or of the wrong type or range.
    """
    try:
        return _validator(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "its content"
        raise RunError(f"{str(path)!r} is damaged: {where}: {first['msg']}") from error


@cache
def _validator(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)  # building one takes longer than what it reads


def delete(path: Path) -> None:
    """Delete a file or folder, if it exists; a link, never its target."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _check_depth(value: Any) -> None:
    """Reject content too deeply nested for a recursive reader."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def _check_leaves(value: Any) -> None:
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            _check_leaves(inner)
        elif isinstance(inner, str) and "\0" in inner:
            raise ValueError("a text contains a NUL character")
        elif isinstance(inner, int) and not -(2**63) <= inner < 2**63:
            raise ValueError("an integer exceeds 64 bits")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:_MOST_DIGITS]} is out of range")
    return value


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"{text[:_MOST_DIGITS]}... has too many digits")
    return int(text)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _storage_error(path: Path, error: OSError) -> StorageError:
    if error.errno in _FULL:
        return StorageError(
            f"no space left while writing {str(path)!r}; free some disk space, then run again "
            "with --resume"
        )
    return StorageError(f"cannot write {str(path)!r}: {error.strerror or error}")
