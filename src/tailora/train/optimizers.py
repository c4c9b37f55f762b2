"""The optimisers of a training, by name: one for all, or one for matrices and one for the rest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import nn

from tailora import catalogue
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
        lr: Peak learning rate of all, unless the options have another for the matrices.
        weight_decay: AdamW's.

    Raises:
        ConfigError: An unknown optimiser, an option it does not have or cannot use, or an encoder
            without a matrix to train.
    """
    method = catalogue.find("optim", choice.name)
    learning = [p for p in module.parameters() if p.requires_grad]
    if choice.name == DEFAULT:
        kinds = [{"params": kind} for kind in by_kind(learning)]
        facts = {"params": kinds, "lr": lr, "weight_decay": weight_decay}
        return [catalogue.build(method, facts, choice.options)]
    matrices, _ = adapter_matrices(module.get_submodule(ENCODER))
    if not matrices:
        raise ConfigError(
            f"optimizer {choice.name!r} moves matrices, and this adapter trains none; choose "
            "another --tuner or train.optimizer=adamw"
        )
    moved = {id(parameter) for parameter in matrices}
    rest = [p for p in learning if id(p) not in moved]
    first = catalogue.build(method, {"params": matrices}, {"lr": lr, **choice.options})
    return [first, *([adamw(rest, lr, weight_decay)] if rest else [])]
