"""Memory of a training step of a ViT-L: how many images at once fit 24 GB, and what saves memory.

    python -m benchmarks.speed.memory

Random weights of DINOv2-L's shape, 224 px, one step of tailora's loop on the CPU. Each setting is a
process of its own, with few images and with some more; the difference is what an image needs, and
the rest what stands there anyway. On a GPU the driver's own memory comes on top.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import Dinov2Config, Dinov2Model

from benchmarks.speed.ratios import RESULTS, write_result
from tailora.adapters import AdapterSpec, adapt
from tailora.backbones import Encoder
from tailora.backbones.checkpointing import recompute_activations
from tailora.runs.folder import CostLedger
from tailora.train import Schedule, train
from tailora.train.objectives import target_objective

SHAPE = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14,
    "image_size": 224,
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "LoRA, bf16": {"precision": "bf16"},
    "LoRA, checkpointing": {"checkpointing": True},
    "LoRA, checkpointing, bf16": {"checkpointing": True, "precision": "bf16"},
    "fine-tune, checkpointing": {"checkpointing": True, "adapter": False},
}


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/memory.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--images", type=int, nargs=2, default=[1, 3])
    options.add_argument("--shape", type=json.loads, default=SHAPE, help="of the encoder, as JSON")
    options.add_argument("--limit-gb", type=float, default=24.0)
    options.add_argument("--out", type=Path, default=RESULTS)
    options.add_argument("--one", type=json.loads, help="measure one setting in this process")
    given = options.parse_args(arguments)
    if given.one:
        print(json.dumps(measure(given.shape, **given.one)))
        return
    rows = [_setting(name, options_, given) for name, options_ in SETTINGS.items()]
    result = {"shape": given.shape, "limit_gb": given.limit_gb, "rows": rows}
    write_result("memory", result, seed=0, arguments=arguments, out=given.out)


def measure(
    shape: dict[str, int],
    images: int,
    *,
    precision: str = "fp32",
    checkpointing: bool = False,
    adapter: bool = True,
) -> dict[str, float]:
    """Take one step of some images at once; peak memory in MB, and seconds."""
    model = Dinov2Model(Dinov2Config(**shape))
    model.requires_grad_(requires_grad=not adapter)
    if adapter:
        model = adapt(model, AdapterSpec("lora", 8), seed=0, total_steps=1)
    if checkpointing:
        recompute_activations(model)
    encoder = Encoder(
        model, pooling="class", mean=[0.5] * 3, std=[0.5] * 3, precision=precision
    )  # fmt: skip
    side = shape["image_size"]
    pixels = torch.randint(0, 256, (images, 3, side, side), dtype=torch.uint8)
    objective = target_objective(
        encoder,
        lambda rows: pixels[torch.from_numpy(rows)],
        torch.zeros(images, encoder.features),
        torch.ones(encoder.features),
        device=torch.device("cpu"),
    )
    with tempfile.TemporaryDirectory() as folder:
        ledger = CostLedger(Path(folder) / "costs.json", "step")
        start = time.perf_counter()
        with ledger.measure("step"):
            for _ in train(
                torch.nn.ModuleDict({"encoder": encoder}), objective, np.arange(images),
                schedule=Schedule(1, images, 1e-4), seed=0, accelerator=Accelerator(cpu=True),
            ):  # fmt: skip
                pass
        seconds = time.perf_counter() - start
        (entry,) = ledger.entries()
    return {"peak_mb": entry.peak_memory_mb, "seconds": round(seconds, 1)}


def images_that_fit(peaks: Sequence[float], images: Sequence[int], limit_mb: float) -> int:
    """Say how many images at once stay below a limit, from the peaks of two numbers of images."""
    each = (peaks[1] - peaks[0]) / (images[1] - images[0])
    fixed = peaks[0] - each * images[0]
    return max(0, int((limit_mb - fixed) // each))


def _setting(name: str, options: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    found = [_in_own_process({"images": n, **options}, given.shape) for n in given.images]
    peaks = [one["peak_mb"] for one in found]
    each = (peaks[1] - peaks[0]) / (given.images[1] - given.images[0])
    row = {
        "setting": name,
        "images": given.images,
        "peak_mb": peaks,
        "seconds": [one["seconds"] for one in found],
        "each_mb": round(each, 1),
        "fixed_mb": round(peaks[0] - each * given.images[0], 1),
        "fit": images_that_fit(peaks, given.images, 1000 * given.limit_gb),
    }
    print(row, flush=True)
    return row


def _in_own_process(one: dict[str, Any], shape: dict[str, int]) -> dict[str, float]:
    words = ["--one", json.dumps(one), "--shape", json.dumps(shape)]
    command = [sys.executable, "-m", "benchmarks.speed.memory", *words]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main(sys.argv[1:])
