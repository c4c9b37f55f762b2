"""Muon: momentum SGD with orthogonalised updates of matrices (Jordan et al. 2024)."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Final, final

import torch
from torch import Tensor, nn

from tailora.errors import ConfigError, unknown_name

COEFFICIENTS: Final = (3.4445, -4.7750, 2.0315)
ADJUSTMENTS: Final = ("original", "match_rms_adamw")


def orthogonalised(
    matrix: Tensor, *, steps: int = 5, eps: float = 1e-7, dtype: torch.dtype = torch.bfloat16
) -> Tensor:
    """Move a matrix's singular values towards 1, to about [0.7, 1.15], keeping its vectors.

    Newton-Schulz iterations of a quintic polynomial chosen to rise fast from 0, not to converge:
    exact orthogonality was found not to matter.

    Args:
        matrix: (rows, columns).
        steps: Number of iterations, at least 0; 5 lift all singular values above a fiftieth of the
            norm.
        eps: Added to the norm, so that a zero gradient stays 0.
        dtype: Of the products; float32 for tests on a CPU.

    Returns:
        (rows, columns) in the dtype of `matrix`.

    Reference:
        Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024.
    """
    a, b, c = COEFFICIENTS
    x = matrix.to(dtype)
    x = x / (x.norm() + eps)
    tall = matrix.shape[0] > matrix.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


def step_scale(rows: int, columns: int, adjustment: str) -> float:
    """Return a matrix's update scale: sqrt(max(1, rows / columns)), or 0.2 sqrt(longer side).

    Raises:
        ConfigError: Unknown adjustment.
    """
    if adjustment not in ADJUSTMENTS:
        raise unknown_name("adjustment of Muon's updates", adjustment, ADJUSTMENTS)
    if adjustment == "original":
        return math.sqrt(max(1.0, rows / columns))
    return 0.2 * math.sqrt(max(rows, columns))


@final
class MatrixMuon(torch.optim.Optimizer):
    """Muon for any torch version, for matrices and for convolutions reshaped to matrices.

    All directions of a gradient update a matrix equally, so rare classes are learnt as fast as
    frequent ones.

    Args:
        params: Matrices, or convolutions, reshaped to (outputs, the rest).
        lr: Learning rate, at least 0.
        weight_decay: Decoupled, at least 0.
        momentum: In [0, 1).
        nesterov: Use Nesterov momentum.
        steps: Newton-Schulz iterations.
        adjustment: `"original"`, or `"match_rms_adamw"`, whose updates have the size of AdamW's, so
            that its learning rates can be used.
        dtype: Of the Newton-Schulz products.

    Raises:
        ConfigError: A parameter is not a matrix, or an option is out of range.

    Reference:
        Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        steps: int = 5,
        adjustment: str = "original",
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        step_scale(1, 1, adjustment)  # refuses an unknown one
        if not (0 <= lr < math.inf and 0 <= weight_decay < math.inf and 0 <= momentum < 1):
            raise ConfigError(
                "lr and weight_decay must be finite and at least 0, momentum in [0, 1), got "
                f"{lr!r}, {weight_decay!r} and {momentum!r}"
            )
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "steps": steps,
            "adjustment": adjustment,
            "dtype": dtype,
        }
        super().__init__(params, defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim < 2:
                    raise ConfigError(
                        "Muon needs matrices, got a parameter of shape "
                        f"{tuple(parameter.shape)}; use AdamW for it"
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; `closure` re-evaluates the loss, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        mean, beta = state["momentum"], group["momentum"]
        mean.lerp_(gradient, 1 - beta)
        update = gradient.lerp(mean, beta) if group["nesterov"] else mean
        matrix = update.flatten(1)
        direction = orthogonalised(matrix, steps=group["steps"], dtype=group["dtype"])
        rows, columns = matrix.shape
        scale = step_scale(rows, columns, group["adjustment"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(direction.view_as(parameter), alpha=-group["lr"] * scale)


def muon(
    params: Iterable[nn.Parameter],
    *,
    lr: float = 1e-3,
    weight_decay: float = 0.1,
    momentum: float = 0.95,
    adjustment: str = "original",
) -> torch.optim.Optimizer:
    """Build torch's own Muon if available (2.9 and later), else `MatrixMuon`.

    Args:
        params: Matrices.
        lr: Learning rate, at least 0.
        weight_decay: Decoupled, at least 0.
        momentum: In [0, 1).
        adjustment: As in `MatrixMuon`.

    Raises:
        ConfigError: A parameter is not a matrix, or an option is out of range.

    Reference:
        Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024.
    """
    ours = MatrixMuon(
        params, lr=lr, weight_decay=weight_decay, momentum=momentum, adjustment=adjustment
    )
    theirs = getattr(torch.optim, "Muon", None)
    matrices = ours.param_groups[0]["params"]
    if theirs is None or any(matrix.ndim != 2 for matrix in matrices):
        return ours
    return theirs(
        matrices, lr=lr, weight_decay=weight_decay, momentum=momentum, adjust_lr_fn=adjustment
    )


def adapter_matrices(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Divide an adapted encoder's trainable parameters into matrices, for Muon, and the rest.

    Pass the encoder with its adapters, not the classification head, which is for AdamW, like
    embeddings: parameters of an `nn.Embedding` are in the rest.

    Args:
        module: Its trainable parameters are divided.

    Returns:
        Matrices and convolutions; all others. Each parameter is in exactly one.
    """
    embedded = {
        id(parameter)
        for layer in module.modules()
        if isinstance(layer, nn.Embedding)
        for parameter in layer.parameters(recurse=False)
    }
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [p for p in trained if p.ndim in (2, 4) and id(p) not in embedded]
    chosen = {id(parameter) for parameter in matrices}
    return matrices, [parameter for parameter in trained if id(parameter) not in chosen]
