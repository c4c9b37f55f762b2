"""Segmentation through the command line: pairs of images and masks to metrics over pixels."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from safetensors.numpy import load_file
from scipy import ndimage
from sklearn.metrics import jaccard_score

import tailora as package
from tailora.backbones import load_backbone
from tailora.cli.options import chosen_recipe
from tailora.config.recipe import Recipe
from tailora.heads import map_probe
from tailora.heads.map_probe import finest
from tailora.inference.predict_masks import drawn_classes
from tailora.methods.prepare import resolve_recipe
from tailora.metrics.raters import mask_distance
from tailora.storage import read_json
from tailora.tasks.segmentation import classes_of, pixel_logits, token_classes
from tests.data.scenes import write_scene as write_raster
from tests.end_to_end.chips import succeed, write_chips

CLASSES = ("water", "field", "mine")
COLOURS = np.array([[40, 70, 160], [70, 130, 50], [180, 150, 120]])
SIDE = 24
QUICK = ("--quiet", "--rank", "2", "--epochs", "1", "--image-size", "28",
         "--set", "evaluate.replicates=40", "--set", "train.batch_size=8",
         "--set", "probe.l2=[0.01]")  # fmt: skip
IN_ALL = ("--task", "segment", *QUICK)
OPTIONS = (*IN_ALL, "--probe", "logit-adjusted")  # the quickest head
RECUT = ("--set", "train.sampler=class-balanced", "--set", "train.recut=0.5")


def write_pairs(root, *, images=26, seed=0):
    """Images of 24 px in two halves, and a rare third class in blots; edges are ignored."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(images):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[:, rng.integers(6, 18) :] = 1
        if i % 3 == 0:
            row, column = rng.integers(2, 15, 2)
            mask[row : row + 7, column : column + 7] = 2
        noisy = COLOURS[mask] + rng.integers(-25, 25, (SIDE, SIDE, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(root / "images" / f"{i:02}.png")
        mask[:, :2] = 255
        Image.fromarray(mask).save(root / "masks" / f"{i:02}.png")
    lines = [f"{value},{name}" for value, name in enumerate(CLASSES)]
    (root / "classes.txt").write_text("\n".join(lines), "utf-8")
    return root


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "land")


@pytest.fixture(scope="module")
def run(tmp_path_factory, pairs, encoder):
    folder = tmp_path_factory.mktemp("runs") / "land"
    succeed("fit", pairs, "--out", folder, "--backbone", encoder, *OPTIONS, "--ignore", "255")
    return folder


def predicted_pixels(run, pairs):
    """Masks and predictions of the test images, straight from the model."""
    loaded = package.load_run(run)
    data = package.data.open_masks(pairs, ignore=255)
    for i in data.indices("test"):
        image = package.data.resize(data.source.read(int(i)), 28)
        tokens = loaded.model.encoder.patch_features(torch.from_numpy(image)[None])
        yield (
            data.targets.read(int(i)),
            classes_of(finest(loaded.model.head)(tokens)[0].detach().numpy(), (SIDE, SIDE)),
        )


def test_by_default_the_head_sees_all_tokens():
    assert chosen_recipe(None, None, task="segment").probe.loss == "dpt"
    assert chosen_recipe(None, None, task="segment", probe="conv").probe.loss == "conv"


def test_metrics_count_pixels_of_the_masks(run, pairs):
    found = read_json(run / "metrics.json")["task"]
    assert found["name"] == "segment"
    rows = [(row["method"], row["head"]) for row in found["rows"]]
    assert rows == [("lora", "own"), ("lora", "logit-adjusted")]
    truth, said = map(np.stack, zip(*predicted_pixels(run, pairs), strict=True))
    known = truth >= 0
    expected = jaccard_score(truth[known], said[known], average=None)
    own = found["rows"][-1]
    names = [row["name"] for row in own["per_class"]]
    assert names == list(CLASSES)
    np.testing.assert_allclose([row["iou"] for row in own["per_class"]], expected, atol=0.01)
    assert own["mean_iou"]["all"] > 0.5  # colours tell classes apart
    assert [row["test_pixels"] for row in own["per_class"]] == [
        int((truth == c).sum()) for c in range(3)
    ]
    assert found["images"] == len(truth)
    data = package.data.open_masks(pairs, ignore=255)
    for key, rows in (("test_objects", data.indices("test")), ("train", data.indices("train"))):
        masks = [data.targets.read(int(i)) for i in rows]
        objects = [sum(ndimage.label(mask == c)[1] for mask in masks) for c in range(3)]
        assert objects == (
            found["train_objects"] if key == "train" else [row[key] for row in own["per_class"]]
        )
    assert set(own["by_objects"]["mean_iou"]) == {"head", "middle", "tail", "all"}
    low, high = own["mean_iou_interval"]["all"]
    assert low <= own["mean_iou"]["all"] <= high
    [pair] = found["differences"]
    assert (pair["head"], pair["against_head"]) == ("logit-adjusted", "own")
    gain = own["mean_iou"]["tail"] - found["rows"][0]["mean_iou"]["tail"]
    assert pair["mean_iou"]["tail"] == pytest.approx(gain)


def test_the_report_shows_pixels_and_windows(run, tmp_path):
    succeed("report", run, "--out", tmp_path / "again.html", "--quiet")
    shown = (tmp_path / "again.html").read_text("utf-8")
    assert "Mean IoU by group" in shown
    assert "Thirds of the classes by training objects" in shown
    assert "objects found" in shown
    assert "image, truth, prediction and errors of" in shown
    assert '<ul class="gallery wide">' in shown
    assert "Tail mean IoU of LoRA" in shown


def test_fit_and_evaluate_print_the_table_of_pixels(run, pairs):
    out = succeed("evaluate", run, f"{pairs}:ignore=255").out
    assert "mean IoU over pixels" in out
    found = json.loads(succeed("evaluate", run, pairs, "--ignore", 255, "--json", "--quiet").out)
    kept = read_json(run / "metrics.json")["task"]["rows"][-1]
    [own] = found["task"]["rows"]
    assert own["mean_iou"]["all"] == pytest.approx(kept["mean_iou"]["all"], abs=0.02)
    for name, value in kept["by_objects"]["mean_object_recall"].items():
        assert own["by_objects"]["mean_object_recall"][name] == pytest.approx(value, abs=0.1)


def test_other_masks_may_have_other_values_and_other_classes(run, tmp_path):
    """Classes are matched by name, and pixels of a class that the run does not know left out."""
    other = write_pairs(tmp_path / "other", images=6, seed=5)
    (other / "classes.txt").write_text("0,field\n1,water\n2,road\n255,ignore\n", "utf-8")
    found = json.loads(succeed("evaluate", run, other, "--json", "--quiet").out)
    [own] = found["task"]["rows"]
    tally = package.data.open_masks(other, to_learn=False).targets.tally().sum(axis=0)
    support = {row["name"]: row["test_pixels"] for row in own["per_class"]}
    assert support == {"field": tally[0], "water": tally[1], "mine": 0}
    assert found["left_out"].keys() == {"road"}


def test_a_comparison_counts_pixels(run, pairs, encoder, tmp_path):
    """What a row of a comparison says of a seed is what a run says of it."""
    out = tmp_path / "compared"
    words = [*(word for word in IN_ALL if word != "--quiet"), "--ignore", "255", "--jobs", "1"]
    shown = succeed("compare", pairs, "--out", out, "--backbone", encoder, *words,
                    "--methods", "lora", "--seeds", "2", "--probes",
                    "own,logit-adjusted,logit-adjusted:prior=objects").out  # fmt: skip
    assert "mean IoU in points" in shown
    rows = {row["probe"]: row for row in read_json(out / "comparison.json")["rows"]}
    of_run = read_json(run / "metrics.json")["task"]
    for row in of_run["rows"]:
        found = rows[row["head"]]["task"]
        for scope, value in row["mean_iou"].items():
            assert found["scores"][scope]["per_seed"][0] == pytest.approx(value), scope
        assert [one["name"] for one in found["per_class"]] == list(CLASSES)
        assert set(found["validation"]) == {"all", "head", "middle", "tail"}
        accuracy = found["also"]["pixel accuracy"]["scores"]
        assert accuracy["all"]["per_seed"][0] == pytest.approx(row["pixel_accuracy"])
    assert rows["own"]["task"]["over_ordinary"] is None
    gain = rows["logit-adjusted"]["task"]["over_ordinary"]["tail"]
    means = [rows[p]["task"]["scores"]["tail"]["mean"] for p in ("logit-adjusted", "own")]
    assert gain["mean"] == pytest.approx(means[0] - means[1])
    assert gain["low"] < gain["mean"] < gain["high"]
    page = (out / "comparison.html").read_text("utf-8")
    assert "Highest tail mean IoU" in page
    assert "IoU per class" in page
    table = package.read_comparison(out).rows.to_frame()
    assert table["task.scores.tail.mean"].tolist() == [
        row["task"]["scores"]["tail"]["mean"] for row in rows.values()
    ]


def test_the_size_of_images_follows_the_windows(pairs, encoder, tmp_path):
    """One and a half times 24 px is five patches of 7, and eight are the fewest."""
    run = tmp_path / "run"
    few = [word for word in OPTIONS if word not in ("--image-size", "28")]
    succeed("fit", pairs, "--out", run, "--backbone", encoder, *few, "--ignore", "255",
            "--method", "zero-shot")  # fmt: skip
    assert read_json(run / "run.json")["input"]["image_size"] == 56


@pytest.mark.parametrize("task", ["segment", "change"])
def test_upsampled_images_have_twice_as_many_tokens_along_a_side(task, encoder):
    """Of patches of 7: at least 8 along a side, at most 16, else one and a half of the window's."""
    found, loaded = [], load_backbone(str(encoder))
    for side in (24, 56, 300):
        data = SimpleNamespace(
            indices=lambda _: np.zeros(1, int),
            source=SimpleNamespace(read=lambda _, side=side: np.zeros((3, side, side))),
        )
        recipe = Recipe().override({"task": task, "probe.detail": "upsample"})
        resolved = resolve_recipe(recipe, loaded, data)
        found.append(resolved.data.image_size)
        assert resolve_recipe(resolved, loaded, data) == resolved
    assert found == [7 * 16, 7 * 24, 7 * 32]


def test_upsampled_images_are_those_of_that_size(pairs, encoder, tmp_path, refuse):
    """A run is to the digit that with --image-size, and predicts and maps at it."""
    few = [word for word in OPTIONS if word not in ("--image-size", "28", "logit-adjusted")]
    base = ("--backbone", encoder, "--method", "zero-shot", "--ignore", "255", *few[:-1])
    head = "logit-adjusted"
    run, known = tmp_path / "run", tmp_path / "known"
    succeed("fit", pairs, "--out", run, *base, "--probe", f"{head}:detail=upsample")
    succeed("fit", pairs, "--out", known, *base, "--probe", head, "--image-size", "112")
    assert read_json(run / "run.json")["input"]["image_size"] == 112
    metrics = [read_json(folder / "metrics.json")["task"] for folder in (run, known)]
    assert metrics[0] == metrics[1]
    found = json.loads(succeed("evaluate", run, pairs, "--ignore", 255, "--json", "--quiet").out)
    assert found["task"]["rows"][-1]["mean_iou"]["all"] == pytest.approx(
        metrics[0]["rows"][-1]["mean_iou"]["all"], abs=0.02
    )
    succeed("predict", run, pairs / "images", "--out", tmp_path / "masks", "--quiet")
    said, _ = mapped(run, write_scene(tmp_path / "a.tif", picture(pairs)), tmp_path / "map.tif")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "masks" / "00.png")), said)
    upsample = ("--set", "probe.detail=upsample")
    refuse("fit", pairs, *base, *upsample, "--image-size", "28", says=["leave one of them out"])
    chips = write_chips(tmp_path / "chips", {"a": 4, "b": 4})
    refuse("fit", chips, "--backbone", encoder, *upsample, says=["choose a size with --image-size"])
    both = ("compare", pairs, "--out", "new", *base[:2], *base[4:], "--methods", "zero-shot")
    for words in (
        ("--vary", "probe.detail=none,upsample"),
        ("--probes", f"{head},{head}:detail=upsample"),
        ("--probes", "dpt:detail=stem", *upsample),
    ):
        refuse(*both, *words, says=["make a comparison for each --image-size"])


def test_losses_of_overlap_train_the_adapter_and_the_head(pairs, encoder, tmp_path):
    run = tmp_path / "run"
    succeed("fit", pairs, "--out", run, "--backbone", encoder, *OPTIONS, "--ignore", "255",
            "--probe", "dice", "--set", "train.loss=lovasz")  # fmt: skip
    step = json.loads((run / "history.jsonl").read_text("utf-8").splitlines()[0])
    assert step["parts"].keys() == {"cross-entropy", "overlap"}
    assert step["loss"] == pytest.approx(sum(step["parts"].values()), rel=1e-4)
    rows = read_json(run / "metrics.json")["task"]["rows"]
    assert [row["head"] for row in rows] == ["own", "dice"]
    assert rows[-1]["mean_iou"]["all"] > 0.5


def test_noise_trains_the_adapter_and_the_head_adjusts_by_objects(pairs, encoder, tmp_path):
    """The prior of the head is that of connected areas, counted in training masks."""
    run, again = tmp_path / "run", tmp_path / "again"
    for folder, prior in ((run, "objects"), (again, "samples")):
        succeed("fit", pairs, "--out", folder, "--backbone", encoder, *OPTIONS, "--ignore", "255",
                "--probe", f"logit-adjusted:prior={prior}",
                "--set", "train.loss=blv", "--set", "train.head_start=zero")  # fmt: skip
    steps = [(folder / "history.jsonl").read_text("utf-8").splitlines() for folder in (run, again)]
    losses = [[json.loads(line)["loss"] for line in lines] for lines in steps]
    assert losses[0] == losses[1]  # noise of one seed
    written = package.load_run(run).recipe.probe.loss_options
    assert written == {"prior": "objects", "tau": 0.5}  # half of it, as without an option
    own, other = (package.load_run(folder).model.head for folder in (run, again))
    data = package.data.open_masks(pairs, ignore=255)
    areas, pixels = np.zeros(3), np.zeros(3)
    for i in data.indices("train"):
        mask = data.targets.read(int(i))
        areas += [ndimage.label(mask == c)[1] for c in range(3)]
        pixels += [(mask == c).sum() for c in range(3)]
    lifted = (own.bias - other.bias).detach().numpy()
    expected = 0.5 * (np.log(pixels / pixels.sum()) - np.log(areas / areas.sum()))
    assert lifted.argsort().tolist() == expected.argsort().tolist()


def test_deblora_may_move_objects_in_place_of_tokens(pairs, encoder, tmp_path, refuse):
    """The new adapter learns other targets, and each token stays in the cluster of its object."""
    words = ("--backbone", encoder, *OPTIONS, "--ignore", "255", "--method", "deblora",
             "--set", "deblora.clusters=4", "--set", "deblora.epochs=1")  # fmt: skip
    found = {}
    for unit in ("decision", "object"):
        run = tmp_path / unit
        succeed("fit", pairs, "--out", run, *words, "--set", f"deblora.unit={unit}")
        found[unit] = read_json(run / "metrics.json")["clusters"]
    assert found["decision"] != found["object"]
    assert sum(found["object"]["sizes"]) == sum(found["decision"]["sizes"])
    chips = write_chips(tmp_path / "chips", {"a": 4, "b": 4})
    refuse(
        "fit",
        chips,
        "--backbone",
        encoder,
        *QUICK,
        "--method",
        "deblora",
        "--set",
        "deblora.unit=object",
        says=["deblora.unit='object' needs classes of pixels"],
    )


def test_points_of_vit_p_learn_from_tokens_that_deblora_moved(pairs, encoder, tmp_path, refuse):
    """Its point classifier alone differs, and only in the row of debLoRA; runs predict with it."""
    words = ("--backbone", encoder, *IN_ALL, "--ignore", "255", "--method", "deblora",
             "--set", "deblora.clusters=4", "--set", "deblora.epochs=1",
             "--set", "deblora.pull=0.8")  # fmt: skip
    heads = {}
    for chosen in ("features", "targets"):
        run = tmp_path / chosen
        succeed("fit", pairs, "--out", run, *words, "--set", f"deblora.head={chosen}",
                "--probe", "vit-p:channels=8:epochs=2")  # fmt: skip
        heads[chosen] = [
            load_file(path)
            for path in (run / "head.safetensors", *sorted(run.glob("*/lora/head.safetensors")))
        ]
    assert len(heads["features"]) == 2
    for before, after, differ in zip(
        *heads.values(), ({"point.weight", "point.bias"}, set()), strict=True
    ):
        found = {key for key in before if not np.array_equal(before[key], after[key])}
        assert found == differ
    out = succeed("evaluate", run, pairs, "--ignore", 255, "--json", "--quiet").out
    assert json.loads(out)["task"]["rows"][-1]["head"] == "vit-p"
    moving = ("--set", "deblora.head=targets")
    refuse("fit", pairs, "--out", "new", *words, *moving, "--probe", "dpt",
           says=["leave it at features, or choose vit-p"])  # fmt: skip


@pytest.mark.parametrize("head", [
    "conv:by_object=square-root", "dpt:by_place=0.3:bins=true",
    "dpt:loss=dice:weight=0.4:boundary=0.5", "dpt:detail=stem", "vit-p",
])  # fmt: skip
def test_a_head_on_maps_sees_them_everywhere(head, pairs, encoder, tmp_path, refuse, monkeypatch):
    """Trained, chosen on validation, saved, evaluated and mapped, finer than tokens too."""
    run, learnt = tmp_path / "run", []
    train = map_probe.train_map_head
    monkeypatch.setattr(
        map_probe, "train_map_head",
        lambda *words, **more: (learnt.append(words[1].finer), train(*words, **more)),
    )  # fmt: skip
    probe = ("--probe", f"{head}:channels=8:epochs=[1,40]:rate=0.01",
             "--set", "probe.layers=[1,-1]")  # fmt: skip
    base = ("--backbone", encoder, *OPTIONS, "--ignore", "255", "--method", "zero-shot")
    succeed("fit", pairs, "--out", run, *base, *probe)
    assert read_json(run / "head.json")["options"]["epochs"] == 40
    data = package.data.open_masks(pairs, ignore=255)
    masks = [token_classes(data.targets.read(int(i)), (16, 16)) for i in data.indices("train")]
    for finer in learnt:  # with both numbers of epochs
        assert (finer is None) == head.startswith("conv")
        if finer is not None:
            np.testing.assert_array_equal(finer, masks)
    [row] = read_json(run / "metrics.json")["task"]["rows"]
    assert row["head"] == head.partition(":")[0]
    truth, said = map(np.stack, zip(*predicted_pixels(run, pairs), strict=True))
    known = truth >= 0
    expected = jaccard_score(truth[known], said[known], average="macro")
    assert row["mean_iou"]["all"] == pytest.approx(expected, abs=0.01)
    assert expected > 0.5
    metrics = read_json(run / "metrics.json")["methods"][0]
    found = json.loads(succeed("evaluate", run, pairs, "--ignore", 255, "--json", "--quiet").out)
    assert found["methods"][0]["macro_f1"]["all"] == pytest.approx(
        metrics["macro_f1"]["all"], abs=1e-3
    )
    scene, pixels = write_scene(tmp_path / "a.tif", picture(pairs)), picture(pairs)
    map_of_it, _ = mapped(run, scene, tmp_path / "map.tif")
    loaded = package.load_run(run)
    image = package.data.resize(np.moveaxis(pixels, -1, 0), 28)
    tokens = loaded.model.encoder.patch_features(torch.from_numpy(image)[None])
    logits = finest(loaded.model.head)(tokens)[0].detach().numpy()
    np.testing.assert_array_equal(map_of_it, classes_of(logits, (SIDE, SIDE)) + 1)
    bad = {
        "conv:channels=0": "channels must be a whole number",
        "conv:detail=stem": "shows pixels to --probe dpt, pulaski, upernet or vit-p of",
        "dpt:detail=steam": "unknown probe.detail 'steam'; did you mean 'stem'",
        "dpt:bands=3": "probe 'dpt' has no option 'bands'",
        "conv:boundary=-1": "boundary must be finite and at least 0, got -1",
        "dpt:by_place=2": "by_place must lie in [0, 1], got 2",
        "dpt:loss=dice:by_place=0.3": "looks at all rows of a class together; leave it out",
        "dpt:bins=5": "bins must be true or false, got 5",
        "dpt:by_object=size": "unknown by_object 'size'",
        "dpt:loss=dice:by_object=inverse": "looks at all rows of a class together; leave it out",
        "logit-adjusted:boundary=1": "logit-adjusted has no option 'boundary'",
    }
    for words, says in bad.items():
        refuse("fit", pairs, "--out", "new", *base, "--probe", words, says=[says])


def write_rated(root):
    """Pairs of two raters, of whom the second sees everything two pixels further down."""
    write_pairs(root)
    (root / "masks").rename(root / "masks_anna")
    (root / "masks_ben").mkdir()
    for path in sorted((root / "masks_anna").iterdir()):
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.roll(mask, 2, axis=0)).save(root / "masks_ben" / path.name)
    return root


def test_several_raters_are_learnt_from_and_measured(encoder, tmp_path):
    """The model is between them."""
    root, run = write_rated(tmp_path / "rated"), tmp_path / "run"
    succeed("fit", root, "--out", run, "--backbone", encoder, *OPTIONS, "--ignore", "255",
            "--method", "zero-shot")  # fmt: skip
    metrics = read_json(run / "metrics.json")["task"]
    found = metrics["raters"]
    assert metrics["images"] == 2 * found["images"]
    by_rater = {"anna": [], "ben": []}
    data = package.data.open_masks(root, ignore=255)
    for i in data.indices("test"):
        by_rater[data.source.id(int(i)).partition("@")[2]].append(data.targets.read(int(i)))
    distances = [mask_distance(a, b, 3) for a, b in zip(*by_rater.values(), strict=True)]
    assert found["agreement"] == pytest.approx(1 - np.mean(distances))
    said = [one for _, one in predicted_pixels(run, root)][::2]
    apart = [
        np.mean([mask_distance(mask, one, 3) for mask in pair])
        for one, *pair in zip(said, *by_rater.values(), strict=True)
    ]
    [row] = found["rows"]
    assert row["agreement"] == pytest.approx(1 - np.mean(apart), abs=0.01)
    energy = 2 * np.mean(apart) - np.mean(distances) / 2
    assert row["energy_distance"] == pytest.approx(energy, abs=0.02)
    assert read_json(run / "run.json")["dataset"]["duplicates"] == []
    page = (run / "report.html").read_text("utf-8")
    assert "of several raters" in page
    assert "below: the prediction. White" in page
    again = succeed("evaluate", run, root, "--ignore", 255).out
    assert "Two raters of an image agree with a mean IoU of" in " ".join(again.split())


def test_masks_are_drawn_as_raters_draw_them(encoder, tmp_path, refuse):
    """Each draw is written, of equal classes for all windows, and what is measured is their set."""
    root, run, out = write_rated(tmp_path / "rated"), tmp_path / "run", tmp_path / "out"
    succeed("fit", root, "--out", run, "--backbone", encoder, *IN_ALL, "--ignore", "255",
            "--method", "zero-shot", "--probe", "pulaski:channels=8:epochs=4")  # fmt: skip
    [row] = read_json(run / "metrics.json")["task"]["raters"]["rows"]
    told = json.loads(succeed("evaluate", run, root, "--ignore", 255, "--json").out)
    [again] = told["task"]["raters"]["rows"]
    assert again["energy_distance"] == pytest.approx(row["energy_distance"], abs=0.01)
    page = (run / "report.html").read_text("utf-8")
    assert "the prediction and masks that the model draws" in page
    with np.load(run / "report.npz") as evidence:
        assert evidence["rated_masks"].shape == evidence["rated_said"].shape == (3, 5, 128, 128)
        assert (evidence["rated_masks"] > -2).any(axis=(2, 3)).sum(axis=1).tolist() == [2, 2, 2]
        assert (evidence["rated_said"] > -2).any(axis=(2, 3)).all()
    succeed("predict", run, root / "images", "--out", out, "--draws", "2", "--quiet")
    names = sorted(path.name for path in (root / "images").iterdir())
    for folder in (out, out / "draw_1", out / "draw_2"):
        assert sorted(path.name for path in folder.glob("*.png")) == names
    first, second = (np.asarray(Image.open(out / f"draw_{k}" / names[0])) for k in (1, 2))
    assert set(np.unique(first)) <= {1, 2, 3}
    loaded = package.load_run(run)
    image = np.moveaxis(np.asarray(Image.open(root / "images" / names[0])), -1, 0)
    np.testing.assert_array_equal(drawn_classes(loaded, image, 2) + 1, [first, second])
    for draws in ("17", "-1"):
        refuse("predict", run, root / "images", "--out", "x", "--draws", draws,
               says=["--draws must be from 0 to 16"])  # fmt: skip


def test_boxes_are_no_masks(encoder, refuse):
    refuse("fit", "shapes-dota:train=40:test=12:ratio=4", "--out", "new", "--backbone", encoder,
           *IN_ALL, says=["shapes-dota has boxes of objects, not masks"])  # fmt: skip


def test_only_heads_that_draw_masks_have_draws(pairs, run, refuse):
    refuse("predict", run, pairs / "images", "--out", "x", "--draws", "1",
           says=["draws no masks; leave out --draws, or fit it with --probe pulaski"])  # fmt: skip


def test_the_builtin_chooses_its_task(encoder, tmp_path):
    run = tmp_path / "run"
    succeed("fit", "bluemarble-dense:windows=40", "--out", run, "--backbone", encoder, *QUICK,
            "--method", "zero-shot")  # fmt: skip
    assert read_json(run / "metrics.json")["task"]["unit"] == "group"
    assert 'task = "segment"' in (run / "recipe.toml").read_text("utf-8")
    out = succeed("inspect", "bluemarble-dense:windows=40").out
    assert "urban" in out


def write_scene(path, pixels):
    """Save (height, width, 3) somewhere on Earth, where 0 is no data."""
    height, width = pixels.shape[:2]
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=3, dtype="uint8", nodata=0,
        crs="EPSG:32632", transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000),
    ) as file:  # fmt: skip
        file.write(np.moveaxis(pixels, -1, 0))
    return path


def picture(pairs, i=0):
    return np.asarray(Image.open(pairs / "images" / f"{i:02}.png")).clip(1)


def mapped(run, scene, out, *words):
    succeed("map", run, scene, "--out", out, "--quiet", *words)
    with rasterio.open(out) as file:
        return file.read(1), file


def test_the_map_of_one_window_is_what_is_predicted_for_it(run, pairs, tmp_path):
    pixels = picture(pairs)
    found, file = mapped(run, write_scene(tmp_path / "a.tif", pixels), tmp_path / "map.tif")
    assert (found.shape, file.transform.a) == ((SIDE, SIDE), 10)
    loaded = package.load_run(run)
    image = package.data.resize(np.moveaxis(pixels, -1, 0), 28)
    tokens = loaded.model.encoder.patch_features(torch.from_numpy(image)[None])
    logits = loaded.model.head(tokens)[0].detach().numpy()
    shares = pixel_logits(logits, (SIDE, SIDE)).softmax(dim=0).numpy()
    np.testing.assert_array_equal(found, shares.argmax(axis=0) + 1)


def test_a_map_of_overlapping_windows_has_a_class_for_every_pixel_with_data(run, pairs, tmp_path):
    pixels = np.concatenate([picture(pairs, i) for i in (0, 3)], axis=1)
    pixels = np.concatenate([pixels, pixels[:13, ::-1]])
    pixels[30:, 40:] = 0
    scene = write_scene(tmp_path / "a.tif", pixels)
    more = ("--confidence", tmp_path / "sure.tif", "--polygons", tmp_path / "a.gpkg")
    found, _ = mapped(run, scene, tmp_path / "map.tif", "--step", "9", *more)
    np.testing.assert_array_equal(found == 0, pixels.max(axis=-1) == 0)
    nearest = ((pixels[..., None, :] - COLOURS) ** 2).sum(axis=-1).argmin(axis=-1) + 1
    has = found > 0
    assert (found == nearest)[has].mean() > 0.75  # colours tell classes apart
    with rasterio.open(tmp_path / "sure.tif") as file:
        assert (file.read(1)[has] > 1 / 3).all()
    assert (tmp_path / "a.gpkg").exists()


def test_a_segmentation_map_is_dense_already(run, pairs, tmp_path, refuse):
    scene = write_scene(tmp_path / "a.tif", picture(pairs))
    refuse("map", run, scene, "--out", tmp_path / "map.tif", "--dense", says=["leave out --dense"])


def compared(run, before, after, out, *words):
    found = json.loads(
        succeed("change", run, before, after, "--out", out, "--json", "--quiet", *words).out
    )
    with rasterio.open(out) as file:
        return found, file.read()


def test_two_scenes_are_compared_by_a_run_that_maps_one(run, pairs, tmp_path):
    """A field turns into a mine; where both dates are mapped alike, nothing changed."""
    pixels = np.concatenate([picture(pairs, i) for i in (0, 3)], axis=1)
    later = pixels.copy()
    rng = np.random.default_rng(2)
    later[4:20, 26:42] = (COLOURS[2] + rng.integers(-25, 25, (16, 16, 3))).clip(1)
    before, after = (
        write_scene(tmp_path / name, one) for name, one in (("a.tif", pixels), ("b.tif", later))
    )
    more = ("--table", tmp_path / "c.csv", "--polygons", tmp_path / "c.gpkg")
    found, bands = compared(run, before, after, tmp_path / "c.tif", *more)
    assert found["method"] == "post-classification"
    assert {one["after"] for one in found["transitions"]} == {"mine"}
    maps = [mapped(run, scene, tmp_path / "map.tif")[0] for scene in (before, after)]
    np.testing.assert_array_equal(bands[1][bands[0] == 1] != bands[2][bands[0] == 1], True)
    assert (bands[1] == maps[0])[bands[0] == 1].mean() > 0.9
    assert not bands[0][:, :12].any()  # in no window that saw the change
    lines = (tmp_path / "c.csv").read_text("utf-8").splitlines()
    assert lines[0] == "from,to,cells,hectares,share"
    assert len(lines) == 1 + len(found["transitions"])
    cells = sum(int(line.split(",")[2]) for line in lines[1:])
    assert cells == found["changed"] == (bands[0] == 1).sum() > 20
    assert float(lines[1].split(",")[3]) == pytest.approx(int(lines[1].split(",")[2]) / 100)
    assert found["polygons"] > 0
    shown = succeed("change", run, before, before, "--out", tmp_path / "d.tif").out
    assert "changed: 0.0 % of 1,152 cells" in shown
    fewer, _ = compared(run, before, after, tmp_path / "e.tif", "--prior", "0.001")
    assert fewer["changed"] < found["changed"]


def test_a_map_that_is_taken_as_true_is_compared_with_what_the_run_says(
    run, pairs, tmp_path, refuse
):
    """The rule of post-classification by hand, where one date is certain; also a class table."""
    pixels = np.concatenate([picture(pairs, i) for i in (0, 3)], axis=1)
    after = write_scene(tmp_path / "after.tif", pixels)
    cover = np.random.default_rng(5).integers(0, 4, pixels.shape[:2]).astype(np.uint8)
    finer = np.kron(np.where(cover, cover + 10, 0), np.ones((2, 2))).astype(np.uint8)
    place = {"crs": "EPSG:32632", "west": 500_000, "north": 5_000_000, "pixel": 5.0}
    before = write_raster(tmp_path / "before.tif", finer[None], **place)
    table, names = tmp_path / "names.csv", package.load_run(run).class_names
    table.write_text("0,ignore\n" + "".join(f"{i + 11},{n}\n" for i, n in enumerate(names)))
    words = ("--reference", "--classes", table)
    found, bands = compared(run, before, after, tmp_path / "c.tif", *words)
    mapped(run, after, tmp_path / "map.tif", "--probabilities", tmp_path / "p.tif")
    with rasterio.open(tmp_path / "p.tif") as file:
        shares = file.read()
    own = np.take_along_axis(shares, np.maximum(cover.astype(int) - 1, 0)[None], axis=0)[0]
    changed = (1 - own) / 2 > own
    known = cover > 0
    assert found["method"] == "reference"
    np.testing.assert_array_equal(bands[:, ~known], 255)
    np.testing.assert_array_equal(bands[0][known], changed[known])
    np.testing.assert_array_equal(bands[1][known], cover[known])
    others = np.where(np.arange(1, 4)[:, None, None] == cover, -1, shares)
    expected = np.where(changed, others.argmax(axis=0) + 1, cover)
    np.testing.assert_array_equal(bands[2][known], expected[known])
    out = ("--out", tmp_path / "d.tif")
    says = ["before.tif' has classes (", "that the run does not know (", "(--classes)"]
    refuse("change", run, before, after, *out, "--reference", says=says)
    refuse("change", run, before, after, *out, *words[1:], says=["--classes names the values"])
    refuse("change", run, after, after, *out, "--reference", says=["labels must be one band"])


def test_scenes_that_cannot_be_compared_are_refused(run, pairs, tmp_path, refuse):
    a = write_scene(tmp_path / "a.tif", picture(pairs))
    out = ("--out", tmp_path / "c.tif")
    with rasterio.open(a) as file:
        grey = tmp_path / "grey.tif"
        with rasterio.open(grey, "w", **file.profile | {"count": 1}) as other:
            other.write(file.read(1), 1)
        far = tmp_path / "far.tif"
        place = rasterio.Affine(10, 0, 700_000, 0, -10, 5_000_000)
        with rasterio.open(far, "w", **file.profile | {"transform": place}) as other:
            other.write(file.read())
    refuse("change", run, a, grey, *out, says=["scene 'grey' has 1 band, but the run was trained"])
    refuse("change", run, a, far, *out, says=["scene 'far' covers 0.0 % of 'a'"])
    refuse("change", run, a, a, *out, "--prior", "0.9", says=["--prior is a probability"])
    refuse("change", run, a, tmp_path / "no.tif", *out, says=["no raster or folder"])
    elsewhere = ("--out", "new/c.tif")
    refuse("change", run, tmp_path, a, *elsewhere, says=["holds 3 scenes; give one raster"])
    refuse("change", run, a, a, "--out", a, says=["would overwrite an input"])
    refuse("change", run, a, a, *out, "--table", "c.xlsx", says=["--table must end in .csv"])


def test_masks_of_images_have_their_size_and_can_be_read_again(run, pairs, tmp_path):
    """One image is a window, one is larger, so that windows overlap, and one is smaller."""
    root, folder = tmp_path / "again", tmp_path / "again" / "images"
    (folder / "more").mkdir(parents=True)
    wide = np.concatenate([picture(pairs, i) for i in (0, 3)], axis=1)
    for name, pixels in (("a.png", picture(pairs)), ("more/b.png", wide), ("c.png", wide[:17])):
        Image.fromarray(pixels).save(folder / name)
    out = succeed("predict", run, folder, "--out", root / "masks", "--json", "--quiet").out
    written = json.loads(out)
    assert sum(written["pixels"].values()) == SIDE**2 + 2 * SIDE**2 + 17 * 2 * SIDE
    (root / "masks" / "classes.csv").rename(root / "classes.csv")
    data = package.data.open_masks(root, to_learn=False)
    assert data.ids() == ["a.png", "c.png", "more/b.png"]
    one, _, wide_mask = (data.targets.read(i) for i in range(3))
    scene = write_scene(tmp_path / "a.tif", picture(pairs))
    found, _ = mapped(run, scene, tmp_path / "map.tif")
    np.testing.assert_array_equal(np.array(data.classes)[one], np.array(CLASSES)[found - 1])
    found, _ = mapped(run, write_scene(tmp_path / "b.tif", wide), tmp_path / "wide.tif")
    np.testing.assert_array_equal(np.array(data.classes)[wide_mask], np.array(CLASSES)[found - 1])


def test_predicting_masks_is_refused_where_they_cannot_go(run, pairs, tmp_path, refuse):
    refuse("predict", run, pairs / "images", says=["give a folder with --out DIR"])
    refuse("predict", run, pairs / "images", "--out", "a.csv", says=["give a folder with --out"])
    refuse("predict", run, pairs / "images", "--out", "new", "--step", 9, says=["--step applies"])
    refuse("predict", run, pairs / "images", pairs / "images" / "00.png", "--out", tmp_path / "new",
           says=["would have the same mask"])  # fmt: skip
    refuse("predict", run, pairs / "images", "--out", pairs / "images", says=["replace an image"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "has values (255) that"),
        (("--ignore", "-3"), "ignore takes a value of a mask"),
        (("--ignore", "255", "--classes", "none.csv"), "no class table 'none.csv'"),
        (("--chip", "64"), "chip are options of scenes"),
        (("--ignore", "255", "--probe", "blv:tau=0.5"), "blv takes no tau: its noise raises"),
        (("--ignore", "255", "--probe", "dpt:loss=blv:tau=0.5"), "blv takes no tau: its noise"),
        (("--ignore", "255", "--probe", "dpt:prior=object"), "did you mean 'objects'"),
        (("--ignore", "255", "--set", "train.mix=mixup"), "mix='mixup' needs one label per image"),
        (("--ignore", "255", "--set", "train.recut=0.5"), "choose one of class-balanced, progr"),
        (("--ignore", "255", *RECUT, "--set", "train.objective=masked"), "learns from no mask"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(words, says, pairs, encoder, refuse):
    refuse("fit", pairs, "--backbone", encoder, *OPTIONS, *words, says=[says])


def test_data_and_task_that_do_not_fit_are_refused(data, pairs, encoder, refuse, tmp_path):
    refuse("fit", data, "--backbone", encoder, *OPTIONS, says=["has no folder 'images'"])
    refuse("fit", "bluemarble", "--backbone", encoder, *OPTIONS, says=["no masks, which task"])
    refuse("fit", "bluemarble-dense", "--backbone", encoder, "--task", "classify",
           says=["choose its task with --task"])  # fmt: skip
    refuse("fit", data, *RECUT, says=["task 'classify' has no masks: leave it out"])
    chips = write_chips(tmp_path / "chips", {"a": 4, "b": 4})
    refuse("fit", chips, "--backbone", encoder, *QUICK, "--probe", "logit-adjusted:prior=objects",
           says=["these samples are no such pixels: leave it out"])  # fmt: skip
    refuse("fit", chips, "--ignore", "255", says=["--ignore say what values of masks mean"])
