"""What an encoder subtracts from its images and divides them by."""

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from tailora.backbones.hub import hub_is_reachable
from tailora.storage import read_json

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

FILE_NAME = "preprocessor_config.json"


def stored_normalization(name: str, bands: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read the mean and standard deviation that an encoder was trained with, for values in 0..1.

    Args:
        name: A folder, or a name on the hub.
        bands: Channels of the encoder.

    Returns:
        Per band, what `preprocessor_config.json` says. Without one: ImageNet's for 3 bands, and
        0.5 for any other number, which maps 0..1 to -1..1.
    """
    file = _find_file(name)
    stored: dict[str, Any] = read_json(file) if file else {}
    if not stored.get("do_normalize", True):
        return (0.0,) * bands, (1.0,) * bands
    mean, std = stored.get("image_mean") or (), stored.get("image_std") or ()
    if len(mean) == len(std) == bands:
        return tuple(mean), tuple(std)
    return (IMAGENET_MEAN, IMAGENET_STD) if bands == 3 else ((0.5,) * bands, (0.5,) * bands)


def _find_file(name: str) -> Path | None:
    if (folder := Path(name).expanduser()).is_dir():
        return folder / FILE_NAME if (folder / FILE_NAME).is_file() else None
    for local in (True, False):  # the model may be in the hub's cache without this file
        if not local and not hub_is_reachable():
            return None
        try:
            return Path(hf_hub_download(name, FILE_NAME, local_files_only=local))
        except EntryNotFoundError:
            continue
    return None
