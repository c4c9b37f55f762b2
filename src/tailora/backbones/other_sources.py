"""Encoders outside transformers: a checkpoint, a diffusers pipeline, timm, a package."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tailora.backbones.cloud_efficientnet import (
    CLOUD_LICENSE,
    load_cloud_efficientnet,
)
from tailora.backbones.foundation import FoundationModel
from tailora.backbones.hub import hub_is_reachable
from tailora.backbones.loaded import LoadedBackbone, Source
from tailora.backbones.names import CHECKPOINTS, CLOUD_NAME
from tailora.backbones.pretrained import weights_sha256
from tailora.backbones.satmae import FMOW_MEAN, FMOW_STD, MEAN, STD, GroupedSatMAE
from tailora.backbones.satmae_checkpoint import load_satmae
from tailora.backbones.stable_diffusion import load_stable_diffusion
from tailora.backbones.timm_model import PREFIX as TIMM
from tailora.backbones.timm_model import load_timm
from tailora.errors import BackboneError, ConfigError, TailoraError

DIFFUSERS: Final = "diffusers:"
_PIPELINE: Final = "model_index.json"
_DIGITAL: Final = 10_000  # Sentinel-2 stores reflectance times this

Found = tuple[FoundationModel, Source, tuple[float, ...], tuple[float, ...], str | None]


def find_elsewhere(name: str, options: Mapping[str, Any]) -> LoadedBackbone | None:
    """Load an encoder that transformers does not support; None for other names.

    Args:
        name: A `.pth` file of SatMAE; a diffusers folder, or `diffusers:` and a name on the hub;
            `timm:` and a name there; `ukis-csmask/efficientnet-b4`.
        options: Only Stable Diffusion and ukis-csmask have any.

    Raises:
        ConfigError: An unknown option or value.
        BackboneError: The weights are unavailable or do not fit.
    """
    for _, is_kind, load in KINDS.values():
        if is_kind(name):
            model, source, mean, std, license_ = load(name, dict(options))
            return LoadedBackbone(
                model=model,
                name=name,
                source=source,
                sha256=weights_sha256(model),
                revision=None,
                mean=mean,
                std=std,
                patch_size=model.config.patch_size,
                license=license_,
                units=model.units,
            )
    return None


def no_options(name: str, options: Mapping[str, Any]) -> None:
    """Reject options for an encoder that has none.

    Raises:
        ConfigError: There are some.
    """
    if options:
        raise ConfigError(
            f"encoder {name!r} has no backbone.options, got {', '.join(map(repr, options))}; "
            "leave them out"
        )


def _satmae(name: str, options: dict[str, Any]) -> Found:
    no_options(name, options)
    model = load_satmae(Path(name).expanduser())
    if isinstance(model, GroupedSatMAE):
        mean, std = (tuple(v / _DIGITAL for v in values) for values in (MEAN, STD))
        return model, "folder", mean, std, None
    return model, "folder", FMOW_MEAN, FMOW_STD, None


def _pipeline_folder(name: str, options: dict[str, Any]) -> Found:
    try:
        model = load_stable_diffusion(name, local=True, options=options)
    except TailoraError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise _broken(name, error) from error
    return model, "folder", *_minus_one_to_one(model), None


def _pipeline_on_hub(name: str, options: dict[str, Any]) -> Found:
    """Use the hub cache on this machine, else the hub."""
    where = name.removeprefix(DIFFUSERS)
    if Path(where).expanduser().is_dir():
        raise ConfigError(f"leave out {DIFFUSERS!r} before a folder: use {where!r}")
    try:
        model = load_stable_diffusion(where, local=True, options=options)
    except TailoraError:
        raise
    except (OSError, ValueError, KeyError) as error:
        if not hub_is_reachable():
            raise BackboneError(
                f"no weights for {name!r} on this machine, and the hub cannot be reached; give a "
                "folder with model_index.json, or run once with access to the hub"
            ) from error
        try:
            model = load_stable_diffusion(where, local=False, options=options)
        except TailoraError:
            raise
        except (OSError, ValueError, KeyError) as on_hub:
            raise _broken(name, on_hub) from on_hub
    return model, "hub", *_minus_one_to_one(model), None


def _timm(name: str, options: dict[str, Any]) -> Found:
    no_options(name, options)
    model, mean, std = load_timm(name)
    return model, "hub", mean, std, None


def _cloud(name: str, options: dict[str, Any]) -> Found:
    del name  # it exists
    model, mean, std = load_cloud_efficientnet(options)
    return model, "packaged", mean, std, CLOUD_LICENSE


def _broken(name: str, error: Exception) -> BackboneError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return BackboneError(
        f"cannot load the pipeline {name!r}: {reason}; it needs unet, vae, scheduler, tokenizer "
        "and text_encoder, as written by save_pretrained"
    )


def _minus_one_to_one(model: FoundationModel) -> tuple[tuple[float, ...], tuple[float, ...]]:
    half = (0.5,) * model.config.num_channels
    return half, half


_IsKind = Callable[[str], bool]
_Load = Callable[[str, dict[str, Any]], Found]
KINDS: Final[dict[str, tuple[str, _IsKind, _Load]]] = {
    CLOUD_NAME: (
        "EfficientNet-B4 for Sentinel-2 of ukis-csmask", lambda name: name == CLOUD_NAME, _cloud,
    ),
    "timm:name": ("an encoder of timm", lambda name: name.startswith(TIMM), _timm),
    "diffusers:name": (
        "Stable Diffusion on the hub", lambda name: name.startswith(DIFFUSERS), _pipeline_on_hub,
    ),
    "name.pth": (
        "a checkpoint of SatMAE",
        lambda name: name.endswith(CHECKPOINTS) and not Path(name).expanduser().is_dir(),
        _satmae,
    ),
    "folder of a pipeline": (
        "Stable Diffusion, as diffusers writes it",
        lambda name: (Path(name).expanduser() / _PIPELINE).is_file(),
        _pipeline_folder,
    ),
}  # fmt: skip
"""Forms of names: what each is, how it is told, and how it is loaded."""
