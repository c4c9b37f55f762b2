"""How a run is computed: options that trade time and memory, not what is learnt."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ComputeOptions:
    """Precision and memory.

    Args:
        precision: `"fp32"`, or `"bf16"`: the encoder multiplies matrices in bfloat16 (autocast),
            in training, features and predictions alike; weights, head and losses stay float32.
        micro_batch: Images of a forward pass in training: a batch is done in such parts and its
            gradient is their sum, so the step is that of the whole batch; None takes it at once.
        checkpointing: Keep the activations of layer boundaries only and compute the rest again on
            the way back: the same gradients for less memory and about a third more time.
        compile: Let torch compile the encoder for training: faster steps, equal but for rounding,
            after up to a minute of compiling in every stage; needs a C++ compiler.
        shard: Divide the encoder's weights, gradients and moments among the processes while it is
            fine-tuned (FSDP), for encoders whose training does not fit one device.
    """

    precision: str = "fp32"
    micro_batch: int | None = None
    checkpointing: bool = False
    compile: bool = False
    shard: bool = False
