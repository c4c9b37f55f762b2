"""AdaLoRA, the one tuner that changes its shape while it trains: it moves ranks between layers."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from peft import AdaLoraModel, PeftModel
from torch import Tensor, nn

_IMPORTANCES: Final = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # PEFT's: now, mean, deviation


def after_step(module: nn.Module, step: int) -> None:
    """Let AdaLoRA re-plan its ranks until they are cut to size; other modules need nothing."""
    tuner = _adalora(module)
    if tuner is not None and not _is_cut(tuner):
        tuner.update_and_allocate(step)


def orthogonality(module: nn.Module) -> Tensor | None:
    """Give AdaLoRA's term of the loss, None for other modules.

    Its singular values mean something only between orthonormal bases P and Q, so the loss grows
    with |P'P - I| and |QQ' - I| (Zhang et al., ICLR 2023, equation 4), as PEFT has it: the mean of
    the Frobenius norms times `orth_reg_weight`. PEFT adds it to a loss that the wrapped model
    returns, and encoders return none.
    """
    tuner = _adalora(module)
    weight = 0.0 if tuner is None else _config(tuner).orth_reg_weight
    if tuner is None or not weight:
        return None
    bases = [p for n, p in tuner.named_parameters() if ".lora_A." in n]
    bases += [p.T for n, p in tuner.named_parameters() if ".lora_B." in n]
    apart = [torch.linalg.matrix_norm(q @ q.T - torch.eye(len(q)).to(q)) for q in bases]
    return weight * torch.stack(apart).mean()


def allocation(module: nn.Module) -> dict[str, Any]:
    """Give what `after_step` remembers from step to step; empty for other modules."""
    tuner = _adalora(module)
    if tuner is None:
        return {}
    return {
        "importance": {name: getattr(tuner.rankallocator, name) for name in _IMPORTANCES},
        "rank_pattern": _config(tuner).rank_pattern,
    }


def restore_allocation(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Put back what `allocation` gave."""
    tuner = _adalora(module)
    if tuner is None:
        return
    device = next(tuner.parameters()).device
    for name, tensors in state["importance"].items():
        moved = {key: tensor.to(device) for key, tensor in tensors.items()}
        setattr(tuner.rankallocator, name, moved)
    _config(tuner).rank_pattern = state["rank_pattern"]


def cut_ranks(module: nn.Module) -> None:
    """Remove the ranks that AdaLoRA has masked, as saving and opening it does.

    Whoever trains on from here trains what is left: a second round of planning would halve the
    ranks again.
    """
    tuner = _adalora(module)
    if tuner is None or _is_cut(tuner) or not _config(tuner).rank_pattern:
        return
    with torch.random.fork_rng():  # PEFT draws new weights before it copies the old ones
        tuner.resize_modules_by_rank_pattern(_config(tuner).rank_pattern, _name(tuner))


def _adalora(module: nn.Module) -> AdaLoraModel | None:
    if isinstance(module, PeftModel) and isinstance(module.base_model, AdaLoraModel):
        return module.base_model
    return None


def _name(tuner: AdaLoraModel) -> str:
    return tuner.trainable_adapter_name


def _config(tuner: AdaLoraModel) -> Any:
    return tuner.peft_config[_name(tuner)]


def _is_cut(tuner: AdaLoraModel) -> bool:
    full = _config(tuner).init_r
    return any(len(p) < full for name, p in tuner.named_parameters() if ".lora_E." in name)
