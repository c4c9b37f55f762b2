"""Checksums of the files that a run relies on, and hashes of the images it has seen.

`run.json` has a SHA-256 of each file under `files`, and of its own content under `checksum`.
`seen.npy` has a hash of each training and validation image as prepared for the encoder, so that
the same image is recognised under another name, in another folder or in another format.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import RunError
from tailora.storage import file_sha256, typed, write_atomically

_FILES: Final = (
    "recipe.toml", "metrics.json", "classes.json", "calibration.json", "report.npz", "seen.npy",
    "head.json", "head.safetensors", "other-head.safetensors", "backbone.safetensors",
    "detector.safetensors", "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
)  # fmt: skip
_SEEN: Final = "seen.npy"


def seal(folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of run.json with the checksums of all files and of itself."""
    files = {name: _sha256(folder / name) for name in _FILES if (folder / name).is_file()}
    sealed = {**record, "files": files}
    return {**sealed, "checksum": _checksum(sealed)}


def verify_files(folder: Path, record: Mapping[str, Any]) -> None:
    """Compare every file with its checksum; a run of version 0.1 has none.

    Raises:
        RunError: A file is missing or has changed since the run was fitted; the first is named.
    """
    if not _has_checksums(record):
        return
    if record.get("checksum") != _checksum(record):
        raise _changed(folder / "run.json")
    files = typed(dict[str, str], record.get("files") or {}, folder / "run.json")
    check_listed(folder, files)
    for name, expected in files.items():
        if _sha256(folder / name) != expected:
            raise _changed(folder / name)


def _has_checksums(record: Mapping[str, Any]) -> bool:
    """Return whether a run has checksums of its files."""
    return "files" in record or "checksum" in record


def check_listed(folder: Path, files: Mapping[str, str]) -> None:
    """Check that all files with a checksum exist and belong to a run folder.

    Raises:
        RunError: A file is missing, or its name is not that of a file of a run.
    """
    for name in files:
        if name not in _FILES:
            raise RunError(f"{str(folder / 'run.json')!r} lists {name!r}, which no run writes")
        if not (folder / name).is_file():
            raise RunError(
                f"{str(folder / name)!r} (weights or results) is missing: fit the run again with "
                "--force, or restore the file"
            )


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path).hex()
    except OSError as error:
        raise RunError(f"cannot read {str(path)!r}: {error.strerror}") from error


def _checksum(record: Mapping[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _changed(path: Path) -> RunError:
    return RunError(
        f"{str(path)!r} has changed since the run was fitted: restore the file, fit the run "
        "again with --force, or read it as it is with --unverified"
    )


def write_seen(folder: Path, digests: NDArray[np.uint64]) -> None:
    """Save the hashes of a run's training and validation images (images,)."""
    kept = np.unique(digests)
    write_atomically(folder / _SEEN, lambda path: np.save(path, kept))


def read_seen(folder: Path) -> NDArray[np.uint64] | None:
    """Read the hashes saved by `write_seen`; None for a run without them (version 0.1).

    Raises:
        RunError: The file is damaged.
    """
    path = folder / _SEEN
    if not path.exists():
        return None
    try:
        seen = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"{str(path)!r} is damaged: {error}; fit the run again") from error
    if not isinstance(seen, np.ndarray) or seen.dtype != np.uint64 or seen.ndim != 1:
        raise RunError(f"{str(path)!r} is not a list of hashes; fit the run again")
    return seen
