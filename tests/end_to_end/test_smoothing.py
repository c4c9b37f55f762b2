"""A run that smooths what it predicts over the images predicted together."""

import csv
import json

import numpy as np
import pytest

import tailora as package
from tailora.errors import ConfigError
from tailora.heads.linear_probe import predict_logits
from tailora.inference.map_scenes import MapOptions, chip_side
from tests.end_to_end.chips import QUICK, metrics, succeed

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


def test_a_map_is_refused(run):
    with pytest.raises(ConfigError, match="which a scene is too large for"):
        chip_side(run, MapOptions(chip=14))


def test_a_single_image_is_refused(run, data, refuse):
    image = next(data.rglob("*.png"))
    refuse("predict", run.folder.path, image, says=["probe.smoothing needs several images"])
