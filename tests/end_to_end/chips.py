"""Little datasets on disk, the command line in this process, and what a run left behind."""

import contextlib
import csv
import hashlib
import io
import json
import shutil
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from PIL import Image

from tailora.cli.main import main
from tailora.runs.run_files import seal
from tailora.storage import read_json, write_json

# names that a careless reader or writer of CSV, HTML or terminal markup would spoil
COUNTS = {"007": 62, "ship, small": 26, 'été "x"': 12, "[red]": 6, "日本": 5}
SIDE = 14
QUICK = (
    "--image-size", str(SIDE), "--clusters", "4", "--epochs", "2", "--rank", "2", "--quiet",
    "--set", "probe.l2=[1.0,0.1]", "--set", "evaluate.replicates=40",
    "--set", "train.batch_size=16", "--set", "probe.views=1",
)  # fmt: skip
DEBLORA = ("--method", "deblora")
UNLIKE_FROM_RUN_TO_RUN = ("seconds", "peak_memory_mb")


class Answer(NamedTuple):
    """What a command left on the two streams, and how it ended."""

    code: int
    out: str
    err: str


def tailora(*words: object) -> Answer:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as leave:
            return Answer(int(leave.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("main() came back without an exit code")


def succeed(*words: object) -> Answer:
    """Run the command line and require success."""
    answer = tailora(*words)
    assert answer.code == 0, answer.err
    return answer


def chip(rng: np.random.Generator, label: int, *, bands: int = 3, side: int = SIDE) -> np.ndarray:
    """One noisy 8-bit chip (side, side, bands) whose colour hints at its class."""
    tint = np.array([(label * 37 + band * 61) % 90 for band in range(bands)])
    noise = rng.integers(0, 120, (side, side, bands)) + rng.integers(0, 40, bands)
    return (noise + tint).clip(0, 255).astype(np.uint8)


def write_chip(path: Path, pixels: np.ndarray) -> Path:
    """Save (side, side, bands) as PNG; one band is grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze()).save(path)
    return path


def write_chips(
    root: Path, counts: dict[str, int] | None = None, *, bands: int = 3, seed: int = 0
) -> Path:
    """Save a folder of class folders."""
    rng = np.random.default_rng(seed)
    for label, (name, count) in enumerate((COUNTS if counts is None else counts).items()):
        for i in range(count):
            write_chip(root / name / f"{i:03d}.png", chip(rng, label, bands=bands))
    return root


def write_raster(path: Path, pixels: np.ndarray) -> Path:
    """Save (bands, height, width) as a TIFF without a place on Earth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=bands, dtype=pixels.dtype
        ) as file:
            file.write(pixels)
    return path


def write_table(path: Path, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> Path:
    """Save a CSV table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def read_rows(text: str) -> list[dict[str, str]]:
    """Read CSV text into one dictionary a row."""
    return list(csv.DictReader(io.StringIO(text)))


def metrics(run: Path) -> dict:
    """metrics.json without what no two runs share."""
    content = json.loads((run / "metrics.json").read_text("utf-8"))
    for method in content["methods"]:
        for key in UNLIKE_FROM_RUN_TO_RUN:
            del method[key]
    return content


def assert_same_result(run: Path, other: Path) -> None:
    """Require equal metrics, and equal bytes of all that was learnt and predicted."""
    assert metrics(run) == metrics(other)
    for name in ("predictions.csv", "classes.json", "head.safetensors"):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    learnt = sorted(path.relative_to(run) for path in run.rglob("*.safetensors"))
    assert learnt == sorted(path.relative_to(other) for path in other.rglob("*.safetensors"))
    for path in learnt:
        assert (run / path).read_bytes() == (other / path).read_bytes(), path


def snapshot(root: Path) -> dict[str, str]:
    """Every name below a folder, hidden ones too, with a hash of its content."""
    return {
        path.relative_to(root).as_posix(): "folder"
        if path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
    }


def copy_run(run: Path, target: Path) -> Path:
    """Copy a run to do it harm."""
    return Path(shutil.copytree(run, target))


def reseal(run: Path) -> None:
    """Let the checksums of a run agree with what its files hold now."""
    write_json(run / "run.json", seal(run, read_json(run / "run.json")))


def refused(answer: Answer, *words: str) -> None:
    """Require code 2 and one line on standard error that holds all the words."""
    assert answer.code == 2
    assert answer.out == ""
    lines = answer.err.splitlines()
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]
