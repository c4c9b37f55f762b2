"""Detection through the command line: labels in DOTA's format to average precision and files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
import torch
from PIL import Image, ImageDraw

import tailora as package
from tailora.backbones import Encoder
from tailora.backbones.layout import spread_layers
from tailora.boxes import Boxes, evaluate_detections, read_submission, to_corners
from tailora.methods.detectors import run_detector
from tailora.methods.prepare import check_row
from tailora.storage import read_json
from tailora.tasks.task import find_task
from tests.data.scenes import NORTH, WEST, write_labels, write_scene
from tests.end_to_end.chips import refused, snapshot, succeed, tailora
from tests.tiny import tiny_encoder_folder

COLOURS = {"ship": (240, 240, 250), "tank": (200, 40, 40), "crane": (30, 220, 60)}
QUICK = (
    "--quiet", "--rank", "2", "--epochs", "2", "--image-size", "28", "--set",
    "evaluate.replicates=30", "--set", "train.batch_size=2", "--set", "train.lr=0.005", "--set",
    "probe.l2=[0.01]",
)  # fmt: skip


def write_dota(root, *, images=20, width=48, seed=0):
    """Images of 48 rows with a bright ship or two, often a red tank, and in every fifth a crane."""
    rng = np.random.default_rng(seed)
    for name in ("images", "labelTxt"):
        (root / name).mkdir(parents=True)
    for i in range(images):
        picture = Image.fromarray(rng.integers(60, 100, (48, width, 3)).astype(np.uint8))
        lines = []
        names = ["ship"] + ["tank"] * (i % 2) + ["crane"] * (i % 5 == 0)
        for k, name in enumerate(names if i % 7 else ()):
            x, y = width * (k + 0.5) / 3 + rng.uniform(-1, 1), rng.uniform(12, 36)
            corners = to_corners([[x, y, 14, 8, rng.uniform(-1, 1)]])[0]
            ImageDraw.Draw(picture).polygon([tuple(p) for p in corners], fill=COLOURS[name])
            lines.append(" ".join(f"{v:.1f}" for v in corners.ravel()) + f" {name} 0")
        picture.save(root / "images" / f"p{i:02}.png")
        (root / "labelTxt" / f"p{i:02}.txt").write_text("\n".join(lines), "utf-8")
    return root


@pytest.fixture(scope="module")
def dota(tmp_path_factory):
    return write_dota(tmp_path_factory.mktemp("dota") / "harbour")


@pytest.fixture(scope="module")
def run(tmp_path_factory, dota, encoder):
    folder = tmp_path_factory.mktemp("runs") / "det"
    succeed(
        "fit", f"dota:{dota}", "--task", "detect", "--out", folder, "--backbone", encoder, *QUICK
    )
    return folder


RTMDET = ("--set", "train.detector=rtmdet")


@pytest.fixture(scope="module")
def rtmdet(tmp_path_factory, dota, encoder):
    folder = tmp_path_factory.mktemp("runs") / "rtmdet"
    words = ("--task", "detect", "--out", folder, "--backbone", encoder, *QUICK, *RTMDET)
    succeed("fit", f"dota:{dota}", *words)
    return folder


@pytest.fixture(scope="module")
def staged(tmp_path_factory, dota):
    """Of a ResNet of three stages with strides 4, 8 and 16."""
    root = tmp_path_factory.mktemp("staged")
    encoder = tiny_encoder_folder(root / "resnet", "resnet", hidden=8, layers=3)
    words = ("--task", "detect", "--out", root / "run", "--backbone", encoder, *QUICK)
    succeed("fit", f"dota:{dota}", *words, "--image-size", 48)
    return root / "run"


def test_a_detector_sees_the_stages_of_a_convolutional_encoder_as_they_are(staged, dota):
    run = package.load_run(staged)
    detector = run_detector(run, find_task("detect"))
    assert detector.strides.unique().tolist() == [4, 8, 16]
    data = package.data.open_object_tiles(f"dota:{dota}")
    boxes = [torch.tensor([[20.0, 20, 14, 8, 0.3]])]
    run.model.train()
    for name, weight in run.model.named_parameters():
        weight.requires_grad_("lora_" in name)
    features = find_task("detect").model(run.model.encoder)(
        torch.from_numpy(data.source.read(0))[None]
    )
    sum(detector.losses(features, boxes, [torch.zeros(0, 5)]).values()).backward()
    reached = [w.grad.abs().sum() > 0 for n, w in run.model.named_parameters() if "lora_B" in n]
    assert reached
    assert all(reached)


each_detector = pytest.mark.parametrize("name", ["run", "rtmdet"])
each_run = pytest.mark.parametrize("name", ["run", "rtmdet", "staged"])


def test_metrics_of_rows_and_of_objects(run):
    metrics = read_json(run / "metrics.json")
    found = metrics["task"]
    assert found["name"] == "detect"
    rows = [(row["method"], row["head"]) for row in found["rows"]]
    assert rows == [("lora", "own"), ("lora", "logit-adjusted")]
    assert {row["name"] for row in found["rows"][-1]["per_class"]} == set(COLOURS)
    assert found["rows"][-1]["detections"] > 0
    [pair] = found["differences"]
    gain = found["rows"][1]["ap50"]["all"] - found["rows"][0]["ap50"]["all"]
    assert pair["ap50"]["all"] == pytest.approx(gain)
    errors = found["errors"]
    tested = [one["test_objects"] for one in found["rows"][-1]["per_class"]]
    assert np.sum(errors["confusion"], axis=1)[:-1].tolist() == tested
    assert sum(one["objects"] for one in errors["sizes"]) == sum(tested)
    step = json.loads((run / "history.jsonl").read_text("utf-8").splitlines()[0])
    assert step["parts"].keys() == {"decisions", "presence", "box", "direction", "centrality"}
    assert step["loss"] == pytest.approx(sum(step["parts"].values()), rel=1e-4)
    steps = len((run / "history.jsonl").read_text("utf-8").splitlines())
    images = read_json(run / "run.json")["dataset"]["n_train"]
    assert steps == 2 * ((images + 1) // 2)  # images without objects are learnt from too


def test_boxes_learn_by_the_loss_that_was_asked_for(run, dota, encoder, tmp_path):
    words = ("--backbone", encoder, *QUICK, "--epochs", "1", "--set", "train.box_loss=kld")
    succeed("fit", f"dota:{dota}", "--task", "detect", "--out", tmp_path / "kld", *words)
    first, plain = (
        json.loads((folder / "history.jsonl").read_text("utf-8").splitlines()[0])["parts"]
        for folder in (tmp_path / "kld", run)
    )
    assert first["box"] != plain["box"]
    assert {name: part for name, part in first.items() if name != "box"} == {
        name: part for name, part in plain.items() if name != "box"
    }


def test_presence_may_be_learnt_without_sampling(run, dota, encoder, tmp_path):
    words = (
        "--backbone",
        encoder,
        *QUICK,
        "--epochs",
        "1",
        "--set",
        "train.presence=sampling-free",
    )
    succeed("fit", f"dota:{dota}", "--task", "detect", "--out", tmp_path / "free", *words)
    lines = (tmp_path / "free" / "history.jsonl").read_text("utf-8").splitlines()
    for parts in (json.loads(line)["parts"] for line in lines):
        assert parts["presence"] == pytest.approx(parts["box"], rel=1e-4)
    task = find_task("detect")
    free, plain = (
        run_detector(package.load_run(one), task).presence.bias.item()
        for one in (tmp_path / "free", run)
    )
    assert free > plain + 1  # a percent of the locations is not enough for tiles of few tokens
    succeed("predict", tmp_path / "free", dota / "images", "--out", tmp_path / "t", "--quiet")


def test_tiles_may_be_turned_by_any_angle_with_objects_pasted(run, dota, encoder, tmp_path):
    words = ("--backbone", encoder, *QUICK, "--epochs", "1", "--set", "train.augment=objects")
    options = ("--set", "train.augment_options={paste=1.0}")
    succeed("fit", f"dota:{dota}", "--task", "detect", "--out", tmp_path / "run", *words, *options)
    first, plain = (
        json.loads((folder / "history.jsonl").read_text("utf-8").splitlines()[0])
        for folder in (tmp_path / "run", run)
    )
    assert first["parts"].keys() == plain["parts"].keys()
    assert first["loss"] != plain["loss"]


DEBLORA = (
    "--method", "deblora", "--clusters", "4", "--set", "deblora.pull=0.5", "--epochs", "1",
)  # fmt: skip
PARTS = {"presence", "box", "direction", "centrality"}


def debiased(dota, encoder, folder, *options):
    words = ("--task", "detect", "--out", folder, "--backbone", encoder, *QUICK, *DEBLORA)
    succeed("fit", f"dota:{dota}", *words, *options)
    rows = read_json(folder / "metrics.json")["task"]["rows"]
    own, lora = ("lora", "own"), ("lora", "logit-adjusted")
    assert [(r["method"], r["head"]) for r in rows] == [own, lora, ("deblora", "logit-adjusted")]
    return rows


def test_deblora_keeps_the_detector_that_its_new_adapter_learnt_with(dota, encoder, tmp_path):
    rows = debiased(dota, encoder, tmp_path / "run", "--set", "deblora.epochs=1")
    lines = (tmp_path / "run" / "history.jsonl").read_text("utf-8").splitlines()
    steps = [step for step in map(json.loads, lines) if step["stage"] == "deblora"]
    assert steps[-1]["parts"].keys() == PARTS | {"moved features"}
    assert 0 < sum(step["parts"]["moved features"] > 0 for step in steps) < len(steps)
    images = read_json(tmp_path / "run" / "run.json")["dataset"]["n_train"]
    assert len(steps) == (images + 1) // 2  # the detector needs those without rare objects too
    test, data = tmp_path / "test", package.data.open_object_tiles(f"dota:{dota}")
    for name in ("images", "labelTxt"):
        (test / name).mkdir(parents=True)
    for i in data.indices("test").tolist():
        picture = Path(data.targets.read(i).picture)
        for file in (picture, Path("labelTxt", picture.with_suffix(".txt").name)):
            shutil.copy(dota / file, test / file)
    again = succeed("evaluate", tmp_path / "run", f"dota:{test}", "--json", "--quiet").out
    [row] = json.loads(again)["task"]["rows"]
    assert row["detections"] == rows[-1]["detections"] != rows[1]["detections"]
    assert row["ap50"]["all"] == pytest.approx(rows[-1]["ap50"]["all"])


def test_zero_shot_trains_a_detector_on_the_encoder_as_it_is(dota, encoder, tmp_path):
    words = ("--task", "detect", "--backbone", encoder, *QUICK, "--epochs", "1")
    folder = tmp_path / "run"
    succeed("fit", f"dota:{dota}", *words, "--method", "zero-shot", "--out", folder)
    [row] = read_json(folder / "metrics.json")["task"]["rows"]
    assert (row["method"], row["head"]) == ("zero-shot", "logit-adjusted")
    assert row["detections"] > 0
    steps = [
        json.loads(line) for line in (folder / "history.jsonl").read_text("utf-8").splitlines()
    ]
    assert set().union(*(step["parts"] for step in steps)) == PARTS
    assert not (folder / "adapter").exists()
    assert not (folder / "backbone.safetensors").exists()
    succeed("predict", folder, dota / "images", "--out", tmp_path / "task1", "--quiet")
    assert read_submission(tmp_path / "task1").images


def test_a_comparison_scores_rows_by_average_precision(run, dota, encoder, tmp_path):
    """What a row of a comparison says of a seed is what a run says of it."""
    out = tmp_path / "compared"
    words = ("--task", "detect", "--backbone", encoder, *QUICK[1:], "--out", out, "--jobs", "1")
    methods = ("--methods", "zero-shot,lora", "--seeds", "2")
    shown = succeed("compare", f"dota:{dota}", *words, *methods).out
    assert "AP50 in points" in shown
    rows = {(r["adapter"], r["probe"]): r for r in read_json(out / "comparison.json")["rows"]}
    for row in read_json(run / "metrics.json")["task"]["rows"]:
        found = rows["lora", row["head"]]["task"]
        for scope, value in row["ap50"].items():
            assert found["scores"][scope]["per_seed"][0] == pytest.approx(value), scope
            above = found["also"]["AP50:95"]["scores"][scope]
            assert above["per_seed"][0] == pytest.approx(row["map"][scope])
        assert {one["name"] for one in found["per_class"]} == set(COLOURS)
    other, lora = (rows[name, "logit-adjusted"]["task"] for name in ("zero-shot", "lora"))
    gain = other["scores"]["all"]["mean"] - lora["scores"]["all"]["mean"]
    assert other["difference"]["all"]["mean"] == pytest.approx(gain)
    # each seed trains a detector of its own on the encoder that no seed changes
    first, second = other["scores"]["all"]["per_seed"]
    assert first != second
    page = (out / "comparison.html").read_text("utf-8")
    assert "AP50 per class" in page
    assert "AP75 tail" in page


def test_without_a_new_adapter_deblora_moves_the_classifier_alone(dota, encoder, tmp_path):
    settings = ("deblora.epochs=0", "deblora.head=targets")
    debiased(dota, encoder, tmp_path, *(word for one in settings for word in ("--set", one)))
    found = {
        name: (tmp_path / name).read_bytes() == (tmp_path / "stages/lora" / name).read_bytes()
        for name in (
            "detector.safetensors",
            "adapter/adapter_model.safetensors",
            "head.safetensors",
        )
    }
    assert list(found.values()) == [True, True, False]


def test_the_report_shows_precision_and_boxes(run, tmp_path):
    succeed("report", run, "--out", tmp_path / "again.html", "--quiet")
    shown = (tmp_path / "again.html").read_text("utf-8")
    assert {"object_curves", "error_picture"} <= set(np.load(run / "report.npz"))
    for text in ("Mean average precision by group", "image, true boxes and boxes found of",
                 "Confusion matrix of 3 classes and background", "Precision against recall by",
                 "image, true boxes and boxes found: ",
                 "Tail AP50 of LoRA", "scores of the class of true objects, given",
                 "training objects", '<table class="wide" aria-label="Mean'):  # fmt: skip
        assert text in shown


@pytest.mark.parametrize("name", ["run", "staged"])
def test_predicted_files_score_what_evaluate_says(name, request, tmp_path, monkeypatch):
    """The files of DOTA's server, evaluated as DOTA does, against the metrics of `evaluate`.

    Boxes, classes under them and classes of true objects come from one look at each image.
    """
    run, looks = request.getfixturevalue(name), []
    other = write_dota(tmp_path / "other", images=6, width=80, seed=3)
    look = Encoder._run

    def counted(encoder, images, **options):
        looks.append(len(images))
        return look(encoder, images, **options)

    monkeypatch.setattr(Encoder, "_run", counted)
    out = json.loads(succeed("evaluate", run, f"dota:{other}", "--json", "--quiet").out)
    [row] = out["task"]["rows"]
    assert sum(looks) == 12  # two tiles of each
    answer = succeed("predict", run, other / "images", "--out", tmp_path / "task1")
    assert "3 files" in answer.out
    found = read_submission(tmp_path / "task1")
    assert len(found.images) == row["detections"] > 0
    data = package.data.open_object_tiles(f"dota:{other}", to_learn=False)
    parts = [data.targets.read(i) for i in range(len(data))]
    truth = Boxes(
        [one.picture[len("images/") : -len(".png")] for one in parts for _ in one.inside.classes],
        [data.classes[c] for one in parts for c in one.inside.classes],
        np.concatenate([one.inside.corners for one in parts]),
    )
    expected = evaluate_detections(found, truth, protocol="area")
    by_name = {one["name"]: one["ap50"] for one in row["per_class"]}
    for name, value in zip(expected.classes, expected.precision[0], strict=True):
        assert by_name[name] == pytest.approx(value, abs=0.02)  # files have two decimals
    assert out["task"]["rows"][0]["ap50"]["all"] is not None


@each_run
def test_a_copied_run_predicts_the_same_bits(name, request, dota, tmp_path):
    run = request.getfixturevalue(name)
    package.load_run(run).save(tmp_path / "copy")
    images = [dota / "images" / f"p0{i}.png" for i in range(3)]
    for source, out in ((run, "one"), (tmp_path / "copy", "two")):
        succeed("predict", source, *images, "--out", tmp_path / out, "--quiet")
    assert read_submission(tmp_path / "one").images
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")


@each_detector
def test_a_stopped_training_goes_on_to_the_same_bits(name, request, dota, encoder, tmp_path):
    run = request.getfixturevalue(name)

    class StopError(Exception):
        pass

    class Stop(package.Callback):
        def on_epoch_end(self, event):
            raise StopError

    recipe = package.Recipe().override({
        "task": "detect", "backbone.name": str(encoder), "data.image_size": 28,
        "adapter.rank": 2, "train.epochs": 2, "train.sampler": "repeat-factor",
        "train.detector": "rtmdet" if name == "rtmdet" else "fcos",
        "train.batch_size": 2, "train.lr": 0.005, "evaluate.replicates": 30, "probe.l2": [0.01],
    })  # fmt: skip
    data = package.data.open_object_tiles(f"dota:{dota}")
    with pytest.raises(StopError):
        package.fit(data, recipe=recipe, out=tmp_path / "run", callbacks=[Stop()])
    assert not (tmp_path / "run" / "detector.safetensors").exists()
    package.fit(data, recipe=recipe, out=tmp_path / "run", resume=True)
    for file in ("detector.safetensors", "head.safetensors", "adapter/adapter_model.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (run / file).read_bytes()
    kept = [read_json(folder / "metrics.json")["task"] for folder in (run, tmp_path / "run")]
    assert kept[0] == kept[1]


def test_bad_combinations_and_files_are_refused_in_a_line(run, dota, encoder, tmp_path):
    data, out = f"dota:{dota}", ("--out", tmp_path / "x")
    task = ("--task", "detect", "--out", tmp_path / "no", "--backbone", encoder)
    spaced, twice, broken = (tmp_path / name for name in ("spaced", "twice", "broken"))
    for folder, name in ((spaced, "a b.png"), (twice, "p01.png")):
        folder.mkdir()
        shutil.copy(dota / "images" / "p00.png", folder / name)
    shutil.copytree(run, broken)
    (broken / "detector.safetensors").unlink()
    resnet = tiny_encoder_folder(tmp_path / "resnet", "resnet", hidden=8, layers=3)
    for words, text in (
        (
            ("compare", data, *task, "--methods", "clora"),
            "method 'clora' needs one label per image",
        ),
        (("fit", data, *task, "--set", "train.soup=2"), "soup=2 does not go with"),
        (("fit", data, *task, "--set", "train.interpolation=0.5"), "interpolation=0.5 does not"),
        (("fit", data, *task, "--set", "probe.layers=[1]"), "layers=[1] does not go with"),
        (("fit", data, *task, "--set", "train.mix=mixup"), "needs one label per image"),
        (("fit", data, *task, "--set", "train.box_loss=gdw"), "box loss 'gdw'; did you mean 'gwd'"),
        (
            (
                "fit",
                "bluemarble-dense:windows=40",
                "--out",
                tmp_path / "no",
                "--backbone",
                encoder,
                "--set",
                "train.box_loss=gwd",
            ),
            "'segment' has no boxes",
        ),
        (("fit", data, *task, "--set", "train.detector=rtmdt"), "detector 'rtmdt'; did you mean"),
        (
            ("fit", data, *task, *RTMDET, "--set", "train.presence=quality-focal"),
            "'quality-focal' is a choice of the detector 'fcos'",
        ),
        (("fit", data, *task, "--set", "train.presence=focel"), "presence 'focel'; did you mean"),
        (
            ("fit", data, *task, "--set", "train.augment=objects", "--set", "data.has_up=true"),
            "train.augment='objects' rotates images",
        ),
        (
            (
                "fit",
                "bluemarble-dense:windows=40",
                "--out",
                tmp_path / "no",
                "--backbone",
                encoder,
                "--set",
                "train.augment=objects",
            ),
            "moves objects, and task 'segment' has none",
        ),
        (("fit", data, *task, "--chip", "32"), "--chip are options of scenes or masks"),
        (("fit", f"yolo:{dota}", "--out", tmp_path / "no"), "does not say what classes are called"),
        (("fit", "bluemarble-dense:windows=40", *task), "has no oriented boxes"),
        (
            (
                "fit",
                data,
                "--task",
                "detect",
                "--out",
                tmp_path / "no",
                "--backbone",
                resnet,
                "--image-size",
                "50",
            ),
            "do not cover images of 50 px evenly; choose --image-size 48 or 64",
        ),
        (("predict", run, dota / "images"), "give a folder with --out DIR"),
        (("predict", run, spaced, *out), "has a space"),
        (("predict", run, twice, dota / "images", *out), "have one name"),
        (("predict", run, twice, *out, "--step", "4"), "--step applies to maps"),
        (("predict", broken, twice, *out), "detector.safetensors' (weights or results) is missing"),
    ):
        refused(tailora(*words), text)


def test_head_and_detector_see_the_same_tokens(dota, tmp_path):
    """Also of an encoder whose middle layers other heads see by default."""
    folder = tiny_encoder_folder(tmp_path / "deep", hidden=16, layers=6)
    recipe = package.Recipe().override({"task": "detect", "backbone.name": str(folder)})
    recipe, loaded = check_row(package.data.open_object_tiles(f"dota:{dota}"), recipe)
    assert recipe.probe.layers == []
    assert spread_layers(loaded.model)


def test_inspect_counts_and_measures_objects(dota, tmp_path):
    words = ("inspect", f"dota:{dota}", "--task", "detect")
    found = json.loads(succeed(*words, "--json", "--out", tmp_path / "page.html").out)
    tally = package.data.open_object_tiles(f"dota:{dota}").targets.tally().sum(axis=0)
    counts = {one["name"]: one["train"] + one["val"] + one["test"] for one in found["classes"]}
    assert [counts[name] for name in ("crane", "ship", "tank")] == tally.tolist()
    sizes = found["objects"]
    assert (sizes["tiles"], sizes["tile_side"]) == (20, 48)
    for pair in sizes["median_sides"].values():  # drawn 14 x 8, written to a tenth of a pixel
        np.testing.assert_allclose(pair, (8, 14), atol=0.1)
    assert sizes["token_side"] == pytest.approx(48 / 8)  # at least 8 tokens along a side
    assert "8 x 14" in (shown := succeed(*words).out)
    assert "20 tiles of 48 pixels" in shown
    assert "1.3 tokens" in shown
    assert "Sizes of objects" in (tmp_path / "page.html").read_text("utf-8")


def test_objects_of_scenes_become_polygons_that_predict_agrees_with(run, tmp_path):
    """A scene of one tile against DOTA's files of the same pixels; a wide one has windows."""
    other = write_dota(tmp_path / "other", images=2, width=48, seed=5)
    pixels = np.asarray(Image.open(other / "images" / "p01.png")).transpose(2, 0, 1)
    scene = write_scene(tmp_path / "p01.tif", pixels)
    answer = succeed("map", run, scene, "--out", tmp_path / "o.gpkg", "--score", 0.1)
    assert "1 window" in answer.out
    meta, _, shapes, columns = pyogrio.raw.read(tmp_path / "o.gpkg")
    assert meta["crs"] == "EPSG:32633"
    fields = dict(zip(meta["fields"], columns, strict=True))
    succeed("predict", run, other / "images" / "p01.png", "--out", tmp_path / "task1", "--quiet")
    expected = read_submission(tmp_path / "task1")
    corners = shapely.get_coordinates(shapely.from_wkb(shapes)).reshape(-1, 5, 2)[:, :4]
    found = (corners - (WEST, NORTH)) / (10, -10)
    inside = ((expected.corners.mean(axis=1) > 0) & (expected.corners.mean(axis=1) < 48)).all(1)
    order = np.lexsort((np.array(expected.classes), -expected.scores))
    order = order[inside[order]]
    own = np.lexsort((fields["class"], -fields["score"].round(6)))
    assert len(own) == len(order) > 0
    np.testing.assert_allclose(found[own], expected.corners[order], atol=0.0051)
    assert set(fields["verdict"]) <= {"trusted", "weak", "untested"}
    wide = write_scene(tmp_path / "wide.tif", np.tile(pixels, (1, 1, 3)))
    words = (wide, "--out", tmp_path / "w.geojson", "--json", "--quiet")
    [one] = json.loads(succeed("predict", run, *words).out)
    assert (one["windows"], one["georeferenced"]) == (4, True)
    assert len(json.loads((tmp_path / "w.geojson").read_text())["features"]) == sum(
        one["objects"].values()
    )


def test_bad_options_of_maps_of_objects_are_refused_in_a_line(run, tmp_path):
    scene = write_scene(tmp_path / "s.tif", np.zeros((2, 60, 60), np.uint8))
    good = write_scene(tmp_path / "good.tif", np.zeros((3, 60, 60), np.uint8))
    picture = tmp_path / "p.png"
    Image.new("L", (60, 60)).save(picture)
    objects = ("--out", tmp_path / "o.gpkg")
    for words, text in (
        ((scene, *objects), "has 2 bands, but the run was trained on 3"),
        ((picture, *objects), "has 1 band, but the run was trained on 3"),
        ((scene, "--out", tmp_path / "o.tif"), "objects are written as .gpkg or .geojson"),
        ((scene, scene, *objects), "objects of 2 scenes cannot be written to"),
        ((scene, *objects, "--score", "1.5"), "--score must lie in [0, 1), got 1.5"),
        ((scene, *objects, "--polygons", tmp_path / "p.gpkg"), "--polygons: only for maps of"),
        ((good, *objects, "--step", "99"), "step must lie in 1..48"),
        ((scene, *objects, "--views", "8"), "--views: only for maps of classes"),
        ((tmp_path / "no.tif", *objects), "no raster or folder"),
    ):
        refused(tailora("map", run, *words), text)
    assert not (tmp_path / "o.gpkg").exists()


def test_one_class_of_polygons_on_a_scene(encoder, tmp_path):
    """Crowns as polygons, from a scene to boxes on it; without other classes there is no tail."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(60, 90, (3, 184, 184)).astype(np.uint8)
    corners = []
    for x, y in np.argwhere(np.ones((11, 11))) * 16 + 12:
        corners.append(to_corners([[x, y, 10, 6, rng.uniform(-1, 1)]])[0])
        inside = shapely.contains_xy(
            shapely.Polygon(corners[-1]), *(np.mgrid[y - 8 : y + 9, x - 8 : x + 9][::-1] + 0.5)
        )
        pixels[:, y - 8 : y + 9, x - 8 : x + 9][:, inside] = 230
    scene = write_scene(tmp_path / "wood.tif", pixels)
    shapes = list(shapely.polygons(np.array(corners) * (10, -10) + (WEST, NORTH)))
    labels = write_labels(tmp_path / "crowns.gpkg", shapes, ["crown"] * len(shapes), field="kind")
    data = (scene, "--labels", labels, "--class-field", "kind", "--task", "detect", "--chip", 20)
    run = tmp_path / "run"
    succeed("fit", *data, "--out", run, "--backbone", encoder, *QUICK,
            "--set", "train.batch_size=8", "--set", "train.epochs=1")  # fmt: skip
    metrics = read_json(run / "metrics.json")
    [_, row] = metrics["task"]["rows"]
    assert row["ap50"]["tail"] is None
    assert row["ap50"]["all"] == row["ap50"]["head"] == row["per_class"][0]["ap50"] > 0
    facts = read_json(run / "run.json")["dataset"]
    assert (facts["chip"], facts["pixel"]) == (20, [10.0, 10.0])
    assert any("there is no tail" in note for note in facts["notes"])
    assert "Average precision" in (run / "report.html").read_text("utf-8")
    out = json.loads(succeed("evaluate", run, *data[:5], "--json", "--quiet").out)
    assert out["task"]["rows"][0]["ap50"]["all"] == pytest.approx(row["ap50"]["all"])


def test_a_source_is_no_scene_although_a_folder_has_its_name(dota, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(dota, tmp_path / "dota")
    counts = json.loads(succeed("inspect", "dota:dota", "--task", "detect", "--json").out)
    assert {row["name"] for row in counts["classes"]} == set(COLOURS)
