"""AdaLoRA, the one tuner that changes shape in training: it moves ranks between layers."""

from collections.abc import Mapping
from typing import Any, Final

import torch
from peft import AdaLoraModel, PeftModel
from torch import Tensor, nn

_IMPORTANCES: Final = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # PEFT's: now, mean, deviation


def after_step(module: nn.Module, step: int) -> None:
    """Let AdaLoRA reallocate its ranks until the budget is met; a no-op for other modules."""
    tuner = _adalora(module)
    if tuner is not None and not _is_cut(tuner):
        tuner.update_and_allocate(step)


def orthogonality(module: nn.Module) -> Tensor | None:
    """Return AdaLoRA's loss term, None for other modules.

    Its singular values are meaningful only for orthonormal bases P and Q, so |P'P - I| and |QQ' -
    I| are penalised (Zhang et al., ICLR 2023, equation 4), as in PEFT: the mean of the Frobenius
    norms times `orth_reg_weight`. PEFT adds it to the loss of the wrapped model, and encoders have
    none.
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
    """Return the state that `after_step` keeps between steps; empty for other modules."""
    tuner = _adalora(module)
    if tuner is None:
        return {}
    return {
        "importance": {name: getattr(tuner.rankallocator, name) for name in _IMPORTANCES},
        "rank_pattern": _config(tuner).rank_pattern,
    }


def restore_allocation(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Restore the state returned by `allocation`."""
    tuner = _adalora(module)
    if tuner is None:
        return
    device = next(tuner.parameters()).device
    for name, tensors in state["importance"].items():
        moved = {key: tensor.to(device) for key, tensor in tensors.items()}
        setattr(tuner.rankallocator, name, moved)
    _config(tuner).rank_pattern = state["rank_pattern"]


def cut_ranks(module: nn.Module) -> None:
    """Remove the ranks that AdaLoRA has masked, as saving and loading does.

    Further training uses the remaining ranks: a second allocation would halve them again.
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
