"""Load a vision encoder from a Hugging Face folder or name: strictly, quietly, reproducibly."""

import hashlib
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import MODEL_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from tailora.errors import BackboneError

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


class NotStoredError(BackboneError):
    """The config or the weights were not found."""


def load_pretrained(name: str, *, local: bool) -> PreTrainedModel:
    """Load an image encoder in float32 and evaluation mode, without heads and text encoder.

    Every weight that the features depend on must come from the files: a tensor that is missing,
    unexpected inside the encoder or of another shape is an error. The global random state is
    unchanged.

    Args:
        name: A folder, or a name on the hub.
        local: Use this machine only; else the hub may be used, with a progress bar.

    Raises:
        NotStoredError: There are no such files.
        BackboneError: The files contain no image encoder, or do not fit it.
    """
    with quiet_loading(progress=not local), torch.random.fork_rng(devices=[]):
        try:
            return _load(name, local=local)
        except BackboneError:
            raise
        except OSError as error:
            raise NotStoredError(f"cannot read {name!r}: {_first_line(error)}") from error
        except (
            ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError,
            RecursionError, SafetensorError,
        ) as error:  # fmt: skip
            if "trust_remote_code" in str(error):
                raise BackboneError(
                    f"{name!r} needs its own Python code, which is never run; use an encoder "
                    "that transformers supports"
                ) from error
            raise BackboneError(
                f"cannot load {name!r}: {_first_line(error)}; use an image encoder written by "
                "save_pretrained"
            ) from error


def weights_sha256(model: torch.nn.Module) -> str:
    """Hash the values of the weights.

    Tensor names are ignored: transformers renames them between versions.
    """
    digests = sorted(_tensor_sha256(tensor) for tensor in model.state_dict().values())
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _load(name: str, *, local: bool) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(name, local_files_only=local, trust_remote_code=False)
    config = getattr(config, "vision_config", config)  # CLIP, SigLIP: without the text encoder
    if hasattr(config, "mask_ratio"):
        config.mask_ratio = 0.0  # ViT-MAE masks patches even in evaluation mode
    model_class = _encoder_class(name, config)
    loaded: Any = model_class.from_pretrained(
        name,
        config=config,
        dtype=torch.float32,
        local_files_only=local,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are reported below, in one line
        **_without_pooler(model_class),
    )
    model, info = loaded
    _check_complete(name, model, info)
    return model.eval()


def _encoder_class(name: str, config: PreTrainedConfig) -> type[PreTrainedModel]:
    found = MODEL_MAPPING.get(type(config), None)
    model_class = found[0] if isinstance(found, tuple) else found
    if model_class is None or model_class.main_input_name != "pixel_values":
        raise BackboneError(
            f"{name!r} is a {config.model_type!r} model, which is not an image encoder; use one "
            "that takes pixel_values, such as DINOv2, CLIP, ViT or ConvNeXt"
        )
    return model_class


def _without_pooler(model_class: type[PreTrainedModel]) -> dict[str, Any]:
    """Remove a dense layer after the class token that many checkpoints never trained."""
    arguments = inspect.signature(model_class.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in arguments else {}


def _check_complete(name: str, model: PreTrainedModel, info: dict[str, Any]) -> None:
    # the mask token is used in masked training only
    missing = {key for key in info["missing_keys"] if not key.endswith("mask_token")}
    left_over = {key for key in info["unexpected_keys"] if _belongs_to(model, key)}
    other_shape = {key for key, *_ in info["mismatched_keys"]}
    problems = [
        f"{len(keys)} {what} ({', '.join(sorted(keys)[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in [
            ("missing", missing),
            ("unexpected", left_over),
            ("of another shape", other_shape),
        ]
        if keys
    ]
    if problems:
        raise BackboneError(
            f"the weights of {name!r} do not match its config: {'; '.join(problems)}; save the "
            "encoder again with save_pretrained"
        )


def _belongs_to(model: PreTrainedModel, key: str) -> bool:
    """Distinguish further encoder blocks from heads and text encoder."""
    pattern = _NUMBER.sub("*", key.removeprefix(f"{model.base_model_prefix}."))
    return pattern.split(".")[0] in dict(model.named_children()) or any(
        _NUMBER.sub("*", own).endswith(f".{pattern}") for own in model.state_dict()
    )


def _tensor_sha256(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    digest.update(flat.view(torch.uint8).numpy().data)
    return digest.digest()


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


@contextmanager
def quiet_loading(*, progress: bool) -> Iterator[None]:
    """Silence transformers' load reports and, by default, its progress bars."""
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    if bars and not progress:
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars and not progress:
            transformers_logging.enable_progress_bar()
