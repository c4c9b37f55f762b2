"""A head trained on all views of each image, which predicts from their mean."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

import tailora as package
from tailora.backbones import load_backbone
from tailora.backbones.symmetries import turn_all
from tailora.heads.linear_probe import fit_linear_probe
from tailora.losses import LogitAdjustedLoss
from tailora.methods.prepare import resolve_recipe
from tests.end_to_end.chips import QUICK, succeed

VIEWS = ("--method", "zero-shot", "--set", "probe.views=8", "--set", "probe.l2=[0.03]")


@pytest.fixture(scope="module")
def run(tmp_path_factory, data, encoder):
    folder = tmp_path_factory.mktemp("views") / "run"
    succeed("fit", data, "--out", folder, "--backbone", encoder, *QUICK, *VIEWS)
    return package.load_run(folder)


def read(path):
    return torch.from_numpy(np.asarray(Image.open(path)).transpose(2, 0, 1)[None].copy())


def test_the_head_is_trained_on_every_view(run, data):
    dataset = package.open_dataset(data)
    rows = dataset.indices("train")
    images = torch.cat([read(data / dataset.source.id(int(row))) for row in rows])
    with torch.inference_mode():
        views = [run.model.encoder(turn_all(images, turn)).numpy() for turn in range(8)]
    expected = fit_linear_probe(
        np.concatenate(views), np.tile(dataset.labels[rows], 8),
        loss=LogitAdjustedLoss(dataset.counts("train")), num_classes=5, l2=0.03,
    )  # fmt: skip
    torch.testing.assert_close(run.model.head.weight, expected.linear.weight, atol=2e-3, rtol=2e-3)


def test_what_is_measured_is_the_mean_over_views(run, data):
    with (run.folder.path / "predictions.csv").open(newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    image = read(data / row["path"])
    with torch.inference_mode():
        logits = torch.stack(
            [run.model.head(run.model.encoder(turn_all(image, turn))) for turn in range(8)]
        )
    shares = run.said(logits.mean(dim=0).softmax(dim=1).numpy())[0]
    told = [float(row[f"p({name})"]) for name in run.class_names]
    np.testing.assert_allclose(told, shares, atol=1e-5)


def test_a_prediction_does_not_depend_on_how_an_image_lies(run, data):
    image = (
        read(data / "007" / "000.png")
        if (data / "007" / "000.png").is_file()
        else read(next(data.rglob("*.png")))
    )
    found = [run.predict_probabilities(turn_all(image, turn)) for turn in range(8)]
    np.testing.assert_allclose(np.concatenate(found), np.tile(found[0], (8, 1)), atol=1e-6)


def test_a_run_can_predict_from_one_view(run, data):
    image = data / "007" / "000.png"
    image = image if image.is_file() else next(data.rglob("*.png"))
    answer = succeed("predict", run.folder.path, image, "--views", 1, "--quiet")
    row = next(csv.DictReader(answer.out.splitlines()))
    with torch.inference_mode():
        logits = run.model.head(run.model.encoder(read(image)))
    shares = run.said(logits.softmax(dim=1).numpy())[0]
    told = [float(row[f"p({name})"]) for name in run.class_names]
    np.testing.assert_allclose(told, shares, atol=1e-5)
    both = [package.load_run(run.folder.path, views=views).model.views for views in (None, 1)]
    assert both == [8, 1]


def test_images_are_seen_in_all_views_unless_something_speaks_against_it(data, encoder):
    dataset = package.open_dataset(data)

    def views(**options):
        recipe = package.Recipe().override(
            {key.replace("__", "."): v for key, v in options.items()}
        )
        return resolve_recipe(recipe, load_backbone(str(encoder)), dataset).probe.views

    assert views() == 8
    assert views(method="zero-shot") == views(method="deblora") == 8
    assert views(data__has_up=True, train__augment="none") == 1
    assert views(probe__loss="own") == 1
    assert views(probe__views=1) == 1


def test_another_number_of_views_is_refused_in_prediction(run, data, refuse):
    refuse("predict", run.folder.path, data, "--views", 4, says=["views must be 1 or 8, got 4"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--set", "probe.views=4"), "probe.views must be 1 or 8, got 4"),
        (("--set", "data.has_up=true"), "probe.views=8 rotates images, but data.has_up"),
        (
            (
                "--set",
                "data.has_up=true",
                "--set",
                "probe.views=1",
                "--set",
                "train.augment=dihedral",
            ),
            "train.augment='dihedral' rotates images",
        ),
    ],
)
def test_images_with_an_up_are_not_turned(words, says, data, encoder, refuse):
    refuse("fit", data, "--backbone", encoder, *QUICK, *VIEWS, *words, says=[says])


def test_a_comparison_has_rows_of_views(data, encoder, tmp_path, plain_page):
    succeed("compare", data, "--out", tmp_path / "sweep", "--backbone", encoder, *QUICK,
            "--methods", "lora", "--seeds", "1", "--set", "probe.l2=[0.03]",
            "--probes", "own,logit-adjusted,logit-adjusted:views=8")  # fmt: skip
    rows = package.read_comparison(tmp_path / "sweep").rows
    assert [row.probe for row in rows] == ["own", "logit-adjusted", "logit-adjusted:views=8"]
    fitted = tmp_path / "run"
    succeed("fit", data, "--out", fitted, "--backbone", encoder, *QUICK[:-2], "--method", "lora",
            "--set", "probe.l2=[0.03]", "--probe", "logit-adjusted:views=8")  # fmt: skip
    run = package.read_run(fitted)
    assert run.recipe.probe.views == 8
    assert rows[2].scores["all"].mean == pytest.approx(run.final.macro_f1["all"], abs=1e-6)
