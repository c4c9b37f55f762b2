"""The optimisers of a training, by name: one for all, or one for matrices and one for the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import nn

from tailora import registry
from tailora.backbones.stem import NewBands
from tailora.errors import ConfigError
from tailora.optim.adamw import adamw
from tailora.optim.muon import adapter_matrices
from tailora.train.sharding import by_kind

DEFAULT: Final = "adamw"
ENCODER: Final = "encoder"


@dataclass(frozen=True)
class OptimizerChoice:
    """An optimiser of `tailora methods` with its options."""

    name: str = DEFAULT
    options: Mapping[str, Any] = field(default_factory=dict)


def build_optimizers(
    module: nn.Module, choice: OptimizerChoice, *, lr: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Make the optimisers of all parameters of `module` that require a gradient.

    Any other than AdamW moves the matrices of the adapter, or of the whole encoder where it is
    trained; what is left (the head, norms, biases, embeddings) is AdamW's.

    Args:
        module: With the encoder as its part `encoder`, if the choice is not AdamW.
        choice: By name.
        lr: Peak learning rate of all, unless the options have another for the matrices; kernels of
            new bands have a share of it.
        weight_decay: Of all, unless the options have another for the matrices.

    Raises:
        ConfigError: An unknown optimiser, an option it does not have or cannot use, or an encoder
            without a matrix to train.
    """
    method = registry.find("optim", choice.name)
    learning = [p for p in module.parameters() if p.requires_grad]
    rates = _own_rates(module)
    if choice.name == DEFAULT:
        facts = {"params": _groups(learning, rates, lr), "lr": lr, "weight_decay": weight_decay}
        return [registry.build(method, facts, choice.options)]
    matrices, _ = adapter_matrices(module.get_submodule(ENCODER))
    if not matrices:
        raise ConfigError(
            f"optimizer {choice.name!r} moves matrices, and this adapter trains none; choose "
            "another --tuner or train.optimizer=adamw"
        )
    moved = {id(parameter) for parameter in matrices}
    both = {"lr": lr, "weight_decay": weight_decay}
    rest = [p for p in learning if id(p) not in moved]
    first = registry.build(method, {"params": matrices}, {**both, **choice.options})
    return [first, *([adamw(_groups(rest, rates, lr), lr, weight_decay)] if rest else [])]


def _own_rates(module: nn.Module) -> dict[int, float]:
    """Share of the learning rate for parameters that have their own, by identity."""
    stems = [m for m in module.modules() if isinstance(m, NewBands)]
    return {id(p): stem.rate for stem in stems for p in stem.parameters()}


def _groups(
    parameters: Sequence[nn.Parameter], rates: Mapping[int, float], lr: float
) -> list[dict[str, Any]]:
    """Part parameters by kind and by learning rate."""
    shares = dict.fromkeys(rates.get(id(p), 1.0) for p in parameters)
    return [
        {"params": kind, "lr": lr * share}
        for share in shares
        for kind in by_kind(p for p in parameters if rates.get(id(p), 1.0) == share)
    ]
