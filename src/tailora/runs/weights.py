"""Save and load what was trained: an adapter in PEFT's format or all weights, and a linear head."""

import copy
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from tailora.adapters import without_peft_noise
from tailora.debias.base_adaptation import AnyEncoder
from tailora.errors import RunError
from tailora.heads.linear_probe import zero_linear
from tailora.runs.adapter_files import CONFIG, TENSORS, check_config, check_tensors, write_config
from tailora.storage import guard_disk, write_atomically

ADAPTER, WEIGHTS = "adapter", "backbone.safetensors"
_UNREADABLE = (
    SafetensorError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    AttributeError,
)


def save_adapted(encoder: AnyEncoder, folder: Path) -> None:
    """Write the adapter to `folder/adapter`, or all weights where the whole encoder learnt.

    Raises:
        StorageError: The disk is full; nothing half-written is left under the final name.
    """
    backbone = encoder.backbone
    if not isinstance(backbone, PeftModel):
        write_atomically(folder / WEIGHTS, lambda path: save_model(backbone, str(path)))
        return
    with _new_adapter(folder) as temporary, without_peft_noise():
        # an encoder has no vocabulary, and PEFT would ask the hub for one
        backbone.save_pretrained(str(temporary), save_embedding_layers=False)
        (temporary / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
        write_config(backbone, temporary)


@contextmanager
def _new_adapter(folder: Path) -> Iterator[Path]:
    """Give a folder to fill that becomes `folder/adapter` when all went well."""
    temporary = folder / f".{ADAPTER}.writing"
    try:
        with guard_disk(folder / ADAPTER):
            shutil.rmtree(temporary, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            yield temporary
            shutil.rmtree(folder / ADAPTER, ignore_errors=True)
            temporary.rename(folder / ADAPTER)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_saved(folder: Path) -> bool:
    """Tell whether `save_adapted` has finished here."""
    files = [folder / ADAPTER / name for name in (CONFIG, TENSORS)]
    return (folder / WEIGHTS).is_file() or all(file.is_file() for file in files)


def copy_saved(source: Path, target: Path) -> None:
    """Copy what `save_adapted` and `save_head` wrote from one folder to another.

    Raises:
        StorageError: The disk is full; nothing half-written is left under a final name.
    """
    for name in ("head.safetensors", WEIGHTS):
        if (source / name).is_file():
            write_atomically(target / name, partial(shutil.copyfile, source / name))
    if (source / ADAPTER).is_dir():
        with _new_adapter(target) as temporary:
            shutil.copytree(source / ADAPTER, temporary)


def load_adapted(encoder: AnyEncoder, folder: Path, *, trainable: bool = False) -> AnyEncoder:
    """Give a copy of the pretrained `encoder` as it was trained.

    Args:
        encoder: Pretrained; not changed.
        folder: What `save_adapted` wrote to; without anything saved the copy stays pretrained.
        trainable: Let the adapter learn on.

    Raises:
        RunError: The files are damaged.
    """
    copied = copy.deepcopy(encoder)
    try:
        if (folder / WEIGHTS).is_file():
            load_model(copied.backbone, str(folder / WEIGHTS))
        elif is_saved(folder):
            check_config(folder / ADAPTER)
            # PEFT draws initial weights before it reads the saved ones
            with torch.random.fork_rng(), without_peft_noise():
                copied.backbone = PeftModel.from_pretrained(
                    copied.backbone,
                    str(folder / ADAPTER),
                    is_trainable=trainable,
                )
                check_tensors(copied.backbone, folder / ADAPTER)
    except RunError:
        raise
    except _UNREADABLE as error:
        raise _damaged(folder, error) from error
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


def load_head(path: Path, *, classes: int | None = None, features: int | None = None) -> nn.Linear:
    """Read a linear head.

    Args:
        path: What `save_head` wrote.
        classes: How many it must tell apart; None takes any number.
        features: Length of the feature vectors it must take; None takes any.

    Raises:
        RunError: The file is missing, damaged, or of another shape.
    """
    if not path.is_file():
        raise RunError(
            f"head {str(path)!r} is missing: the run folder is incomplete, fit it again with "
            "--force"
        )
    try:
        state = load_file(str(path))
        rows, width = state["weight"].shape
        if (classes or rows, features or width) != (rows, width):
            raise ValueError(
                f"{rows} classes by {width} features, where the run has {classes} by {features}"
            )
        head = zero_linear(width, rows)
        head.load_state_dict(state)  # all tensors of the right shape, and no others
    except _UNREADABLE as error:
        raise _damaged(path, error) from error
    return head.requires_grad_(requires_grad=False)


def _damaged(path: Path, error: Exception) -> RunError:
    reason = " ".join(str(error).split())
    return RunError(
        f"trained weights in {str(path)!r} are damaged ({reason}): fit the run again with --force"
    )
