"""Read the authors' SatMAE checkpoint: tensors only, strictly, without the decoder.

Anything else in a pickle is rejected.
"""

import argparse
import math
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from tailora.backbones.satmae import GROUPS, GroupedSatMAE, SatMAE
from tailora.errors import BackboneError

_NOT_ENCODER: Final = ("decoder", "mask_token", "head.")


def load_satmae(path: Path) -> SatMAE:
    """Read a checkpoint of the authors, plain or grouped, without the decoder.

    Raises:
        BackboneError: The file has no weights or more than weights, or not those of a SatMAE.
    """
    state = _encoder_tensors(read_checkpoint(path), path)
    is_grouped = "patch_embed.0.proj.weight" in state
    try:
        tensors = _grouped_tensors(state) if is_grouped else _plain_tensors(state)
        model = _empty_model(tensors, grouped=is_grouped)
    except (KeyError, ValueError, ZeroDivisionError, IndexError, RuntimeError) as error:
        raise BackboneError(
            f"the checkpoint {str(path)!r} is not a SatMAE ({type(error).__name__}: {error}); "
            "use the authors' pre-trained file, plain or with channel groups"
        ) from error
    _fill(model, tensors, path)
    return model.eval()


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Read a torch file, only tensors and the training script's plain settings.

    Raises:
        BackboneError: It cannot be read, or contains code.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BackboneError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise BackboneError(
            f"{str(path)!r} is not a weights-only file and is not loaded; use a checkpoint that "
            "torch.load reads with weights_only=True"
        ) from error
    if not isinstance(content, Mapping):
        raise BackboneError(
            f"{str(path)!r} contains a {type(content).__name__}, not weights by name; use a "
            "state dictionary"
        )
    return content


def _encoder_tensors(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    inner = content.get("model", content.get("state_dict", content))
    tensors = {
        str(name).removeprefix("module."): value
        for name, value in (inner.items() if isinstance(inner, Mapping) else ())
        if isinstance(value, Tensor)
    }
    found = {n: t.float() for n, t in tensors.items() if not n.startswith(_NOT_ENCODER)}
    if "fc_norm.weight" in found and "norm.weight" not in found:
        raise BackboneError(
            f"{str(path)!r} was fine-tuned with another last norm (fc_norm); use the pre-trained "
            "checkpoint"
        )
    return found


def _plain_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    table = state["pos_embed"]
    return {
        "patch_embed.0.weight": state["patch_embed.proj.weight"],
        "patch_embed.0.bias": state["patch_embed.proj.bias"],
        "class_token": state["cls_token"] + table[:, :1],
        "position": table[:, 1:],
        **_block_tensors(state),
    }


def _grouped_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    table, groups = state["pos_embed"], state["channel_embed"]
    own = groups.shape[-1]
    # fine-tuned files have one more entry for the class token; the plain ones use zero
    beside = state.get("channel_cls_embed", torch.zeros(1, 1, own))
    places = table.shape[1] - 1
    position = torch.cat(
        [
            table[0, None, 1:].expand(groups.shape[1], -1, -1),
            groups[0, :, None].expand(-1, places, -1),
        ],
        dim=-1,
    )
    embeds = {
        f"patch_embed.{group}.{part}": state[f"patch_embed.{group}.proj.{part}"]
        for group in range(groups.shape[1])
        for part in ("weight", "bias")
    }
    class_token = state["cls_token"] + torch.cat([table[:, :1], beside], dim=-1)
    return {**embeds, "class_token": class_token, "position": position, **_block_tensors(state)}


def _block_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return blocks and last norm under our names, with fused projections split in three."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith("norm."):
            renamed[name] = tensor
        if not name.startswith("blocks."):
            continue
        short = name.replace(".attn.proj.", ".out_proj.").replace(".mlp.", ".")
        if ".attn.qkv." not in short:
            renamed[short] = tensor
            continue
        for letter, part in zip("qkv", tensor.chunk(3), strict=True):
            renamed[short.replace(".attn.qkv.", f".{letter}_proj.")] = part
    return renamed


def _empty_model(tensors: Mapping[str, Tensor], *, grouped: bool) -> SatMAE:
    first = tensors["patch_embed.0.weight"]
    sizes = [
        tensors[f"patch_embed.{group}.weight"].shape[1] for group in range(len(tensors["position"]))
    ]
    groups = GROUPS if grouped else (tuple(range(sizes[0])),)
    if sizes != [len(group) for group in groups]:
        raise ValueError(
            f"groups of {sizes} bands; those of {[len(group) for group in groups]} are known"
        )
    numbers = {int(n.split(".")[1]) for n in tensors if re.match(r"blocks\.\d+\.", n)}
    side = math.isqrt(tensors["position"].shape[1])
    if side * side != tensors["position"].shape[1]:
        raise ValueError(f"{tensors['position'].shape[1]} positions are not a square")
    with torch.device("meta"):
        return (GroupedSatMAE if grouped else SatMAE)(
            groups,
            width=first.shape[0],
            depth=max(numbers) + 1,
            patch=first.shape[-1],
            side=side,
            hidden=tensors["blocks.0.fc1.weight"].shape[0],
        )


def _fill(model: SatMAE, tensors: Mapping[str, Tensor], path: Path) -> None:
    own = dict(model.named_parameters())
    problems = {
        "missing": sorted(own.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - own.keys()),
        "of another shape": sorted(
            n for n in own.keys() & tensors.keys() if own[n].shape != tensors[n].shape
        ),
    }
    told = [f"{len(n)} {what} ({', '.join(n[:3])})" for what, n in problems.items() if n]
    if told:
        raise BackboneError(
            f"the weights in {str(path)!r} do not form a SatMAE: {'; '.join(told)}; download the "
            "checkpoint again"
        )
    model.load_state_dict({n: t.clone() for n, t in tensors.items()}, assign=True)
