"""Segmentation: maps beside the bare encoder and a map of chips, heads beside a bare loop.

    python -m benchmarks.speed.segmentation

A run on generated windows maps a small generated scene; the encoder alone does the same
windows from memory, and so does a map of chips with a class each. A head on cached tokens is
trained as a run trains it, and by a loop with nothing around its steps. Pairs take turns.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import tailora
from benchmarks.speed.ratios import RESULTS, alternate, take_turns, write_result
from benchmarks.speed.scenes import cpu_seconds, write_generated
from tailora.backbones import Encoder
from tailora.data import Dataset, assemble_targets, resize
from tailora.data.masks import MaskArray
from tailora.data.scenes.scene import open_scene
from tailora.heads.conv import ConvHead
from tailora.heads.linear_probe import zero_linear
from tailora.heads.map_probe import train_map_head
from tailora.heads.probe import Maps
from tailora.inference.map_scenes import chip_classifier
from tailora.inference.maps.chip_grid import ChipGrid
from tailora.inference.maps.chip_reader import ChipReader
from tailora.inference.maps.map_files import MapFiles
from tailora.inference.maps.scene_map import ChipClassifier, draw_map
from tailora.losses.place_loss import PlaceLoss
from tailora.runs.run import Run

CHIP, STEP, CLASSES = 75, 37, 17  # as of bluemarble-dense
BATCH, RATE = 16, 1e-3  # images, learning rate


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/segmentation.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--encoder", default="dinov2-small")
    options.add_argument("--across", type=int, default=12, help="windows along a side of the scene")
    options.add_argument("--images", type=int, default=64, help="whose tokens train a head")
    options.add_argument("--epochs", type=int, default=20)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    choices = {"task": "segment", "method": "zero-shot", "backbone.name": given.encoder,
               "probe.l2": [0.01], "probe.layers": [], "evaluate.replicates": 20}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        recipe = tailora.Recipe().override(choices)
        run = tailora.fit(_generated(), recipe=recipe, out=Path(folder) / "run")
        maps = _maps(run, Path(folder), given.across, given.repeats)
    encoder = run.model.encoder
    assert isinstance(encoder, Encoder)
    tokens = encoder.patches_a_side(run.input.image_size)
    shape = (given.images, tokens, tokens, encoder.features)
    result = {
        "encoder": given.encoder, "image_size": run.input.image_size,
        "classes": CLASSES, "threads": torch.get_num_threads(), "maps": maps,
        "training": _training(shape, given.epochs, given.repeats),
    }  # fmt: skip
    write_result("segmentation", result, seed=0, arguments=arguments, out=given.out)


class _Noise:
    def __len__(self) -> int:
        return 20

    def read(self, i: int) -> np.ndarray:
        return np.random.default_rng(i).integers(0, 255, (3, CHIP, CHIP), dtype=np.uint8)

    def id(self, i: int) -> str:
        return f"{i:02}"


def _generated() -> Dataset:
    """Windows of noise with every class in stripes: speed does not depend on what is learnt."""
    rng = np.random.default_rng(0)
    masks = np.repeat(rng.permuted(np.tile(np.arange(25) % CLASSES, (20, 1)), axis=1), 3, axis=1)
    masks = np.repeat(masks[:, None], CHIP, axis=1).astype(np.int16)
    splits = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    names = [f"class {c}" for c in range(CLASSES)]
    return assemble_targets(
        "generated", _Noise(), MaskArray(masks, CLASSES), classes=names, splits=splits
    )


def _maps(run: Run, folder: Path, across: int, repeats: int) -> dict[str, Any]:
    """The map of a scene beside the bare encoder, and beside a class for each window."""
    path = folder / "scene.tif"
    write_generated(path, CHIP + (across - 1) * STEP)
    scene, encoder, size = open_scene([path]), run.model.encoder, run.input.image_size
    assert isinstance(encoder, Encoder)
    head = zero_linear(encoder.features, CLASSES)
    by_pixel, by_chip = (ChipGrid(scene.shape, CHIP, STEP, parts) for parts in (CHIP, 1))
    model = chip_classifier(run, (1, 2, 3), parts=CHIP, raw=True)

    def of_chips(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return head(encoder(torch.from_numpy(images))).softmax(1).numpy()[:, None, None]

    chips = ChipClassifier(
        run.class_names, model.verdicts, lambda chip: resize(chip, size), of_chips, "chips"
    )
    reader = ChipReader(scene, by_pixel, model.prepare)
    read = [reader.read(block).images for strip in by_pixel.strips() for block in strip]
    batches = [torch.from_numpy(batch) for batch in read if batch is not None]

    def bare() -> None:
        with torch.inference_mode():
            for batch in batches:
                encoder.patch_features(batch)

    pixels = by_pixel, MapFiles(folder / "pixels.tif")
    places = by_chip, MapFiles(folder / "chips.tif")
    found = take_turns(
        {
            "bare": bare,
            "pixels": lambda: draw_map(scene, model, *pixels),
            "chips": lambda: draw_map(scene, chips, *places),
        },
        repeats=repeats,
    )
    cells = {"pixels": by_pixel, "chips": by_chip}
    rates = {
        name: int(np.prod(grid.map_shape)) / found[name]["median_seconds"]
        for name, grid in cells.items()
    }
    return {
        "windows": len(by_pixel), "chip": CHIP, "step": STEP, "seconds": found,
        "over_bare": 1 / found["pixels"]["over_first"], "cells_a_second": rates,
        "over_chips": rates["pixels"] / rates["chips"],
        "cpu_over_bare": cpu_seconds(bare) / cpu_seconds(lambda: draw_map(scene, model, *pixels)),
    }  # fmt: skip


def _training(shape: tuple[int, int, int, int], epochs: int, repeats: int) -> dict[str, Any]:
    """A head on cached tokens as a run trains it, and by a loop over tensors in memory."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=shape).astype(np.float16)
    targets = rng.integers(0, CLASSES, shape[:3]).astype(np.int16)
    loss, rows = nn.CrossEntropyLoss(ignore_index=-1), torch.arange(shape[0])

    def ours() -> None:
        torch.manual_seed(0)
        head = ConvHead(shape[-1], CLASSES, 128)
        maps = Maps(features, targets)
        train_map_head(head, maps, loss=PlaceLoss(loss), epochs=epochs, rate=RATE)

    def bare() -> None:
        torch.manual_seed(0)
        x, y = torch.from_numpy(features).float(), torch.from_numpy(targets).long()
        head = ConvHead(shape[-1], CLASSES, 128)
        optimizer = torch.optim.AdamW(head.parameters(), lr=RATE)
        for _ in range(epochs):
            for batch in rows[torch.randperm(len(rows))].split(BATCH):
                optimizer.zero_grad()
                loss(head(x[batch]).flatten(0, 2), y[batch].flatten()).backward()
                optimizer.step()

    with torch.random.fork_rng():
        pairs = alternate(bare, ours, repeats=repeats)
        pairs["cpu_ratio"] = cpu_seconds(bare) / cpu_seconds(ours)
    return {"images": shape[0], "tokens": shape[1], "features": shape[-1], "epochs": epochs,
            **pairs}  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
