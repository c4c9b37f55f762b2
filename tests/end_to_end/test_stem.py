"""An RGB encoder on chips of other bands, from the command line."""

import json

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from tailora.backbones import load_backbone
from tailora.backbones.stem import adapt_stem, plan_stem
from tests.end_to_end.chips import (
    QUICK,
    SIDE,
    metrics,
    refused,
    succeed,
    tailora,
    write_chips,
    write_raster,
)

SIX = (0.49, 0.56, 0.665, 0.842, 1.61, 2.19)
STEM = ("--set", "backbone.stem=by-wavelength", "--set", f"backbone.wavelengths={list(SIX)}")


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """Folder of class folders with chips of six bands; the classes differ in infrared alone."""
    root, rng = tmp_path_factory.mktemp("six") / "chips", np.random.default_rng(0)
    for label, (name, count) in enumerate({"forest": 40, "water": 16, "rare": 6}.items()):
        for number in range(count):
            pixels = rng.integers(500, 3000, (6, SIDE, SIDE))
            pixels[3:] += 3000 * label
            write_raster(root / name / f"{number}.tif", pixels.astype(np.uint16))
    return root


@pytest.fixture
def words(encoder):
    return ("--backbone", encoder, *QUICK, "--set", "train.batch_size=8")


@pytest.mark.parametrize("method", ["lora", "deblora", "fine-tune"])
def test_a_run_learns_new_bands_saves_them_and_is_read_back(method, six, words, encoder, tmp_path):
    run = tmp_path / "run"
    succeed("fit", six, "--out", run, *words, *STEM, "--method", method)
    record = json.loads((run / "run.json").read_text("utf-8"))
    assert record["input"]["bands"] == [1, 2, 3, 4, 5, 6]
    answer = succeed("evaluate", run, six, "--json", "--quiet")
    again = json.loads(answer.out)["methods"][0]["macro_f1"]
    assert again == metrics(run)["methods"][-1]["macro_f1"]
    if method == "fine-tune":
        return
    saved = load_file(run / "adapter" / "adapter_model.safetensors")
    kernels = next(tensor for name, tensor in saved.items() if "new_bands" in name)
    assert kernels.shape[1] == 3
    assert kernels.abs().sum() > 0  # they began as zeros
    with torch.random.fork_rng(devices=[]):  # PEFT draws weights before it reads the saved ones
        PeftModel.from_pretrained(
            adapt_stem(load_backbone(str(encoder)).model, plan_stem(SIX)), run / "adapter"
        )


def test_rgb_chips_through_the_stem_give_the_run_without_it(encoder, words, tmp_path):
    chips = write_chips(tmp_path / "chips", {"forest": 20, "water": 8, "rare": 5})
    rgb = "backbone.wavelengths=[0.665,0.56,0.49]"
    stem = ("--set", "backbone.stem=by-wavelength", "--set", rgb)
    for name, extra in (("plain", ()), ("stem", stem)):
        succeed("fit", chips, "--out", tmp_path / name, *words, "--method", "lora", *extra)
    one, two = (metrics(tmp_path / name) for name in ("plain", "stem"))
    assert one == two
    adapters = [
        (tmp_path / n / "adapter" / "adapter_model.safetensors").read_bytes()
        for n in ("plain", "stem")
    ]
    assert adapters[0] == adapters[1]


def test_a_comparison_tells_starts_of_new_bands_apart(six, words, tmp_path):
    answer = succeed(
        "compare", six, "--out", tmp_path / "cmp", *words, *STEM, "--methods", "zero-shot",
        "--vary", "backbone.new_bands=zero,mean", "--seeds", "1",
    )  # fmt: skip
    assert answer.code == 0
    content = json.loads((tmp_path / "cmp" / "comparison.json").read_text("utf-8"))
    assert len(content["rows"]) == 2


def test_inspect_shows_which_kernel_goes_where(six):
    wavelengths = ",".join(map(str, SIX))
    answer = succeed("inspect", six, "--wavelengths", wavelengths, "--new-bands", "mean", "--json")
    rows = json.loads(answer.out)["stem"]
    assert [row["kernel"] for row in rows] == ["blue", "green", "red", "mean", "mean", "mean"]
    assert {row["scale"] for row in rows} == {0.5}
    shown = succeed("inspect", six, "--wavelengths", wavelengths).out
    assert "by-wavelength stem" in shown


def test_without_a_stem_six_bands_are_refused_and_the_way_out_is_named(six, words, refuse):
    refuse(
        "fit", six, "--out", "run", *words,
        says=["takes 3 bands, but the images have 6", "backbone.stem=by-wavelength"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["backbone.stem=by-wavelenght"], ["unknown stem", "did you mean 'by-wavelength'"]),
        (["backbone.stem=by-wavelength"], ["needs the wavelength of each band"]),
        (
            ["backbone.stem=by-wavelength", "backbone.wavelengths=[0.49,0.56]"],
            ["2 values for 6 bands"],
        ),
        (
            ["backbone.stem=by-wavelength", "backbone.wavelengths=[490,560,665,842,1610,2190]"],
            ["µm from 0 to 20"],
        ),
        (
            ["backbone.stem=by-wavelength", "backbone.wavelengths=[0,0,0,0,0,0]"],
            ["new_bands=mean"],
        ),
        (["backbone.new_bands=mean"], ["has no effect without backbone.stem"]),
        (["backbone.new_bands_rate=0.5"], ["has no effect without backbone.stem"]),
        (["backbone.stem=by-wavelength", "backbone.new_bands_rate=0"], ["must lie in (0, 1]"]),
        (["backbone.wavelengths=[0.49]"], ["has no effect without backbone.stem"]),
        (["backbone.stem=by-wavelength", "backbone.new_bands=men"], ["did you mean 'mean'"]),
        (["backbone.options={draws=2}"], ["has no backbone.options"]),
        (["train.objective=denoising"], ["needs a diffusion model"]),
    ],
)
def test_options_that_do_not_fit_are_refused(extra, says, six, words, refuse):
    settings = [word for assignment in extra for word in ("--set", assignment)]
    refuse("fit", six, "--out", "run", *words, *settings, says=says)


@pytest.mark.parametrize("text", ["red", "0.49,0.56", "490,560,665,842,1610,2190"])
def test_wavelengths_that_inspect_cannot_use_are_refused(text, six):
    refused(tailora("inspect", six, "--wavelengths", text), "wavelengths")
