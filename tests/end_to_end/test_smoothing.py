"""A run that smooths what it predicts over the images predicted together."""

import csv
import json

import numpy as np
import pytest
import rasterio
import torch
from scipy.spatial.distance import cdist
from scipy.special import softmax

import tailora as package
from tailora.heads.linear_probe import predict_logits
from tests.data.scenes import write_scene
from tests.end_to_end.chips import QUICK, SIDE, metrics, succeed

pytestmark = pytest.mark.usefixtures("plain_report")
SMOOTH = ("--method", "zero-shot", "--set", "probe.l2=[0.03]", "--set", "probe.views=1",
          "--set", "probe.layers=[]", "--set", "probe.smoothing=0.75",
          "--set", "probe.neighbours=3")  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory, data, encoder):
    folder = tmp_path_factory.mktemp("smooth") / "run"
    succeed("fit", data, "--out", folder, "--backbone", encoder, *QUICK, *SMOOTH)
    return package.load_run(folder)


def shares(text):
    rows = list(csv.DictReader(text.splitlines()))
    names = [name for name in rows[0] if name.startswith("p(")]
    return [row["path"] for row in rows], np.array([[float(r[n]) for n in names] for r in rows])


def test_the_test_images_are_smoothed_in_fit_predict_and_evaluate(run, data):
    folder = run.folder.path
    paths, told = shares((folder / "predictions.csv").read_text("utf-8"))
    features = np.load(next((folder / "stages").rglob("features-test/*.npy")))
    logits = predict_logits(run.model.head, features)
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    similar = directions @ directions.T
    np.fill_diagonal(similar, -2)
    nearest = np.argsort(-similar, axis=1)[:, :3]
    mixed = 0.25 * logits + 0.75 * logits[nearest].mean(axis=1)
    expected = np.exp(mixed) / np.exp(mixed).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(told, run.said(expected), atol=1e-5)
    again = succeed("predict", folder, *[data / path for path in paths], "--quiet")
    np.testing.assert_allclose(shares(again.out)[1], told, atol=1e-5)
    content = json.loads(succeed("evaluate", folder, data, "--json", "--quiet").out)
    assert content["methods"][-1]["macro_f1"] == metrics(folder)["methods"][-1]["macro_f1"]
    assert "smoothed" in metrics(folder)["label_value"]["left_out"]


def test_the_chips_of_a_map_are_smoothed_with_those_of_their_scene(run, tmp_path):
    pixels = np.random.default_rng(0).integers(1, 255, (3, 5 * SIDE, 3 * SIDE), dtype=np.uint8)
    pixels[:, :SIDE, :SIDE] = 0  # no data
    scene = write_scene(tmp_path / "scene.tif", pixels, nodata=0)
    words = ("--chip", SIDE, "--step", SIDE, "--views", 1, "--quiet", "--probabilities")
    succeed("map", run.folder.path, scene, "--out", tmp_path / "map.tif", *words,
            tmp_path / "shares.tif")  # fmt: skip
    with rasterio.open(tmp_path / "shares.tif") as file:
        shares = np.moveaxis(file.read(), 0, -1).reshape(15, -1)[1:]
    chips = pixels.reshape(3, 5, SIDE, 3, SIDE).transpose(1, 3, 0, 2, 4).reshape(15, 3, SIDE, SIDE)
    logits, features = (found.numpy() for found in run.look_at([torch.from_numpy(chips[1:])]))
    similar = 1 - cdist(features, features, "cosine")
    nearest = np.argsort(-similar, axis=1)[:, :3]  # itself among them
    expected = softmax(0.25 * logits + 0.75 * logits[nearest].mean(axis=1), axis=1)
    np.testing.assert_allclose(shares, run.said(expected), atol=1e-5)


@pytest.mark.parametrize(
    ("verb", "option", "says"),
    [
        ("map", "--dense", "leave out --dense"),
        ("change", "--quiet", "smooths each date by itself"),
        ("map", "--quiet", "none of 'empty' has enough valid pixels"),
    ],
)
def test_what_cannot_be_smoothed_is_refused(verb, option, says, run, tmp_path, refuse):
    pixels = np.zeros((3, 2 * SIDE, 2 * SIDE), np.uint8)
    scenes = [write_scene(tmp_path / "empty.tif", pixels, nodata=0)] * (
        2 if verb == "change" else 1
    )
    words = ("--out", tmp_path / "map.tif", "--chip", SIDE, option)
    refuse(verb, run.folder.path, *scenes, *words, says=[says])


def test_a_single_image_is_refused(run, data, refuse):
    image = next(data.rglob("*.png"))
    refuse("predict", run.folder.path, image, says=["probe.smoothing needs several images"])
