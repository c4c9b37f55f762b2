"""From a recipe to a finished run; `__all__` lists the methods."""

from typing import TYPE_CHECKING

from tailora.source import import_when_asked

if TYPE_CHECKING:
    from tailora.methods.clora import CLoRA, CLoRADebLoRA, CLoRAOracle
    from tailora.methods.deblora.method import DebLoRAMethod
    from tailora.methods.expert_lora import LoRAResLT, LoRARIDE, LoRASADE, LoRATLC
    from tailora.methods.fine_tune import FineTune
    from tailora.methods.lora import LoRA
    from tailora.methods.prompt_oracle import PromptOracle
    from tailora.methods.zero_shot import ZeroShot

__all__ = [
    "CLoRA",
    "CLoRADebLoRA",
    "CLoRAOracle",
    "DebLoRAMethod",
    "FineTune",
    "LoRA",
    "LoRARIDE",
    "LoRAResLT",
    "LoRASADE",
    "LoRATLC",
    "PromptOracle",
    "ZeroShot",
]

import_when_asked(__name__)
