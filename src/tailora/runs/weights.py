"""Save and load what was trained: an adapter in PEFT's format or all weights, and a linear head."""

import copy
import hashlib
import shutil
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from tailora.debias.stages import AnyEncoder
from tailora.errors import RunError
from tailora.heads.linear_probe import zero_linear
from tailora.storage import guard_disk, write_atomically

ADAPTER, WEIGHTS = "adapter", "backbone.safetensors"


def save_adapted(encoder: AnyEncoder, folder: Path) -> None:
    """Write the adapter to `folder/adapter`, or all weights where the whole encoder learnt.

    Raises:
        StorageError: The disk is full; nothing half-written is left under the final name.
    """
    backbone = encoder.backbone
    if not isinstance(backbone, PeftModel):
        write_atomically(folder / WEIGHTS, lambda path: save_model(backbone, str(path)))
        return
    temporary = folder / f".{ADAPTER}.writing"
    shutil.rmtree(temporary, ignore_errors=True)
    with guard_disk(folder / ADAPTER):
        temporary.mkdir(parents=True)
        backbone.save_pretrained(str(temporary))
        (temporary / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        shutil.rmtree(folder / ADAPTER, ignore_errors=True)
        temporary.rename(folder / ADAPTER)


def is_saved(folder: Path) -> bool:
    """Tell whether `save_adapted` has finished here."""
    return (folder / ADAPTER / "adapter_config.json").is_file() or (folder / WEIGHTS).is_file()


def load_adapted(encoder: AnyEncoder, folder: Path, *, trainable: bool = False) -> AnyEncoder:
    """Give a copy of the pretrained `encoder` as it was trained.

    Args:
        encoder: Pretrained; not changed.
        folder: What `save_adapted` wrote to; without anything saved the copy stays pretrained.
        trainable: Let the adapter learn on.
    """
    copied = copy.deepcopy(encoder)
    if (folder / WEIGHTS).is_file():
        load_model(copied.backbone, str(folder / WEIGHTS))
    elif (folder / ADAPTER).is_dir():
        copied.backbone = PeftModel.from_pretrained(
            copied.backbone,
            str(folder / ADAPTER),
            is_trainable=trainable,
        )
    return copied.eval()


def weights_fingerprint(folder: Path) -> str:
    """Hash of what `save_adapted` wrote; `"pretrained"` where nothing was."""
    for path in (folder / WEIGHTS, folder / ADAPTER / "adapter_model.safetensors"):
        if path.is_file():
            return hashlib.sha256(path.read_bytes()).hexdigest()
    return "pretrained"


def save_head(head: nn.Linear, path: Path) -> None:
    """Write a linear head as safetensors: `weight` (classes, features), `bias` (classes,)."""
    state = {name: tensor.detach().contiguous() for name, tensor in head.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(state, str(temporary)))


def load_head(path: Path) -> nn.Linear:
    """Read a linear head.

    Raises:
        RunError: The file is missing.
    """
    if not path.is_file():
        raise RunError(f"head {str(path)!r} is missing: the run folder is incomplete")
    state = load_file(str(path))
    classes, features = state["weight"].shape
    head = zero_linear(features, classes)
    with torch.no_grad():
        head.weight.copy_(state["weight"])
        head.bias.copy_(state["bias"])
    return head.requires_grad_(requires_grad=False)
