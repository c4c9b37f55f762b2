"""The precision that a machine computes fastest in, for `compute.precision = "auto"`."""

from typing import Final

import torch

# without one of these a processor converts each bfloat16 number in software, which is slower
_CPU: Final = ("avx512_bf16", "amx_bf16")


def fastest_precision() -> str:
    """Return `"bf16"` where hardware multiplies bfloat16 numbers, else `"fp32"`.

    GPUs of Nvidia since Ampere and AMD's that torch says support it; of CPUs those with AVX-512
    BF16 or AMX. Other accelerators, such as Apple's, are not known to gain.
    """
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if torch.accelerator.is_available():
        return "fp32"
    found = torch.cpu.get_capabilities()
    return "bf16" if any(found.get(name, False) for name in _CPU) else "fp32"
