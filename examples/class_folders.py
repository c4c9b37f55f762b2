"""Fit on a folder of class folders and read the table of results.

    python examples/class_folders.py

The encoder is a tiny one with random weights, so that this runs anywhere in seconds and nothing is
fetched. For your own images leave `backbone` out (DINOv2-S) or name one, and choose more epochs.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from transformers import Dinov2Config, Dinov2Model

import tailora

folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(0)
for tint, (name, count) in enumerate({"forest": 140, "farmland": 40, "quarry": 9}.items()):
    for i in range(count):
        chip = rng.integers(0, 120, (28, 28, 3))
        chip[..., 1] += max(0, int(rng.normal(30 + 30 * tint, 12)))  # green hints at the class
        path = folder / "chips" / name / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chip.astype(np.uint8)).save(path)

torch.manual_seed(0)
size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
Dinov2Model(Dinov2Config(**size, patch_size=7, image_size=28)).save_pretrained(folder / "encoder")

run = tailora.fit(
    tailora.open_dataset(folder / "chips"),
    backbone=str(folder / "encoder"),
    adapter=tailora.DebLoRA(rank=4, clusters=4),
    recipe=tailora.Recipe().override({"data.image_size": 28, "train.lr": 0.01}),
    out=folder / "run",
)
Console().print(run.metrics.table())  # macro-F1 of head, middle and tail, with intervals
for row in run.metrics.methods[-1].per_class:
    low, high = row.f1_interval
    print(f"{row.name}: {row.n_train} training chips, F1 {row.f1:.2f} [{low:.2f}, {high:.2f}]")
print("The report:", folder / "run" / "report.html")
