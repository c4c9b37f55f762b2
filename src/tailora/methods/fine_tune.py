"""Full fine-tuning: all weights of the encoder are trained."""

from typing import final

from tailora.methods.lora import LoRA
from tailora.methods.method import INPUT


@final
class FineTune(LoRA):
    """All weights trained on labels, then a linear probe."""

    name = "fine-tune"
    title = "fine-tuning"
    summary = "all weights trained on labels, then a linear probe"
    reference = ""
    uses = (*INPUT, "train")
    has_adapter = False
    objectives = False
    learning_rate = 5e-5
    can_shard = True
    style = ("#cc79a7", "^")
