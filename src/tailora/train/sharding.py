"""Fine-tuning of encoders too large for one device: each process holds a part of every weight.

Weights, gradients and the optimiser's moments of the encoder are divided by rows among the
processes; a layer is whole only while it is computed. What is saved is whole, and so a run may be
resumed by another number of processes. An adapter has nothing to divide.

Reference: Zhao et al., PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel, VLDB 2023.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn


def shard(backbone: nn.Module, accelerator: Accelerator) -> None:
    """Divide the weights of a model among the processes, in place.

    Args:
        backbone: All of it learns; on the process's device. Its longest list of layers is divided
            layer by layer, the rest as one.
        accelerator: Knows the processes.
    """
    # torch imports a second's worth of modules for these, which nothing else here needs
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    lists = [part for part in backbone.modules() if isinstance(part, nn.ModuleList)]
    layers = max(lists, key=len, default=())
    for part in (*layers, backbone):
        # each process weights its own share of the batch, so gradients are summed, not averaged
        divided = fully_shard(part, mesh=mesh)
        divided.set_gradient_divide_factor(1.0)
        divided.set_force_sum_reduction_for_comms(enable=True)  # gloo knows no scaled sum


def is_sharded(tensor: object) -> bool:
    """Return whether a process holds only a part of a tensor."""
    return hasattr(tensor, "full_tensor")


def whole(value: Any) -> Any:
    """Put sharded tensors together, wherever they are in a state; all processes call this alike."""
    return _of_each(value, lambda one: one.full_tensor().cpu() if is_sharded(one) else one)


def kept(value: Any) -> Any:
    """Copy a whole state to memory that no training changes."""
    return _of_each(value, lambda one: one.to("cpu", copy=True) if isinstance(one, Tensor) else one)


def _of_each(value: Any, do: Callable[[Any], Any]) -> Any:
    if isinstance(value, Mapping):
        return {key: _of_each(inner, do) for key, inner in value.items()}
    if isinstance(value, list):
        return [_of_each(inner, do) for inner in value]
    return do(value)


def divided_like(tensor: Tensor, example: Any) -> Tensor:
    """Divide a whole tensor as `example` is, or leave it as it is."""
    if not is_sharded(example):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(
        tensor.to(example.device), example.device_mesh, example.placements, src_data_rank=None
    )


def divide_moments(state: dict[str, Any], parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    """Divide an optimiser's whole state as its parameters are.

    Args:
        state: Of `optimizer.state_dict()`, whole.
        parameters: Of the optimiser, in its order.
    """
    moments = {
        index: {
            name: divided_like(value, parameters[index])
            if isinstance(value, Tensor) and value.shape == parameters[index].shape
            else value
            for name, value in kept.items()
        }
        for index, kept in state["state"].items()
    }
    return {**state, "state": moments}


def by_kind(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Part whole parameters from sharded ones: no operation takes both together."""
    every = list(parameters)
    kinds = [[p for p in every if is_sharded(p) is kind] for kind in (False, True)]
    return [kind for kind in kinds if kind]


def clip_gradients(parameters: Iterable[nn.Parameter], longest: float) -> Tensor:
    """Shorten the gradient of all parameters to at most `longest`; give its length before."""
    kinds = by_kind(parameters)
    if len(kinds) == 1 and not is_sharded(kinds[0][0]):
        return nn.utils.clip_grad_norm_(kinds[0], longest)
    norms = [
        whole(nn.utils.get_total_norm([p.grad for p in kind if p.grad is not None]))
        for kind in kinds
    ]
    total = torch.stack([norm.to(norms[0]) for norm in norms]).norm()
    for kind in kinds:
        nn.utils.clip_grads_with_norm_(kind, longest, total.to(kind[0].device))
    return total
