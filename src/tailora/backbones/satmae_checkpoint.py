"""Read a SatMAE checkpoint of its authors: as tensors only, strictly, without the decoder.

Whatever else a pickle may do is refused.
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

SUFFIXES: Final = (".pth", ".pt", ".ckpt")
_NOT_ENCODER: Final = ("decoder", "mask_token", "head.")


def load_satmae(path: Path) -> SatMAE:
    """Read a checkpoint of the authors, plain or grouped; the decoder is left out.

    Raises:
        BackboneError: The file holds no weights or more than weights, or not those of a SatMAE.
    """
    state = _encoder_tensors(read_checkpoint(path), path)
    is_grouped = "patch_embed.0.proj.weight" in state
    try:
        tensors = _grouped_tensors(state) if is_grouped else _plain_tensors(state)
        model = _empty_model(tensors, grouped=is_grouped)
    except (KeyError, ValueError, ZeroDivisionError, IndexError, RuntimeError) as error:
        raise BackboneError(
            f"the checkpoint {str(path)!r} is no SatMAE ({type(error).__name__}: {error}); give the"
            " authors' pre-trained file, plain or with channel groups"
        ) from error
    _fill(model, tensors, path)
    return model.eval()


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Read a torch file, tensors and the training script's plain settings only.

    Raises:
        BackboneError: It cannot be read, or holds code.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BackboneError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise BackboneError(
            f"{str(path)!r} is not a file of weights alone, and nothing else is opened; give a "
            "checkpoint that torch.load reads with weights_only=True"
        ) from error
    if not isinstance(content, Mapping):
        raise BackboneError(
            f"{str(path)!r} holds a {type(content).__name__}, not weights by name; give a state "
            "dictionary"
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
            f"{str(path)!r} was fine-tuned with another last norm (fc_norm); give the pre-trained "
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
    # fine-tuned files have one more piece for the class token; before it is zero
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
    """Blocks and last norm under our names, fused projections cut in three."""
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
        raise ValueError(f"positions of {tensors['position'].shape[1]} places are no square")
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
            f"the weights in {str(path)!r} do not make a SatMAE: {'; '.join(told)}; download the "
            "checkpoint again"
        )
    model.load_state_dict({n: t.clone() for n, t in tensors.items()}, assign=True)
