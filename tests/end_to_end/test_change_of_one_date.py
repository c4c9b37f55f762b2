"""Change learnt from one labelled scene through the command line, and found between two."""

import json

import numpy as np
import rasterio

from tailora.storage import read_json
from tests.data.scenes import write_scene
from tests.end_to_end.chips import succeed, write_table
from tests.end_to_end.test_segment import write_pairs
from tests.end_to_end.test_segment_scene import QUICK, codes_of, labels_of, write_fields

SIDE = 160
OF_CHANGE = {"segment": "change", "logit-adjusted": "factored"}


def test_a_scene_of_one_date_trains_a_model_of_change(encoder, tmp_path):
    fields, later = (write_fields(tmp_path / name, side=SIDE, seed=seed)
                     for name, seed in (("now", 0), ("later", 5)))  # fmt: skip
    run, out = tmp_path / "run", tmp_path / "change.tif"
    words = [OF_CHANGE.get(word, word) for word in QUICK]
    succeed("fit", fields / "scene.tif", *labels_of(fields), "--out", run, "--backbone", encoder,
            *words)  # fmt: skip
    found = read_json(run / "metrics.json")["task"]
    assert [row["head"] for row in found["rows"]] == ["post-classification", "factored"]
    assert found["rows"][-1]["sek"] > 0.3  # colours tell land cover apart
    notes = read_json(run / "run.json")["dataset"]["notes"]
    assert any("pairs made from images of one date" in note for note in notes)
    told = succeed("change", run, fields / "scene.tif", later / "scene.tif", "--out", out, "--json",
                   "--quiet")  # fmt: skip
    assert json.loads(told.out)["method"] == "direct"
    with rasterio.open(out) as file:
        changed = file.read(1)
    codes = codes_of(SIDE, 0), codes_of(SIDE, 5)
    known, differ = (codes[0] < 3) & (codes[1] < 3), codes[0] != codes[1]
    found_in = [(changed == 1)[known & own].mean() for own in (differ, ~differ)]
    assert found_in[0] > found_in[1] + 0.4
    rows = json.loads(
        succeed("evaluate", run, later / "scene.tif", *labels_of(later), "--json", "--quiet").out
    )["task"]["rows"]
    assert np.mean([row["f_scd"] for row in rows]) > 0.5


def test_two_scenes_on_different_grids_train_a_model_of_change(encoder, tmp_path, refuse):
    fields, later = (write_fields(tmp_path / name, side=SIDE, seed=seed)
                     for name, seed in (("now", 0), ("later", 5)))  # fmt: skip
    with rasterio.open(later / "scene.tif") as file:
        finer = np.kron(file.read(), np.ones((2, 2), np.uint8))
    write_scene(later / "finer.tif", finer, pixel=5.0)
    dates = f"{fields / 'scene.tif'}:after={later / 'finer.tif'}"
    both = f"{dates}:labels_after={later / 'fields.gpkg'}"
    words = [OF_CHANGE.get(word, word) for word in QUICK]
    run = tmp_path / "run"
    succeed("fit", both, *labels_of(fields), "--out", run, "--backbone", encoder, *words)
    found = read_json(run / "metrics.json")["task"]
    assert found["covers"] == ["farm", "forest", "water"]
    assert found["rows"][-1]["sek"] > 0.3  # colours tell land cover apart
    notes = read_json(run / "run.json")["dataset"]["notes"]
    assert [note for note in notes if "warped" in note] == [
        "second date 'finer' is warped: from pixels of 5 in EPSG:32633 to pixels of 10 in "
        "EPSG:32633"
    ]
    rows = json.loads(succeed("evaluate", run, both, *labels_of(fields), "--json", "--quiet").out)
    assert rows["task"]["rows"][-1]["sek"] == found["rows"][-1]["sek"]
    fit = ("fit", dates, *labels_of(fields), "--out", tmp_path / "no", "--backbone", encoder)
    refuse(*fit, *words, says=["label 'farm' is no transition such as", "labels_after"])
    refuse(*fit, *QUICK, says=["after and labels_after are a second date, for --task change"])


def test_a_table_of_masks_of_one_date_trains_a_model_of_change(encoder, tmp_path, refuse):
    root, run = write_pairs(tmp_path / "pairs"), tmp_path / "run"
    rows = [(f"images/{i:02}.png", f"masks/{i:02}.png") for i in range(26)]
    table = write_table(root / "all.csv", ("image", "mask"), rows)
    words = ("--task", "change", "--method", "zero-shot", "--ignore", 255, "--image-size", "28",
             "--set", "evaluate.replicates=40", "--set", "probe.l2=[0.01]")  # fmt: skip
    succeed("fit", table, "--out", run, "--backbone", encoder, "--quiet", *words)
    found = read_json(run / "metrics.json")["task"]
    assert found["covers"] == ["field", "mine", "water"]
    assert found["rows"][-1]["binary_mean_iou"] > 0.5  # colours tell land cover apart
    write_table(root / "half.csv", ("image", "masks"), rows)
    fit = ("fit", root / "half.csv", "--out", tmp_path / "new", "--backbone", encoder, *words)
    refuse(*fit, says=["or image, mask for images of one date, which pairs are made from"])
