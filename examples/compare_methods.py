"""Is one method better than another? Two of them under the same head, with paired intervals.

    python examples/compare_methods.py

Two seeds and a tiny random encoder keep it short; a claim needs five seeds or more and a real one.
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

values = {
    "backbone.name": str(folder / "encoder"),
    "data.image_size": 28,
    "deblora.clusters": 4,
    "train.lr": 0.01,
    "evaluate.replicates": 200,
}
comparison = tailora.compare(
    tailora.open_dataset(folder / "chips"),
    methods=["lora", "deblora"],
    probes=["logit-adjusted", "cross-entropy"],  # each adapter is trained once, under both heads
    seeds=2,
    recipe=tailora.Recipe().override(values),
    jobs=1,
    out=folder / "comparison",
)
Console().print(comparison.table())  # differences are to LoRA under the same head
print("The page:", folder / "comparison" / "comparison.html")
