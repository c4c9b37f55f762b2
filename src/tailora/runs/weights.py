"""Save and load trained weights: an adapter in PEFT's format or all weights, and a head."""

import copy
import dataclasses
import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import peft
import torch
from peft import PeftModel, get_peft_model_state_dict
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from tailora import registry
from tailora.adapters import tuner_names, without_peft_noise
from tailora.errors import ConfigError, RunError
from tailora.heads.linear_probe import zero_linear
from tailora.heads.probe import empty_head
from tailora.heads.probes import find_probe
from tailora.storage import guard_disk, read_json, typed, write_atomically, write_json
from tailora.train.base_adaptation import AnyEncoder

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
_NAME: Final = re.compile(r"[A-Za-z0-9_.\-]{1,300}")
# keys by which PEFT finds layers; a single string is a regular expression
_LAYERS: Final = (
    "target_modules", "exclude_modules", "modules_to_save", "layers_pattern", "target_parameters",
    "feedforward_modules", "trainable_token_indices",
)  # fmt: skip
_BY_LAYER: Final = ("rank_pattern", "alpha_pattern")
# keys that import modules, read files or repeat layers
_NEVER: Final = (
    "megatron_config", "layer_replication", "corda_config", "lora_ga_config", "loftq_config",
    "eva_config",
)  # fmt: skip
_LARGEST: Final = 2**31


def write_config(model: PeftModel, folder: Path) -> None:
    """Rewrite PEFT's config with its sets sorted, so that equal runs write equal bytes.

    Args:
        model: The adapter.
        folder: Where PEFT saved it.
    """
    (config,) = model.peft_config.values()
    entry = read_json(folder / CONFIG)
    for key, value in entry.items():
        if isinstance(value, list) and isinstance(getattr(config, key, None), set):
            entry[key] = sorted(value)
    write_json(folder / CONFIG, entry)


def check_config(folder: Path) -> None:
    """Reject an adapter config that is damaged or unsafe to load.

    Raises:
        RunError: It is damaged, or holds more than names and numbers.
    """
    path = folder / CONFIG
    entry = read_json(path)
    if not isinstance(entry, dict) or str(entry.get("peft_type")).lower() not in tuner_names():
        raise _refused(path, "it names no known tuner")
    known = {item.name for item in dataclasses.fields(_config_class(entry["peft_type"]))}
    for key, value in entry.items():
        if key not in known and value:  # PEFT would ignore it, and build another adapter
            raise _refused(path, f"{key} is unknown to PEFT {peft.__version__}")
        if key in _NEVER and value:
            raise _refused(path, f"{key} is not supported")
        if key in _LAYERS and not _are_names(value):
            raise _refused(path, f"{key} must list names of layers")
        if key in _BY_LAYER and value and not (isinstance(value, dict) and _are_names([*value])):
            raise _refused(path, f"{key} must be keyed by names of layers")
    _check_counts(path, entry, _shapes(folder))


def check_tensors(model: PeftModel, folder: Path) -> None:
    """Compare the tensors that the config implies with those that were saved.

    Raises:
        RunError: Tensors are missing, superfluous or of the wrong shape.
    """
    (adapter,) = model.peft_config
    state = get_peft_model_state_dict(model, adapter_name=adapter, save_embedding_layers=False)
    wanted = {name: tuple(tensor.shape) for name, tensor in state.items()}
    saved = _shapes(folder)
    if odd := sorted(wanted.items() ^ saved.items()):
        raise RunError(
            f"{str(folder / CONFIG)!r} names other layers than {TENSORS} holds, e.g. {odd[0][0]!r} "
            f"({len(odd)} differ): fit the run again with --force"
        )


def _config_class(kind: str) -> type[peft.PeftConfig]:
    return peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(kind.upper())]


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    with safe_open(str(folder / TENSORS), "pt") as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def _are_names(value: Any) -> bool:
    return value is None or (
        isinstance(value, list)
        and all(isinstance(name, str) and _NAME.fullmatch(name) for name in value)
    )


def _check_counts(path: Path, entry: Mapping[str, Any], shapes: Mapping[str, Any]) -> None:
    """Reject a rank larger than any saved tensor, and absurdly large numbers."""
    largest = max((size for shape in shapes.values() for size in shape), default=0)
    for key, value in _numbers(entry):
        if abs(value) > _LARGEST or (key in ("r", "init_r", "target_r") and value > largest):
            raise _refused(path, f"{key} is {value:g}, more than any saved tensor allows")


def _numbers(entry: Mapping[str, Any]) -> list[tuple[str, float]]:
    found = []
    for key, value in entry.items():
        inner = value.values() if isinstance(value, dict) else [value]
        found += [
            ("r" if key == "rank_pattern" else key, number)
            for number in inner
            if isinstance(number, int | float) and not isinstance(number, bool)
        ]
    return found


def _refused(path: Path, reason: str) -> RunError:
    return RunError(f"{str(path)!r} cannot be used: {reason}; fit the run again with --force")


ADAPTER, WEIGHTS, DETECTOR = "adapter", "backbone.safetensors", "detector.safetensors"
OTHER_HEAD: Final = "other-head"
"""Stem of the file of the head that the run's is shown beside."""
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
    """Write the adapter to `folder/adapter`, or all weights if the whole encoder was trained.

    Raises:
        StorageError: The disk is full; no partly written file is left under its final name.
    """
    backbone = encoder.backbone
    if not isinstance(backbone, PeftModel):
        write_atomically(folder / WEIGHTS, lambda path: save_model(backbone, str(path)))
        return
    with _new_adapter(folder) as temporary, without_peft_noise():
        card = temporary / "README.md"  # PEFT would fill in a template, most of the time it takes
        temporary.mkdir()
        card.write_text("---\nlibrary_name: peft\n---\n", "utf-8")
        # an encoder has no vocabulary, and PEFT would ask the hub for one
        backbone.save_pretrained(str(temporary), save_embedding_layers=False)
        card.unlink()
        write_config(backbone, temporary)


@contextmanager
def _new_adapter(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder/adapter` on success."""
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
    """Return whether `save_adapted` has finished here."""
    files = [folder / ADAPTER / name for name in (CONFIG, TENSORS)]
    return (folder / WEIGHTS).is_file() or all(file.is_file() for file in files)


def copy_saved(source: Path, target: Path) -> None:
    """Copy what `save_adapted` and `save_head` wrote, and a detector, to another folder.

    Raises:
        StorageError: The disk is full; no partly written file is left under its final name.
    """
    for name in ("head.json", "head.safetensors", f"{OTHER_HEAD}.safetensors", WEIGHTS, DETECTOR):
        if (source / name).is_file():
            write_atomically(target / name, partial(shutil.copyfile, source / name))
    if (source / ADAPTER).is_dir():
        with _new_adapter(target) as temporary:
            shutil.copytree(source / ADAPTER, temporary)


def load_adapted(encoder: AnyEncoder, folder: Path, *, trainable: bool = False) -> AnyEncoder:
    """Return a copy of the pretrained `encoder` with the trained weights.

    Args:
        encoder: Pretrained; not changed.
        folder: Folder that `save_adapted` wrote to; if nothing was saved, the copy stays
            pretrained.
        trainable: Keep the adapter trainable.

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
    """SHA-256 of what `save_adapted` wrote; `"pretrained"` if it wrote nothing."""
    for path in (folder / WEIGHTS, folder / ADAPTER / "adapter_model.safetensors"):
        if path.is_file():
            return hashlib.sha256(path.read_bytes()).hexdigest()
    return "pretrained"


_Size = Annotated[int, Field(ge=1, le=2**31)]


@dataclasses.dataclass(frozen=True)
class HeadFacts:
    """What is needed to rebuild a head before its weights are loaded.

    Args:
        name: One of `heads.probes.probe_names()`.
        options: Options of the head.
        width: Length of the feature vectors it takes.
        classes: Number of classes.
    """

    name: str
    options: dict[str, Any]
    width: _Size
    classes: _Size


def save_head(head: nn.Module, path: Path, facts: HeadFacts | None = None) -> None:
    """Write a head as safetensors, with a `.json` beside it unless it is a linear layer.

    Args:
        head: Maps features (rows, width) to logits (rows, classes).
        path: Ends in `.safetensors`; for a linear layer it holds `weight` (classes, features) and
            `bias` (classes,).
        facts: Of any other head; all options are written, since defaults may change.

    Raises:
        StorageError: The disk is full; no partly written file is left under its final name.
    """
    if facts is None or type(head) is nn.Linear:
        path.with_suffix(".json").unlink(missing_ok=True)
    else:
        options = find_probe(facts.name).options | facts.options
        write_json(path.with_suffix(".json"), dataclasses.asdict(facts) | {"options": options})
    state = {name: tensor.detach().contiguous() for name, tensor in head.state_dict().items()}
    write_atomically(path, lambda temporary: save_file(state, str(temporary)))


def load_head(path: Path, *, classes: int | None = None, features: int | None = None) -> nn.Module:
    """Read a head, frozen and in evaluation mode; one without `.json` is a linear layer.

    Args:
        path: File that `save_head` wrote.
        classes: Required number of classes; None accepts any.
        features: Required length of the feature vectors; None accepts any.

    Raises:
        RunError: A file is missing or damaged, or has the wrong shape.
    """
    if not path.is_file():
        raise RunError(
            f"head {str(path)!r} is missing: the run folder is incomplete, fit it again with "
            "--force"
        )
    facts = path.with_suffix(".json")
    head = _empty_head(facts, classes, features) if facts.is_file() else None
    try:
        state = load_file(str(path))
        if head is None:
            rows, width = state["weight"].shape
            if (classes or rows, features or width) != (rows, width):
                raise ValueError(
                    f"{rows} classes by {width} features, but the run has {classes} by {features}"
                )
            head = zero_linear(width, rows)
        head.load_state_dict(state)  # strict: exactly these tensors, of the right shapes
    except _UNREADABLE as error:
        raise _damaged(path, error) from error
    return head.requires_grad_(requires_grad=False).eval()


def load_into(module: nn.Module, path: Path) -> nn.Module:
    """Give a module the weights that `save_head` wrote; frozen and in evaluation mode.

    Raises:
        RunError: The file is missing or damaged, or holds other tensors.
    """
    if not path.is_file():
        raise RunError(
            f"{str(path)!r} is missing: the run folder is incomplete, fit it again with --force"
        )
    try:
        module.load_state_dict(load_file(str(path)))
    except _UNREADABLE as error:
        raise _damaged(path, error) from error
    return module.requires_grad_(requires_grad=False).eval()


def _empty_head(path: Path, classes: int | None, features: int | None) -> nn.Module:
    facts = typed(HeadFacts, read_json(path), path)
    if (classes or facts.classes, features or facts.width) != (facts.classes, facts.width):
        raise _refused(
            path,
            f"it has {facts.classes} classes by {facts.width} features, but the run has "
            f"{classes} by {features}",
        )
    try:
        probe = find_probe(facts.name)
    except ConfigError as error:
        needed = "" if facts.name.startswith(registry.OBJECT) else _NEEDED
        raise RunError(f"{str(path)!r} cannot be used: {error}{needed}") from error
    try:
        if unknown := sorted(facts.options.keys() - probe.known(facts.options)):
            raise ConfigError(f"probe {facts.name!r} has no option {unknown[0]!r}")
        return empty_head(probe, facts.width, facts.classes, facts.options)
    except (ConfigError, TypeError) as error:
        raise _refused(path, str(error)) from error


_NEEDED: Final = "; a head from a plugin needs that package installed"


def _damaged(path: Path, error: Exception) -> RunError:
    reason = " ".join(str(error).split())
    return RunError(
        f"trained weights in {str(path)!r} are damaged ({reason}): fit the run again with --force"
    )
