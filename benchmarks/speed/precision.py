"""What bfloat16 and torch.compile do for a LoRA step and for extraction, in turns.

    python -m benchmarks.speed.precision

The first of all is tailora's default, float32 without compiling. The seconds of the first call are
kept too: compiling takes them once for every shape, mode and precision. `compute.compile` compiles
for training alone.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.ratios import RESULTS, take_turns, write_result
from tailora.adapters import AdapterSpec, adapt
from tailora.backbones import Encoder, load_backbone

WAYS = ("fp32", "bf16", "fp32, compiled", "bf16, compiled")


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/precision.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--encoder", default="dinov2-small")
    options.add_argument("--size", type=int, default=70, help="pixels a side")
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    draws = torch.Generator().manual_seed(0)
    shape = (given.batch, 3, given.size, given.size)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=draws)
    encoders = {way: _encoder(given.encoder, way) for way in given.ways}
    warm_up: dict[str, dict[str, float]] = {}

    def measured(kind: str, run: Callable[[Encoder, Tensor], object]) -> dict[str, Any]:
        runs = {way: lambda e=encoder: run(e, pixels) for way, encoder in encoders.items()}
        warm_up[kind] = {way: _seconds(one) for way, one in runs.items()}
        return take_turns(runs, repeats=given.repeats)

    result = {
        "encoder": given.encoder,
        "size": given.size,
        "batch": given.batch,
        "step": measured("step", _step),
        "extraction": measured("extraction", _extract),
        "first_call_seconds": warm_up,
    }
    write_result("precision", result, seed=0, arguments=arguments, out=given.out)


def _encoder(name: str, way: str) -> Encoder:
    precision, _, compiled = way.partition(", ")
    model = load_backbone(name).model.requires_grad_(requires_grad=False)
    model = adapt(model, AdapterSpec("lora", 8), seed=0, total_steps=1)
    encoder = Encoder(
        model, pooling="both", mean=[0.5] * 3, std=[0.5] * 3, precision=precision
    )  # fmt: skip
    if compiled:
        encoder.compile()
    return encoder


def _step(encoder: Encoder, pixels: Tensor) -> None:
    encoder.train()
    encoder(pixels).square().mean().backward()


def _extract(encoder: Encoder, pixels: Tensor) -> None:
    encoder.eval()
    with torch.inference_mode():
        encoder(pixels)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return round(time.perf_counter() - start, 1)


if __name__ == "__main__":
    main(sys.argv[1:])
