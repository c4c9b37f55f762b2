"""LoRA trained with several expert heads; the probe is that of every method."""

from typing import final

from tailora.experts import RIDELoss, SADELoss, TLCLoss
from tailora.experts.margin_experts import DEFERRED
from tailora.heads.reslt import ResLTLoss
from tailora.methods.experts import Experts, cosine_heads, reslt_head
from tailora.methods.lora import LoRA


@final
class LoRAResLT(LoRA):
    """LoRA trained with the three-branch head and loss of ResLT, then a linear probe."""

    name = "lora+reslt"
    title = "LoRA + ResLT"
    summary = "LoRA trained with the three-branch head and loss of ResLT, then a linear probe"
    reference = "Cui et al., TPAMI 2022"
    uses = (*LoRA.uses, "evaluate")  # its branches follow the groups
    objectives = False
    experts = Experts(ResLTLoss, reslt_head)


@final
class LoRASADE(LoRA):
    """LoRA trained with the three experts of SADE, then a linear probe."""

    name = "lora+sade"
    title = "LoRA + SADE"
    summary = "LoRA trained with the three experts of SADE, then a linear probe"
    reference = "Zhang et al., NeurIPS 2022"
    objectives = False
    experts = Experts(SADELoss, cosine_heads)


@final
class LoRARIDE(LoRA):
    """LoRA trained with diverse experts and deferred re-weighting, then a linear probe."""

    name = "lora+ride"
    title = "LoRA + RIDE"
    summary = "LoRA trained with diverse experts, re-weighted late (RIDE), then a linear probe"
    reference = "Wang et al., ICLR 2021"
    objectives = False
    experts = Experts(RIDELoss, cosine_heads, deferred=DEFERRED)


@final
class LoRATLC(LoRA):
    """LoRA trained with evidential experts and deferred re-weighting, then a linear probe."""

    name = "lora+tlc"
    title = "LoRA + TLC"
    summary = "LoRA trained with evidential experts, re-weighted late (TLC), then a linear probe"
    reference = "Li et al., CVPR 2022"
    objectives = False
    experts = Experts(TLCLoss, cosine_heads, deferred=DEFERRED)
