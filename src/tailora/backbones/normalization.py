"""Normalisation constants of an encoder."""

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError

from tailora.backbones.hub import hub_is_reachable
from tailora.errors import BackboneError
from tailora.storage import read_json

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

FILE_NAME = "preprocessor_config.json"


def stored_normalization(name: str, bands: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read the mean and standard deviation of an encoder's training images, for values in 0..1.

    Args:
        name: A folder, or a name on the hub.
        bands: Number of channels of the encoder.

    Returns:
        Per band, from `preprocessor_config.json`. Without one: ImageNet's for 3 bands, and 0.5 for
        any other number, which maps 0..1 to -1..1.
    """
    file = _find_file(name)
    stored = _read(file) if file else {}
    if not stored.get("do_normalize", True):
        return (0.0,) * bands, (1.0,) * bands
    mean, std = stored.get("image_mean") or (), stored.get("image_std") or ()
    if len(mean) == len(std) == bands:
        return tuple(mean), tuple(std)
    return usual_normalization(bands)


def usual_normalization(bands: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """ImageNet's for 3 bands, and 0.5 for any other number, which maps 0..1 to -1..1."""
    return (IMAGENET_MEAN, IMAGENET_STD) if bands == 3 else ((0.5,) * bands, (0.5,) * bands)


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_json(file)
    except ValueError as error:
        raise BackboneError(
            f"{str(file)!r} is not JSON: {error}; fix it, or remove it to use the defaults"
        ) from error


def _find_file(name: str) -> Path | None:
    if (folder := Path(name).expanduser()).is_dir():
        return folder / FILE_NAME if (folder / FILE_NAME).is_file() else None
    try:
        return Path(hf_hub_download(name, FILE_NAME, local_files_only=True))
    except LocalEntryNotFoundError:
        # the model may have been fetched without it before
        return _fetch_file(name) if hub_is_reachable() else None


def _fetch_file(name: str) -> Path | None:
    try:
        return Path(hf_hub_download(name, FILE_NAME))
    except RemoteEntryNotFoundError:
        return None
    except OSError as error:  # other values would be silently wrong
        raise BackboneError(
            f"cannot fetch {FILE_NAME} of {name!r}: {str(error).splitlines()[0]}; try again"
        ) from error
