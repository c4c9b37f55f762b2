"""`tailora fit`: what a run folder holds, for every method, tuner and kind of data."""

import dataclasses
import io
import json
import re
import tomllib
from contextlib import redirect_stderr

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from sklearn.metrics import confusion_matrix
from transformers import AutoModel

from tailora import DebLoRA, load_run, open_dataset, read_run
from tailora.backbones import load_backbone
from tailora.counts import make_groups
from tailora.data import prepare_images
from tailora.runs.run import make_encoder
from tests.end_to_end.chips import (
    COUNTS,
    DEBLORA,
    QUICK,
    SIDE,
    assert_same_result,
    chip,
    copy_run,
    metrics,
    read_rows,
    snapshot,
    succeed,
    write_chip,
    write_chips,
    write_raster,
    write_table,
)
from tests.tiny import tiny_encoder_folder

KEYS = {"all", "head", "middle", "tail"}
FILES = {
    "adapter", "calibration.json", "classes.json", "head.safetensors", "history.jsonl",
    "image-history.jsonl", "metrics.json", "seen.npy",
    "predictions.csv", "recipe.toml", "report.html", "report.npz", "run.json", "stages",
}  # fmt: skip


def _json(run, name):
    return json.loads((run / name).read_text("utf-8"))


def _rows(run):
    return read_rows((run / "predictions.csv").read_text("utf-8"))


def test_a_run_folder_holds_what_is_promised_and_nothing_half_written(finished):
    assert {path.name for path in finished.iterdir()} == FILES
    assert {path.name for path in (finished / "adapter").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    assert not [name for name in snapshot(finished) if "/." in f"/{name}" or "writing" in name]


def test_the_recipe_is_fully_resolved(finished, encoder):
    recipe = tomllib.loads((finished / "recipe.toml").read_text("utf-8"))
    assert recipe["method"] == "deblora"
    assert recipe["seed"] == 0
    assert recipe["backbone"]["name"] == str(encoder)
    assert recipe["backbone"]["pooling"] == "both"
    assert recipe["data"]["image_size"] == SIDE
    assert recipe["adapter"]["rank"] == 2
    assert recipe["train"]["lr"] == 1e-3
    assert (recipe["train"]["optimizer"], recipe["train"]["augment"]) == ("muon", "nadir")
    assert "auto" not in (finished / "recipe.toml").read_text("utf-8")
    assert recipe["deblora"]["balance"] == 10


def test_the_record_says_what_the_run_was_made_with(finished):
    run = _json(finished, "run.json")
    assert run["complete"] is True
    assert run["seed"] == 0
    assert {"python", "torch", "peft", "transformers", "tailora"} <= run["versions"].keys()
    facts = {"cpu", "cores", "memory_gb", "platform", "device", "processes"}
    assert facts == run["machine"].keys()
    assert "git" in run
    assert run["dataset"]["n_train"] + run["dataset"]["n_val"] + run["dataset"]["n_test"] == sum(
        COUNTS.values()
    )
    seconds = {stage["name"]: stage["seconds"] for stage in run["stages"]}
    assert {
        "zero-shot: probe",
        "lora: train",
        "deblora: train",
        "deblora: cluster and move",
    } <= set(seconds)
    assert all(value >= 0 for value in seconds.values())


ROWS = [
    ("lora", "own"),  # ordinary fine-tuning
    *((name, "logit-adjusted") for name in ("zero-shot", "lora", "deblora")),
]


def _heads(content):
    return [(row["method"], row["head"]) for row in content["methods"]]


def test_the_first_row_is_what_the_head_of_the_training_says(finished, data):
    stage = finished / "stages" / "lora"
    own = load_file(stage / "own-head.safetensors")
    features = np.load(stage / "features-test" / "features.npy")
    predicted = (features @ own["weight"].numpy().T + own["bias"].numpy()).argmax(axis=1)
    dataset = open_dataset(data)
    labels = dataset.labels[dataset.indices("test")]
    table = confusion_matrix(labels, predicted, labels=range(len(COUNTS)))
    content = metrics(finished)
    assert content["methods"][0]["confusion"] == table.tolist()
    pair = next(p for p in content["paired"] if p["method"] == "deblora")
    assert (pair["head"], pair["against"], pair["against_head"]) == (ROWS[3][1], *ROWS[0])
    ordinary, *_, last = (row["macro_f1"]["tail"] for row in content["methods"])
    assert pair["macro_f1_difference"]["tail"] == pytest.approx(last - ordinary)


def test_metrics_hold_four_rows_with_values_in_the_unit_interval(finished):
    content = _json(finished, "metrics.json")
    assert content["groups"].keys() == {"head", "middle", "tail"}
    assert sorted(name for group in content["groups"].values() for name in group) == sorted(COUNTS)
    assert _heads(content) == ROWS
    for method in content["methods"]:
        assert method["macro_f1"].keys() == method["macro_f1_interval"].keys() == KEYS
        for key, value in method["macro_f1"].items():
            low, high = method["macro_f1_interval"][key]
            assert 0 <= low <= value <= high <= 1
        for key in ("accuracy", "balanced_accuracy", "ece"):
            assert 0 <= method[key] <= 1
        assert method["trained_parameters"] > 0
        assert method["seconds"] > 0
        assert {row["name"] for row in method["per_class"]} == set(COUNTS)
        for row in method["per_class"]:
            assert {"n_train", "n_test", "precision", "recall", "f1", "f1_interval"} < row.keys()


def test_metrics_follow_from_the_predictions_that_were_written(finished):
    rows, last = _rows(finished), metrics(finished)["methods"][-1]
    right = [row["label"] == row["class"] for row in rows]
    assert last["accuracy"] == pytest.approx(np.mean(right))
    f1 = {}
    for name in COUNTS:
        true = sum(row["label"] == name for row in rows)
        said = sum(row["class"] == name for row in rows)
        both = sum(row["label"] == row["class"] == name for row in rows)
        f1[name] = 2 * both / (true + said)
        mine = next(row for row in last["per_class"] if row["name"] == name)
        assert mine["f1"] == pytest.approx(f1[name])
        assert mine["n_test"] == true
    assert last["macro_f1"]["all"] == pytest.approx(np.mean(list(f1.values())))


def test_predictions_are_probabilities_with_a_verdict_for_the_class_said(finished):
    verdicts = {
        entry["name"]: entry["verdict"] for entry in _json(finished, "classes.json")["classes"]
    }
    assert set(verdicts) == set(COUNTS)
    assert "untested" in verdicts.values()
    for row in _rows(finished):
        shares = {name: float(row[f"p({name})"]) for name in COUNTS}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert max(shares, key=shares.__getitem__) == row["class"]
        assert row["verdict"] == verdicts[row["class"]]


def test_the_report_shows_every_class_name_unspoilt(finished):
    page = (finished / "report.html").read_text("utf-8")
    for name in ("ship, small", "[red]", "日本", "été"):
        assert name in page


def test_the_adapter_opens_with_peft_alone(finished, encoder):
    # transformers shows a progress bar, and draws weights before it reads them
    with redirect_stderr(io.StringIO()), torch.random.fork_rng(devices=[]):
        base = AutoModel.from_pretrained(encoder)
        opened = PeftModel.from_pretrained(base, str(finished / "adapter")).state_dict()
    mine = load_run(finished).model.encoder.backbone.state_dict()
    adapted = [name for name in mine if "lora_" in name]
    assert adapted
    assert all(opened[name].equal(mine[name]) for name in adapted)
    assert all(mine[name].abs().sum() > 0 for name in adapted)


def test_the_same_seed_gives_the_same_run_and_another_one_does_not(
    finished, data, quick, plain_report, tmp_path
):
    succeed("fit", data, "--out", tmp_path / "again", *quick, *DEBLORA)
    assert_same_result(tmp_path / "again", finished)
    succeed("fit", data, "--out", tmp_path / "other", *quick, "--seed", 1, "--method", "zero-shot")
    assert _rows(tmp_path / "other") != _rows(finished)


@pytest.mark.parametrize("method", ["zero-shot", "lora", "lora+reslt", "fine-tune"])
def test_every_method_makes_a_run_that_predicts(method, data, quick, plain_report, tmp_path):
    run = tmp_path / "run"
    succeed("fit", data, "--out", run, *quick, "--method", method)
    own = [(method, "own")] if method in ("lora", "fine-tune") else []
    assert _heads(metrics(run)) == [*own, (method, "logit-adjusted")]
    assert (run / "adapter").is_dir() == method.startswith("lora")
    assert (run / "backbone.safetensors").is_file() == (method == "fine-tune")
    answer = succeed("predict", run, data / "007" / "000.png", "--quiet")
    assert len(read_rows(answer.out)) == 1


@pytest.mark.parametrize("tuner", ["dora", "ia3"])
def test_other_tuners_take_the_place_of_lora(tuner, data, encoder, tmp_path):
    run, words = tmp_path / "run", list(QUICK)
    if tuner == "ia3":
        at = words.index("--rank")
        del words[at : at + 2]
    succeed("fit", data, "--out", run, "--backbone", encoder, *words, "--tuner", tuner, *DEBLORA)
    assert _heads(metrics(run)) == ROWS
    config = _json(run, "adapter/adapter_config.json")
    assert config["peft_type"] == ("LORA" if tuner == "dora" else "IA3")
    assert config.get("use_dora", False) is (tuner == "dora")
    image = data / "007" / "000.png"
    assert "007" in succeed("predict", run, image, "--quiet").out


def test_grey_chips_are_shown_to_an_encoder_of_three_bands(quick, tmp_path):
    grey = write_chips(tmp_path / "grey", {"forest": 20, "water": 8, "rare": 4}, bands=1)
    run = tmp_path / "run"
    succeed("fit", grey, "--out", run, *quick, "--method", "lora")
    assert _json(run, "run.json")["input"]["bands"] == [1, 1, 1]
    assert _json(run, "run.json")["dataset"]["bands"] == 1
    succeed("predict", run, grey, "--quiet")


def test_four_bands_of_sixteen_bits_in_a_table_with_groups(tmp_path):
    four = tiny_encoder_folder(tmp_path / "four", hidden=16, layers=1, bands=4)
    rng = np.random.default_rng(0)
    rows = []
    for label, (name, count) in enumerate({"0": 20, "007": 12, "7": 8}.items()):
        for i in range(count):
            tint = np.arange(4)[:, None, None] * 100 * label
            pixels = (rng.integers(0, 9000, (4, SIDE, SIDE)) + tint).astype(np.uint16)
            write_raster(tmp_path / "chips" / f"{name}-{i}.tif", pixels)
            rows.append((f"chips/{name}-{i}.tif", name, f"scene {i % 4}"))
    table = write_table(tmp_path / "list.csv", ("path", "label", "group"), rows)
    run = tmp_path / "run"
    words = ["--backbone", four, *QUICK]
    succeed("fit", table, "--out", run, *words)
    content = _json(run, "metrics.json")
    assert content["classes"] == ["0", "007", "7"]
    assert content["bootstrap"]["unit"] == "group"
    record = _json(run, "run.json")
    assert record["input"]["dtype"] == "uint16"
    assert record["input"]["scale"] == 1
    assert min(record["input"]["mean"]) > 1000
    tested = {int(re.search(r"-(\d+)\.tif", row["path"])[1]) % 4 for row in _rows(run)}
    assert len(tested) == 1  # whole scenes are held out
    answer = succeed("evaluate", run, table, "--json", "--quiet")
    assert json.loads(answer.out)["methods"][0]["macro_f1"] == content["methods"][-1]["macro_f1"]


def test_two_classes_have_a_head_and_a_tail(quick, tmp_path):
    pair = write_chips(tmp_path / "pair", {"forest": 44, "rare": 5})
    run = tmp_path / "run"
    succeed("fit", pair, "--out", run, *quick, "--clusters", 2)
    content = _json(run, "metrics.json")
    assert content["groups"] == {"head": ["forest"], "middle": [], "tail": ["rare"]}
    assert content["methods"][0]["macro_f1"]["middle"] is None


def test_broken_images_are_left_out_counted_and_listed(quick, tmp_path):
    chips = write_chips(tmp_path / "chips", {"forest": 20, "water": 10, "rare": 5})
    (chips / "water" / "003.png").write_text("hello")
    (chips / "water" / "004.png").write_bytes(b"")
    run = tmp_path / "run"
    words = ["fit", chips, "--out", run, *quick, "--method", "zero-shot", "--skip-broken"]
    loud = succeed(*(word for word in words if word != "--quiet"))
    assert "left out 2 unreadable images: water/003.png; water/004.png" in loud.out
    assert _json(run, "run.json")["dataset"]["broken"] == ["water/003.png", "water/004.png"]
    assert "water/003.png" in (run / "report.html").read_text("utf-8")
    before = snapshot(run)
    succeed(*words, "--resume")
    assert snapshot(run) == before
    answer = succeed("evaluate", run, chips, "--skip-broken", "--json", "--quiet")
    own, again = metrics(run), json.loads(answer.out)
    assert again["methods"][0]["per_class"] == own["methods"][0]["per_class"]


def test_a_finished_run_resumed_is_left_as_it_is(finished, data, quick, plain_report, tmp_path):
    run = copy_run(finished, tmp_path / "run")
    before = snapshot(tmp_path)
    succeed("fit", data, "--out", run, *quick, *DEBLORA, "--resume")
    assert snapshot(tmp_path) == before


def test_force_replaces_a_run_but_no_file_of_the_user(
    finished, data, quick, plain_report, tmp_path
):
    run = copy_run(finished, tmp_path / "run")
    (run / "notes.txt").write_text("mine")
    succeed("fit", data, "--out", run, *quick, "--force", "--method", "zero-shot")
    assert {path.name for path in run.iterdir()} == FILES - {
        "adapter", "history.jsonl", "image-history.jsonl"
    } | {"notes.txt"}  # fmt: skip
    assert {path.name for path in (run / "stages").iterdir()} == {"zero-shot"}


def test_the_default_run_folder_is_named_after_the_data_and_opens_from_anywhere(
    encoder, data, quick, plain_report, tmp_path, monkeypatch
):
    (tmp_path / "enc").symlink_to(encoder)
    succeed("fit", data, *quick, "--method", "zero-shot", "--backbone", "enc")
    run = tmp_path / "runs" / "chips"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    succeed("predict", run, data / "007" / "000.png", "--quiet")


def test_json_stands_alone_on_standard_output(data, quick, plain_report, tmp_path):
    words = ["fit", data, "--out", tmp_path / "run", *quick, "--method", "zero-shot", "--json"]
    answer = succeed(*(word for word in words if word != "--quiet"))
    assert json.loads(answer.out) == _json(tmp_path / "run", "metrics.json")
    assert "zero-shot: train features" in answer.err


def test_a_fit_tells_what_it_found_and_where_it_is(data, quick, tmp_path):
    run = tmp_path / "run"
    words = ["fit", data, "--out", run, *quick, "--method", "lora"]
    answer = succeed(*(word for word in words if word != "--quiet"))
    assert "chips: 78 training, 12 validation, 21 test images, 5 classes, 44 to 3" in answer.err
    assert re.search(r"attention\.q_proj +│ 1 +│ 16x16", answer.err)
    assert "macro-F1 in points" in answer.out
    assert re.search(r"not trusted yet: .*\[red\]; ", answer.out)
    assert re.search(
        r"LoRA with the logit-adjusted head changes tail .* over LoRA with its own head", answer.out
    )
    (line,) = [line for line in answer.out.splitlines() if line.startswith("time: ")]
    costs = sorted(read_run(run).costs, key=lambda stage: -stage.seconds)
    assert [part.rpartition(" ")[0].rpartition(" ")[0] for part in line[6:].split(", ")][:4] == [
        stage.name for stage in costs[:4]
    ]
    assert answer.out.rstrip().endswith(f"report: {run / 'report.html'}")
    quiet = succeed(*words, "--force")
    assert quiet.out == quiet.err == ""


def test_flags_override_the_recipe_and_set_overrides_flags(data, quick, plain_report, tmp_path):
    (tmp_path / "mine.toml").write_text(
        'method = "zero-shot"\nseed = 3\n[train]\nepochs = 5\nbatch_size = 9\n'
        "[probe.loss_options]\ntau = 0.5\n"
    )
    words = list(quick)
    at = words.index("train.batch_size=16")
    del words[at - 1 : at + 1]
    succeed(
        "fit", data, "--out", "run", *words, "--recipe", "mine.toml", "--epochs", 6, "--seed", 4,
        "--set", "train.epochs=7", "--set", "train.epochs=8",
    )  # fmt: skip
    recipe = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text("utf-8"))
    assert recipe["method"] == "zero-shot"  # the file over the default
    assert recipe["train"]["batch_size"] == 9
    assert recipe["probe"]["loss_options"] == {"tau": 0.5}
    assert recipe["seed"] == 4  # a flag over the file
    assert recipe["train"]["epochs"] == 8  # --set over all, the last one wins
    assert recipe["train"]["augment"] == "dihedral"


def test_the_recipe_of_a_run_gives_the_run_again(finished, data, plain_report, tmp_path):
    recipe = finished / "recipe.toml"
    succeed("fit", data, "--out", tmp_path / "run", "--recipe", recipe, "--quiet")
    assert (tmp_path / "run" / "recipe.toml").read_bytes() == recipe.read_bytes()
    assert_same_result(tmp_path / "run", finished)


def test_copies_across_splits_are_warned_of(quick, plain_report, tmp_path):
    chips = write_chips(tmp_path / "chips", {"forest": 12, "water": 8, "rare": 4})
    copy = chip(np.random.default_rng(9), 0)
    for i in range(9):
        write_chip(chips / "forest" / f"copy{i}.png", copy)
    words = ["fit", chips, "--out", tmp_path / "run", *quick, "--method", "zero-shot", "--rank", 16]
    answer = succeed(*(word for word in words if word != "--quiet"))
    assert "more than one split" in answer.err
    idle = "adapter.rank, deblora.clusters, train.epochs, train.batch_size"
    assert f"note: method 'zero-shot' does not use {idle}\n" in answer.err
    again = succeed(*(w for w in words if w != "--quiet"), "--resume", "--json")
    assert "more than one split" in again.err
    json.loads(again.out)


def test_the_paper_is_a_preset(data, quick, plain_report, tmp_path):
    run = tmp_path / "run"
    succeed("fit", data, "--out", run, "--preset", "paper", *quick)
    recipe = tomllib.loads((run / "recipe.toml").read_text("utf-8"))
    assert recipe["deblora"]["init"] == "fresh"
    assert recipe["deblora"]["fit_on"] == "all"
    assert recipe["deblora"]["clusters"] == 4  # as the flag says


def test_the_class_on_a_module_and_the_command_line_are_one_method(finished, data, tmp_path):
    """Same images, options and seed: the same head, to the bit."""
    run = load_run(finished)
    recipe, dataset = run.recipe, open_dataset(data)
    images = prepare_images(dataset, tmp_path / "images", image_size=recipe.data.image_size)
    rows = {split: dataset.indices(split) for split in ("train", "val")}
    pixels = {split: run.input.select(images.batch(some)) for split, some in rows.items()}
    counts = dataset.counts("train")
    loaded = load_backbone(recipe.backbone.name)
    method = DebLoRA(
        **dataclasses.asdict(recipe.deblora), tuner=recipe.adapter.tuner, rank=recipe.adapter.rank
    )
    result = method.fit(
        make_encoder(loaded, recipe, run.input), pixels["train"], dataset.labels[rows["train"]],
        base_epochs=recipe.train.epochs, base_lr=recipe.train.lr,
        batch_size=recipe.train.batch_size, groups=make_groups(counts), seed=recipe.seed,
        validation=(pixels["val"], dataset.labels[rows["val"]]), l2=recipe.probe.l2,
    )  # fmt: skip
    for name, tensor in run.model.head.state_dict().items():
        assert torch.equal(result.head.state_dict()[name], tensor), name


def test_a_run_is_read_without_its_model_and_says_what_its_files_say(finished):
    result, loaded = read_run(finished), load_run(finished)
    rows = read_rows((finished / "predictions.csv").read_text("utf-8"))
    found = result.predictions
    assert found.labels == tuple(row["label"] for row in rows)
    assert found.predicted == tuple(row["class"] for row in rows)
    names = np.array(result.class_names)
    assert found.predicted == tuple(names[found.probabilities.argmax(axis=1)])
    written = [[float(row[f"p({name})"]) for name in names] for row in rows]
    np.testing.assert_array_equal(found.probabilities, written)
    assert [len(within) for within in found.sets] == [row["set"].count(";") + 1 for row in rows]
    assert loaded.metrics == result.metrics
    assert loaded.record == result.record
    assert result.metrics.to_json() == json.loads((finished / "metrics.json").read_text("utf-8"))
    assert result.has_evidence("map_before", "keep")
