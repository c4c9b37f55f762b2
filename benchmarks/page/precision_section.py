"""bfloat16 and torch.compile beside float32."""

from typing import Any

from benchmarks.page.tables import table


def precision(results: dict[str, Any]) -> str:
    """Show rates over float32, and what the first call costs."""
    found = results["precision"]
    rows = [
        (
            way,
            f"{1 / found['step'][way]['over_first']:.2f}",
            f"{1 / found['extraction'][way]['over_first']:.2f}",
            f"{found['first_call_seconds']['step'][way]:.0f}",
        )
        for way in found["step"]
    ]
    head = ("", "LoRA step, rate over fp32", "extraction, rate over fp32", "first step, s")
    return (
        f"## bfloat16 and compiling\n\n{found['encoder']}, {found['size']} px, batch "
        f"{found['batch']}, on this processor, in turns. bfloat16 is "
        "`compute.precision`, compiling `compute.compile`, for training alone: it takes its first "
        "step's seconds anew in every stage.\n\n" + table(head, rows)
    )
