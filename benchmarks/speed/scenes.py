"""Maps of scenes: peak memory against the size of the scene, and speed against the bare model.

    python -m benchmarks.speed.scenes

Memory: generated scenes of 2,000, 8,000 and 20,000 pixels a side, written block by block, each
mapped in a process of its own by a model that does next to nothing, so that nothing but reading,
blending and writing can grow. Speed: a real encoder (DINOv2-S as packaged) maps a small scene, and
does the same batches from memory; the two take turns.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.windows import Window
from torch import nn

from benchmarks.speed.process_memory import memory_mb
from benchmarks.speed.ratios import RESULTS, alternate, write_result
from tailora.backbones import Encoder, load_backbone
from tailora.data import resize
from tailora.data.scenes.scene import open_scene
from tailora.inference.maps.chip_grid import ChipGrid
from tailora.inference.maps.chip_reader import ChipReader
from tailora.inference.maps.map_files import MapFiles
from tailora.inference.maps.scene_map import ChipClassifier, draw_map

NAMES = ("forest", "water", "farm", "town", "meadow", "bare", "scrub", "wetland")
BLOCK, BANDS = 512, 3


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/scenes.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--sides", type=int, nargs="+", default=[2_000, 8_000, 20_000])
    options.add_argument("--chip", type=int, default=128)
    options.add_argument("--step", type=int, default=128)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--out", type=Path, default=RESULTS)
    options.add_argument("--one", type=int, help="map one scene of this side, print its memory")
    given = options.parse_args(arguments)
    if given.one:
        print(*_map_one(given.one, given.chip, given.step))
        return
    memory = [_in_own_process(side, given) for side in given.sides]
    peaks = [row["peak_mb"] for row in memory]
    result = {
        "memory": {
            "chip": given.chip,
            "step": given.step,
            "bands": BANDS,
            "classes": len(NAMES),
            "model": "mean colours, on chips of 14 pixels",
            "scenes": memory,
            "largest_over_smallest": max(peaks) / min(peaks),
        },
        "speed": _speed(given.repeats),
    }
    write_result("scenes", result, seed=0, arguments=arguments, out=given.out)


def write_generated(path: Path, side: int) -> None:
    """Write stripes and noise block by block, so that the generator's memory stays flat too."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 60, (16, BANDS, BLOCK, BLOCK), dtype=np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=BANDS, dtype="uint8",
        crs="EPSG:32633", transform=rasterio.Affine(10, 0, 300_000, 0, -10, 5_800_000),
        tiled=True, blockxsize=BLOCK, blockysize=BLOCK, compress="deflate", zlevel=1,
        interleave="pixel",
    ) as file:  # fmt: skip
        for row in range(0, side, BLOCK):
            for column in range(0, side, BLOCK):
                height, width = min(BLOCK, side - row), min(BLOCK, side - column)
                tile = tiles[(row // BLOCK + 3 * (column // BLOCK)) % len(tiles)]
                tint = np.array([40, 90, 140])[(np.arange(BANDS) + row // 1500) % BANDS]
                values = tile[:, :height, :width] + tint[:, None, None].astype(np.uint8)
                file.write(values, window=Window(column, row, width, height))


def _in_own_process(side: int, given: argparse.Namespace) -> dict[str, Any]:
    words = ["--one", side, "--chip", given.chip, "--step", given.step]
    command = [sys.executable, "-m", "benchmarks.speed.scenes", *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak, seconds, chips = map(float, done.stdout.split())
    print(f"{side} px: peak {peak:.0f} MB, {seconds:.0f} s, {int(chips)} chips")
    return {"side": side, "peak_mb": peak, "seconds": seconds, "chips": int(chips)}


def _map_one(side: int, chip: int, step: int) -> tuple[float, float, int]:
    def predict(images: np.ndarray) -> np.ndarray:
        means = images.reshape(len(images), -1, 2).mean(axis=1)
        wide = np.tile(means, (1, len(NAMES) // 2)) + np.arange(len(NAMES)) / 10
        return (wide / wide.sum(axis=1, keepdims=True)).astype(np.float32)[:, None, None]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        # the generator runs elsewhere, so that its memory is not counted
        code = "import sys; from pathlib import Path; from benchmarks.speed.scenes import *; "
        code += "write_generated(Path(sys.argv[1]), int(sys.argv[2]))"
        subprocess.run([sys.executable, "-c", code, str(path), str(side)], check=True)
        scene = open_scene([path])
        model = ChipClassifier(
            NAMES, ["trusted"] * len(NAMES), lambda chip: resize(chip, 14), predict, "mean"
        )
        grid = ChipGrid(scene.shape, chip, step)
        start = time.perf_counter()
        files = MapFiles(Path(folder) / "map.tif", Path(folder) / "p.tif")
        draw_map(scene, model, grid, files)
        seconds = time.perf_counter() - start
    return memory_mb("VmHWM"), seconds, len(grid)


def _speed(repeats: int, *, chip: int = 64, step: int = 32, size: int = 70) -> dict[str, Any]:
    loaded = load_backbone("dinov2-small")
    encoder = Encoder(loaded.model, pooling="both", mean=loaded.mean, std=loaded.std).eval()
    head = nn.Linear(encoder.features, len(NAMES))

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits = head(encoder(torch.from_numpy(images)))
            return logits.softmax(dim=1).numpy()[:, None, None]

    def prepare(pixels: np.ndarray) -> np.ndarray:
        return resize(pixels, size)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.tif"
        write_generated(path, chip + 15 * step)
        scene = open_scene([path])
        grid = ChipGrid(scene.shape, chip, step)
        reader = ChipReader(scene, grid, prepare)
        batches = [reader.read(block).images for strip in grid.strips() for block in strip]
        model = ChipClassifier(NAMES, ["trusted"] * len(NAMES), prepare, predict, "dinov2")
        files = MapFiles(
            Path(folder) / "map.tif", Path(folder) / "p.tif", polygons=Path(folder) / "m.gpkg"
        )

        def bare() -> None:
            for batch in batches:
                if batch is not None:
                    predict(batch)

        def ours() -> None:
            draw_map(scene, model, grid, files)

        found = alternate(bare, ours, repeats=repeats)
        cpu = {"bare": cpu_seconds(bare), "ours": cpu_seconds(ours)}
    return {
        "encoder": loaded.name, "chips": len(grid), "chip": chip, "step": step,
        "image_size": size, "threads": torch.get_num_threads(), **found,
        "cpu_seconds": cpu, "cpu_ratio": cpu["bare"] / cpu["ours"],
    }  # fmt: skip


def cpu_seconds(run: Callable[[], object]) -> float:
    """Processor time of all threads, which other jobs on the machine hardly change."""
    start = time.process_time()
    run()
    return time.process_time() - start


if __name__ == "__main__":
    main(sys.argv[1:])
