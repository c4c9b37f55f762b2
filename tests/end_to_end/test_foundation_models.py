"""Encoders that are no transformers folder, from the command line to a run that is read back."""

import json

import numpy as np
import pytest

from tests.end_to_end.chips import QUICK, metrics, succeed, write_chip, write_raster
from tests.tiny_foundation import pipeline_folder, satmae_file, satmae_tensors

COUNTS = {"forest": 20, "water": 8, "rare": 5}


@pytest.fixture
def rgb(tmp_path):
    """Chips of 16 px, which the tiny diffusion model's patches of 4 divide."""
    rng = np.random.default_rng(0)
    for label, (name, count) in enumerate(COUNTS.items()):
        for number in range(count):
            pixels = rng.integers(0, 120, (16, 16, 3)) + 60 * label
            write_chip(tmp_path / "chips" / name / f"{number}.png", pixels.astype(np.uint8))
    return tmp_path / "chips"


def read_back(run, data):
    answer = succeed("evaluate", run, data, "--json", "--quiet")
    assert (
        json.loads(answer.out)["methods"][0]["macro_f1"] == metrics(run)["methods"][-1]["macro_f1"]
    )
    return json.loads((run / "run.json").read_text("utf-8"))


@pytest.mark.parametrize("targets", [[], ["attn1.to_q", "attn2.to_v"]])
def test_deblora_on_stable_diffusion_adapted_by_denoising(targets, rgb, tmp_path):
    """Also with adapters behind the middle block, which stage 5 leaves as they are."""
    pytest.importorskip("diffusers")
    folder, run = pipeline_folder(tmp_path / "sd"), tmp_path / "run"
    settings = [
        "train.objective=denoising", "backbone.options={draws=2, timestep=5}",
        f"adapter.targets={targets}", "train.batch_size=8", "train.epochs=1", "deblora.epochs=1",
    ]  # fmt: skip
    words = [word for setting in settings for word in ("--set", setting)]
    succeed("fit", rgb, "--out", run, "--backbone", folder, *QUICK, "--image-size", 16, *words)
    record = read_back(run, rgb)
    names = [row["module"] for row in record["adapted"]]
    assert any("up_blocks" in name for name in names) == bool(targets)
    assert record["input"]["mean"] == [0.5] * 3


def test_grouped_satmae_on_ten_bands_of_sentinel_2(tmp_path):
    rng, run = np.random.default_rng(0), tmp_path / "run"
    for label, (name, count) in enumerate(COUNTS.items()):
        for number in range(count):
            pixels = rng.integers(500, 2500, (10, 12, 12)) + 400 * label
            write_raster(tmp_path / "chips" / name / f"{number}.tif", pixels.astype(np.uint16))
    file = satmae_file(tmp_path / "satmae.pth", satmae_tensors(grouped=True))
    succeed(
        "fit", tmp_path / "chips", "--out", run, "--backbone", file, *QUICK, "--image-size", 12,
        "--method", "lora",
    )  # fmt: skip
    record = read_back(run, tmp_path / "chips")
    assert record["input"]["scale"] == 10_000
    assert record["input"]["mean"][0] == pytest.approx(0.118438)


def test_thirteen_bands_for_ten_are_told_which_ones(tmp_path, refuse):
    for name, count in COUNTS.items():
        for number in range(count):
            pixels = np.full((13, 12, 12), 100 + number, dtype=np.uint16)
            write_raster(tmp_path / "chips" / name / f"{number}.tif", pixels)
    file = satmae_file(tmp_path / "satmae.pth", satmae_tensors(grouped=True))
    refuse(
        "fit", tmp_path / "chips", "--out", "run", "--backbone", file, *QUICK, "--image-size", 12,
        says=["takes 10 bands", "images have 13", "B02, B03", "B11, B12"],
    )  # fmt: skip


def test_a_size_that_patches_do_not_fill_is_refused(rgb, tmp_path, refuse):
    file = satmae_file(tmp_path / "satmae.pth", satmae_tensors(grouped=False))
    refuse(
        "fit", rgb, "--out", "run", "--backbone", file, *QUICK, "--image-size", 14,
        says=["14 px are not a multiple of the patch size 4 px"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere/satmae.pth", "there is no checkpoint"),
        ("diffusers:someone/model", "hub cannot be reached"),
        ("timm:vit_tiny_patch16_224", "timm"),
        ("dinov2-smal", "did you mean 'dinov2-small'"),
    ],
)
def test_encoders_that_cannot_be_had_are_refused(name, says, rgb, refuse):
    refuse("fit", rgb, "--out", "run", "--backbone", name, *QUICK, says=[says])


def test_the_prompt_that_names_the_class_is_a_row_of_its_own_marked_as_leaking(rgb, tmp_path):
    pytest.importorskip("diffusers")
    chips, ship = tmp_path / "chips", tmp_path / "chips" / "ship"
    (chips / "rare").rename(ship)  # words that the tiny tokenizer knows
    out = tmp_path / "cmp"
    succeed(
        "compare", chips, "--out", out, "--backbone", pipeline_folder(tmp_path / "sd"), *QUICK,
        "--image-size", 16, "--set", "backbone.options={draws=1}", "--seeds", 1,
        "--methods", "zero-shot,prompt-oracle",
    )  # fmt: skip
    rows = json.loads((out / "comparison.json").read_text("utf-8"))["rows"]
    assert [(row["method"], row["leaks"]) for row in rows] == [
        ("zero-shot", False), ("prompt-oracle", True),
    ]  # fmt: skip
    features = [
        np.load(path) for path in sorted(out.rglob("*.npy")) if "features-test" in str(path)
    ]
    assert len(features) == 2
    assert not np.allclose(features[0], features[1])


def test_an_encoder_without_a_prompt_has_no_such_row(rgb, encoder, refuse):
    refuse(
        "compare", rgb, "--out", "cmp", "--backbone", encoder, *QUICK, "--methods",
        "zero-shot,prompt-oracle", says=["prompt-oracle", "takes none"],
    )  # fmt: skip
