"""What a run can be launched under."""

import os
from typing import Final

import torch
from accelerate import Accelerator, DistributedType

from tailora.errors import ConfigError
from tailora.launcher import launched

_DIVIDING: Final = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "XLA")


def make_accelerator() -> Accelerator:
    """Let Accelerate choose the device and find the other processes, also where there is no GPU."""
    return Accelerator(cpu=launched() > 1 and not torch.accelerator.is_available())


def check_launch(accelerator: Accelerator) -> None:
    """Refuse what a launcher asks for and a run would not do.

    Raises:
        ConfigError: The model is to be divided among processes, or a precision is given that the
            recipe does not know of.
    """
    kind = DistributedType(accelerator.distributed_type).value
    if kind in _DIVIDING:
        raise ConfigError(
            f"launched under {kind}, which a recipe does not record: launch without it, and lower "
            "memory by compute.micro_batch, compute.checkpointing or, with --method fine-tune, "
            "compute.shard"
        )
    if accelerator.num_processes != launched():
        raise ConfigError(
            f"{launched()} processes were launched, but Accelerate joins "
            f"{accelerator.num_processes}: each would do the whole run; launch with torchrun, or "
            "with one process"
        )
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if precision not in ("no", "fp32"):
        raise ConfigError(
            f"precision {precision!r} was given to the launcher, where no recipe records it; give "
            "it to the run instead, --set compute.precision=bf16"
        )
