"""`adapter_config.json` as it is written, and what it may say before PEFT acts on it.

PEFT takes strings as regular expressions, counts as sizes of tensors, and names of modules to
import; here a config holds plain layer names and numbers that the saved tensors bear out.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import peft
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open

from tailora.adapters import tuner_names
from tailora.errors import RunError
from tailora.storage import read_json, write_json

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
_NAME: Final = re.compile(r"[A-Za-z0-9_.\-]{1,300}")
# keys by which PEFT finds layers; given as one string they are regular expressions
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
    """Write what PEFT wrote again, alike in every run: its sets come in any order.

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
    """Refuse a config that PEFT should not act on.

    Raises:
        RunError: It is damaged, or holds more than names and numbers.
    """
    path = folder / CONFIG
    entry = read_json(path)
    if not isinstance(entry, dict) or str(entry.get("peft_type")).lower() not in tuner_names():
        raise _refused(path, "it names no tuner")
    known = {item.name for item in dataclasses.fields(_config_class(entry["peft_type"]))}
    for key, value in entry.items():
        if key not in known and value:  # PEFT would leave it out, and the adapter be another
            raise _refused(path, f"{key} is unknown to PEFT {peft.__version__}")
        if key in _NEVER and value:
            raise _refused(path, f"{key} is not supported")
        if key in _LAYERS and not _are_names(value):
            raise _refused(path, f"{key} must list names of layers")
        if key in _BY_LAYER and value and not (isinstance(value, dict) and _are_names([*value])):
            raise _refused(path, f"{key} must be keyed by names of layers")
    _check_counts(path, entry, _shapes(folder))


def check_tensors(model: PeftModel, folder: Path) -> None:
    """Compare the tensors that a config asks for with those that were saved.

    Raises:
        RunError: Some are missing, left over or of another shape.
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
    """No rank is larger than every tensor that was saved; no number is beyond sense."""
    largest = max((size for shape in shapes.values() for size in shape), default=0)
    for key, value in _numbers(entry):
        if abs(value) > _LARGEST or (key in ("r", "init_r", "target_r") and value > largest):
            raise _refused(path, f"{key} is {value:g}, more than any saved tensor bears out")


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
