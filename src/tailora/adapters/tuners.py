"""PEFT tuners that can replace LoRA, and how each takes a rank."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tailora.adapters.spec import AdapterSpec
from tailora.errors import ConfigError, unknown_name
from tailora.source import definition

if TYPE_CHECKING:
    from peft import PeftConfig

# PEFT tuners that change prompts, vocabularies or whole models, not the layers of an encoder
_NOT_FOR_ENCODERS: Final = {
    "adaption_prompt", "cartridge", "cpt", "multitask_prompt_tuning", "osf", "p_tuning", "poly",
    "prefix_tuning", "prompt_tuning", "shadow", "trainable_tokens", "xlora",
}  # fmt: skip
DEFAULT_RANK: Final = 8
"""Default rank of tuners that have one."""


def tuner_names() -> list[str]:
    """Return every tuner by name, e.g. `lora`, `loha`, `boft`; lower case."""
    found = definition("peft.utils.peft_types", "PeftType")  # importing PEFT takes seconds
    known = set() if found is None else {str(kind).lower() for kind in found.attributes().values()}
    return sorted((known | set(_LORA_VARIANTS)) - _NOT_FOR_ENCODERS)


# LoRA variants that are an option of LoRA in PEFT
_LORA_VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
}


def resolve_rank(tuner: str, rank: int | None) -> int | None:
    """Return the rank a tuner will use, None for tuners without a rank.

    Raises:
        ConfigError: Unknown tuner, a rank below 1, or a rank for a tuner that has none.
    """
    fields = _fields(tuner)
    if "r" not in fields:
        if rank is not None:
            raise ConfigError(f"tuner {tuner!r} has no rank, got rank={rank}; leave the rank out")
        return None
    rank = DEFAULT_RANK if rank is None else rank
    if rank < 1:
        raise ConfigError(f"rank must be at least 1, got {rank}")
    return rank


def build_config(
    tuner: str, *, rank: int | None, targets: Sequence[str], options: Mapping[str, Any]
) -> "PeftConfig":
    """Build the PEFT configuration of a tuner.

    Args:
        tuner: A name of `tuner_names()`.
        rank: See `resolve_rank`.
        targets: Full names of the layers to adapt.
        options: Passed unchanged to the tuner's PEFT configuration; they override our defaults
            (`lora_alpha` or `alpha` = 2 x rank).

    Raises:
        ConfigError: Unknown tuner or option, or a value PEFT rejects.
    """
    check_tuner_options(tuner, options)
    values = {"target_modules": list(targets), **_defaults(tuner, resolve_rank(tuner, rank))}
    if tuner == "oft" and "oft_block_size" in options:
        values["r"] = 0  # rank and block size determine each other: PEFT takes one of them
    try:
        return _config_class(tuner)(**(values | dict(options)))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"tuner {tuner!r} rejects its options: {_one_line(error)}") from error


def check_tuner_options(tuner: str, options: Iterable[str]) -> None:
    """Reject the names of options that a tuner does not have.

    Args:
        tuner: A name of `tuner_names()`.
        options: Names.

    Raises:
        ConfigError: Unknown tuner or option.
    """
    fields = _fields(tuner)
    for name in options:
        if name not in fields:
            raise unknown_name(f"option of tuner {tuner!r}", name, fields)


# what PEFT notes by itself, and what a specification says otherwise
_NO_OPTIONS: Final = (
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version", "r",
    "revision", "target_modules", "task_type",
)  # fmt: skip


def spec_of(config: "PeftConfig") -> AdapterSpec:
    """Return the specification of an adapter that a PEFT configuration describes.

    What differs from the configuration that a specification alone gives are its options, so that a
    recipe holds all of it; but for `total_step` of AdaLoRA, which a run knows better.

    Raises:
        ConfigError: The tuner is none for encoders, its layers are a pattern, or an option is no
            plain value.
    """
    tuner = str(getattr(config.peft_type, "value", config.peft_type)).lower()
    if tuner not in tuner_names():
        raise unknown_name("tuner", tuner, tuner_names())
    layers: Any = getattr(config, "target_modules", None)
    if isinstance(layers, str):
        raise ConfigError(
            f"target_modules={layers!r} is a pattern; list endings of names of layers, or leave it "
            "out and they are found"
        )
    adalora = tuner == "adalora"
    rank = getattr(config, "init_r" if adalora else "r", None)
    planned = {"total_step": 1} if adalora else {}  # which PEFT cannot do without
    plain = build_config(tuner, rank=rank, targets=[], options=planned)
    left_out = {*_NO_OPTIONS, *(["init_r", "total_step"] if adalora else [])}
    options = {}
    for name in sorted(_fields(tuner) - left_out):
        value = getattr(config, name)
        if value != getattr(plain, name):
            options[name] = _plain(name, value)
    return AdapterSpec(tuner, rank, sorted(layers or ()), options)


def _plain(name: str, value: object) -> Any:
    value = getattr(value, "value", value)  # of an enumeration
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, bool | int | float | str | list | dict):
        return value
    raise ConfigError(f"{name}={value!r} of the PEFT config cannot stand in a recipe: leave it out")


def _defaults(tuner: str, rank: int | None) -> dict[str, Any]:
    """Return our defaults where PEFT's do not suit any encoder or any rank."""
    values = dict(_LORA_VARIANTS.get(tuner, {}))
    if rank is not None:
        values["r"] = rank
        values |= {name: 2 * rank for name in ("lora_alpha", "alpha") if name in _fields(tuner)}
    if tuner == "ia3":
        values["feedforward_modules"] = []  # scale the attention outputs, as for its keys
    if tuner == "oft":
        values["oft_block_size"] = 0
    if tuner == "adalora":
        full = values.pop("r")  # AdaLoRA uses other names for its ranks and warns about this one
        if full < 2:
            raise ConfigError("tuner 'adalora' halves its rank, so it needs a rank of at least 2")
        values |= {"init_r": full, "target_r": full // 2}
    return values


def _config_class(tuner: str) -> Any:
    if tuner not in tuner_names():
        raise unknown_name("tuner", tuner, tuner_names())
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    base = "lora" if tuner in _LORA_VARIANTS else tuner
    return next(
        config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items() if kind.value.lower() == base
    )


def _fields(tuner: str) -> set[str]:
    return {field.name for field in dataclasses.fields(_config_class(tuner)) if field.init}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
