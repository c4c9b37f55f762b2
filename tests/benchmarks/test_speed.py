"""Benchmarks at tiny sizes: that they run and say what they measured, never how fast."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.speed import (
    boxes,
    clustering_memory,
    demo_profile,
    detection,
    duplicates,
    growth,
    large_inputs,
    memory,
    predictions,
    pretraining,
    ratios,
    search,
    segmentation,
    whole_method,
)
from benchmarks.speed.__main__ import BENCHMARKS, main
from benchmarks.speed.map_doubt import areas
from benchmarks.speed.pruning import kept
from tailora.report import style
from tests.tiny import tiny_encoder_folder

QUICK = [
    "--set",
    "data.image_size=14",
    "--set",
    "evaluate.replicates=20",
    "--set",
    "probe.l2=[0.1]",
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(tiny_encoder_folder(tmp_path_factory.mktemp("encoder") / "tiny", layers=1))


def result(folder, name):
    found = json.loads((folder / f"{name}.json").read_text("utf-8"))
    assert {"seed", "arguments", "versions", "git", "machine"} <= set(found)
    assert {"threads", "load_average_at_start"} <= set(found["machine"])
    return found


@pytest.fixture
def same_process(monkeypatch, capsys):
    """Do what a new process would be told to do in this one: imports take most of its time."""
    started = []

    def run(command, **options):
        started.append((command, options))
        assert command[:3] == [sys.executable, "-m", "benchmarks.speed.growth"]
        capsys.readouterr()
        growth.main(command[3:])
        return subprocess.CompletedProcess(command, 0, capsys.readouterr().out)

    own = SimpleNamespace(run=run, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(growth, "stay_on", lambda _: None)
    monkeypatch.setattr(growth, "subprocess", own)
    return started


def test_growth_measures_each_size_in_a_process_of_its_own(tmp_path, same_process):
    sizes = ["--samples", "300", "400", "--features", "4", "--clusters", "3", "--classes", "3"]
    base = '{"samples": 300, "features": 4, "clusters": 3, "classes": 3}'
    growth.main([
        *sizes, "--base", base, "--stages", "clustering", "--repeats", "1", "--cores", "1",
        "--out", str(tmp_path),
    ])  # fmt: skip
    rows = result(tmp_path, "growth")["rows"]
    assert [row["axis"] for row in rows] == ["samples", "samples", "features", "clusters"]
    assert [row["samples"] for row in rows] == [300, 400, 300, 300]
    assert len(same_process) == 2  # the base lies on every axis and is measured once
    assert all(options["env"]["OMP_NUM_THREADS"] == "1" for _, options in same_process)
    assert all(row["peak_memory_mb"] >= row["memory_before_mb"] > 0 for row in rows)


def test_memory_of_mapped_samples_is_of_a_process_of_its_own(tmp_path):
    clustering_memory.main([
        "--samples", "30000", "--features", "64", "--clusters", "3", "--iterations", "1",
        "--out", str(tmp_path),
    ])  # fmt: skip
    found = result(tmp_path, "clustering-memory")
    (row,) = found["rows"]
    assert found["size_mb"] == pytest.approx(30000 * 64 * 4 / 2**20, abs=0.1)
    assert 0.8 * found["size_mb"] < row["file_mb"]  # all pages but those of the warm-up
    assert row["own_mb"] < found["size_mb"]
    assert row["all_mb"] <= row["own_mb"] + row["file_mb"] + 1


@pytest.mark.parametrize("stage", growth.STAGES)
def test_every_stage_that_grows_runs(stage):
    point = {"samples": 400, "features": 4, "clusters": 3, "classes": 3}
    found = growth.measure(stage, point, limit=60, repeats=2)
    assert found["warmed_up"]
    assert len(found["seconds"]) == 2
    assert found["median_seconds"] > 0


@pytest.mark.parametrize(
    ("done", "seconds"),
    [
        ([], 0.0),
        ([(10, 5.0)], 0.0),
        ([(10, 1.0), (100, 10.0)], 100.0),  # in proportion
        ([(10, 1.0), (100, 100.0)], 10_000.0),  # its square
        ([(10, 4.0), (100, 2.0)], 20.0),  # what fell may still grow
    ],
)
def test_the_next_size_is_foretold_by_the_last_step(done, seconds):
    assert growth.expected_seconds(done, 1000) == pytest.approx(seconds)


def test_a_size_over_the_limit_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")  # it would fail if it ran
    given = type("Given", (), {"limit": 2.0})
    found = growth._in_own_process("probe", {}, 3.4, given)
    assert found == {"skipped": "would take about 3 s, the limit is 2 s"}


def test_a_map_of_pixels_stands_beside_the_bare_encoder_and_chips(tmp_path, encoder):
    segmentation.main([
        "--encoder", encoder, "--across", "2", "--images", "4", "--epochs", "1",
        "--repeats", "1", "--out", str(tmp_path),
    ])  # fmt: skip
    found = result(tmp_path, "segmentation")
    seconds = {name: one["median_seconds"] for name, one in found["maps"]["seconds"].items()}
    side = segmentation.CHIP + segmentation.STEP
    rate = found["maps"]["cells_a_second"]
    assert rate["pixels"] == pytest.approx(side**2 / seconds["pixels"])
    cells = -(-side // segmentation.STEP)
    assert rate["chips"] == pytest.approx(cells**2 / seconds["chips"])
    assert found["maps"]["over_bare"] == pytest.approx(seconds["bare"] / seconds["pixels"])
    assert found["training"]["speed_ratio"] > 0


def test_the_cost_model_stands_beside_measured_seconds(tmp_path, encoder):
    predictions.main([
        "--backbone", encoder, "--images", "4", "--samples", "200", "--features", "4",
        "--clusters", "3", "--classes", "3", "--replicates", "5", "--peak-side", "16",
        "--peak-megabytes", "1",
        "--repeats", "1", "--out", str(tmp_path),
    ])  # fmt: skip
    found = result(tmp_path, "cost-model")
    assert min(found["peaks"].values()) > 0
    for row in found["rows"]:
        assert row["limit"] in {"arithmetic", "memory"}
        assert row["median_seconds"] == pytest.approx(
            row["measured_over_predicted"] * row["predicted_seconds"]
        )


def test_steps_of_pretraining_take_turns(tmp_path, encoder):
    pretraining.main([
        "--backbone", encoder, "--batch", "2", "--repeats", "1", "--projector", "8",
        "--image-size", "28", "--out", str(tmp_path),
    ])  # fmt: skip
    found = result(tmp_path, "pretraining")
    assert set(found["steps"]) == {"LoRA", "all weights", "masked autoencoder", "MoCo-v3"}
    small = {cost["way"]: cost["operations"] for cost in found["costs"]["small"]}
    assert small["LoRA"] < small["debLoRA"] < small["masked autoencoder"] < small["MoCo-v3"]


def test_images_through_the_encoder_are_counted_by_hand():
    demo = {
        "run": {"dataset": {"n_train": 100, "n_val": 10, "n_test": 20}},
        "metrics": {
            "groups": {"head": ["sea"], "middle": ["bay"], "tail": ["ice", "reef"]},
            "methods": [
                {
                    "per_class": [
                        {"name": "sea", "n_train": 80},
                        {"name": "ice", "n_train": 4},
                        {"name": "bay", "n_train": 15},
                        {"name": "reef", "n_train": 1},
                    ]
                }
            ],
        },
    }
    recipe = pretraining.Recipe().override({"train.epochs": 3, "deblora.epochs": 6})
    assert pretraining.deblora_passes(demo, recipe) == {
        "train_images": 100,
        "lora_learnt": 300,
        "pretrained_seen": 130,
        "lora_seen": 130,
        "deblora_learnt": 30,
        "deblora_seen": 130,
    }


def test_the_profile_adds_up(tmp_path, encoder):
    demo_profile.main([
        "--backbone", encoder, "--batch", "4", "--steps", "2", "--out", str(tmp_path),
    ])  # fmt: skip
    found = result(tmp_path, "demo-profile")
    assert found["demos"][-1]["seconds"]["lora: train"] > 0
    for kind in found["groups"].values():
        assert sum(kind["by_group"].values()) == pytest.approx(kind["seconds"], rel=0.01)
        assert kind["by_group"]["matrix products"] > 0
        assert kind["by_group"]["data"] > 0
    assert found["groups"]["LoRA step"]["by_group"]["optimiser"] > 0


class Event:
    def __init__(self, name, parent=None):
        self.name, self.cpu_parent = name, parent


@pytest.mark.parametrize(
    ("event", "group"),
    [
        (Event("aten::addmm"), "matrix products"),
        (Event("aten::mkldnn_convolution"), "matrix products"),
        (Event("aten::_scaled_dot_product_flash_attention_for_cpu"), "attention"),
        (Event("aten::native_layer_norm"), "element-wise"),
        (Event("aten::mul_", Event("Optimizer.step#AdamW.step")), "optimiser"),
        (Event("aten::index", Event(demo_profile.READING)), "data"),
        (Event("autograd::engine::evaluate_function"), "outside operators"),
    ],
)
def test_an_operator_belongs_to_what_it_lies_in(event, group):
    assert demo_profile.group_of(event) == group


def test_stages_of_one_kind_are_summed():
    machine = {"cores": 2}
    stages = [
        {"name": "lora: train features", "seconds": 3.0},
        {"name": "lora: val features", "seconds": 1.5},
        {"name": "lora: train", "seconds": 7.0},
    ]
    found = demo_profile.stages_of({"started": "now", "machine": machine, "stages": stages})
    assert found["seconds"] == {"lora: features": 4.5, "lora: train": 7.0}


def test_a_debiased_run_over_the_lora_it_stands_on():
    stages = [
        {"name": "zero-shot: probe", "method": "zero-shot", "seconds": 2.0},
        {"name": "lora: train", "method": "lora", "seconds": 8.0},
        {"name": "deblora: train", "method": "deblora", "seconds": 1.0},
        {"name": "deblora: probe", "method": "deblora", "seconds": 2.0},
    ]
    found = whole_method.split(stages)
    assert found == {"lora_alone": 10.0, "own": {"train": 1.0, "probe": 2.0}, "ratio": 1.3}
    twice = whole_method.summary([found, {**found, "ratio": 1.5}])
    assert (twice["ratio"], twice["ratio_range"]) == (pytest.approx(1.4), [1.3, 1.5])


def test_whole_runs_take_turns_and_are_measured_from_what_they_record(tmp_path, monkeypatch):
    asked = []
    demo = json.loads((ratios.RESULTS / "demo.json").read_text("utf-8"))["run"]
    for what, seconds in (("cluster and move", 3.0), ("train", 12.5)):
        stage = {"name": f"deblora: {what}", "method": "deblora", "seconds": seconds}
        demo["stages"].append({**demo["stages"][0], **stage})

    def fit(data, *, recipe, out):
        assert recipe.method == "deblora"
        asked.append((recipe.deblora.fit_on, recipe.deblora.epochs, recipe.train.epochs))
        out.mkdir()
        (out / "run.json").write_text(json.dumps(demo), "utf-8")

    monkeypatch.setattr(whole_method, "fit", fit)
    whole_method.main([
        "--data", "shared-attributes:train=60:imbalance=12:val_per_class=2:test_per_class=3",
        "--repeats", "2", "--set", "train.epochs=5", "--out", str(tmp_path),
    ])  # fmt: skip
    assert asked[1:] == [("tail", 6, 5), ("all", 2, 5), ("all", 2, 5), ("tail", 6, 5)]
    variants = result(tmp_path, "whole-method")["variants"]
    own = sum(stage["seconds"] for stage in demo["stages"] if stage["method"] == "deblora")
    whole = sum(stage["seconds"] for stage in demo["stages"])
    assert variants["tail"]["ratio"] == pytest.approx(whole / (whole - own))
    train = next(stage for stage in demo["stages"] if stage["name"] == "deblora: train")
    assert variants["all"]["own_seconds"]["train"] == train["seconds"]


def test_turns_are_taken_there_and_back():
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "abc"}
    found = ratios.take_turns(runs, repeats=2)
    assert "".join(order) == "abc" + "abc" + "cba"
    assert found["a"]["over_first"] == 1.0
    assert all(len(one["seconds"]) == 2 for one in found.values())


def test_every_benchmark_can_say_what_it_takes(capsys):
    for module in BENCHMARKS.values():
        with pytest.raises(SystemExit):
            module.main(["--help"])
    assert "--out" in capsys.readouterr().out


def test_a_benchmark_that_does_not_exist_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["grwoth"])
    assert "no benchmark 'grwoth'" in capsys.readouterr().err


def test_the_easiest_are_left_out_but_no_class_becomes_too_small():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    hardness = np.array([0.5, 0.1, 0.9, np.nan, 0.2, 0.3, 0.4, 0.0])
    assert kept(hardness, labels, 0.25, 1).tolist() == [0, 2, 3, 5, 6, 7]
    assert kept(hardness, labels, 0.5, 2).tolist() == [2, 3, 5, 6, 7]  # three could go, not four
    assert np.bincount(labels[kept(hardness, labels, 0.9, 1)]).tolist() == [1, 1, 1]
    assert len(kept(hardness, labels, 0.0, 1)) == 8


def test_images_that_fit_follow_from_two_peaks():
    """Ten of them stand at 100 + 10 x 30 = 400 MB; at 1,000 MB there is room for thirty."""
    assert memory.images_that_fit([400.0, 700.0], [10, 20], 1000.0) == 30
    assert memory.images_that_fit([400.0, 700.0], [10, 20], 50.0) == 0


@pytest.mark.parametrize("setting", memory.SETTINGS)
def test_every_setting_of_memory_takes_a_step(setting):
    shape = {
        "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 7,
        "image_size": 14,
    }  # fmt: skip
    with torch.random.fork_rng():
        found = memory.measure(shape, 2, **memory.SETTINGS[setting])
    assert found["peak_mb"] > 0


def test_large_inputs_measure_each_thing_at_three_sizes(tmp_path, monkeypatch):
    """In this process: imports of a new one take most of its time."""
    monkeypatch.setattr(
        large_inputs, "_in_own_process", lambda one, seed: large_inputs.measure(**one, seed=seed)
    )
    monkeypatch.setattr(large_inputs, "LONG", 1e-9)  # one run of each
    monkeypatch.setattr(style, "_svg", lambda _draw, _inches: b"<svg/>")
    sizes = ["--rows", "1600", "--classes", "40", "--tested", "200", "--fewer", "2"]
    large_inputs.main([*sizes, "--out", str(tmp_path)])
    things = result(tmp_path, "large-inputs")["things"]
    assert [one["thing"] for one in things] == list(large_inputs.THINGS)
    for one in things:
        left_out = one["thing"] in large_inputs.NOT_WITH_FEWER_ROWS
        assert ("fewer_rows" in one) != left_out
        measured = [one[size] for size in one if size != "thing"]
        assert all(found["seconds"] > 0 and found["runs"] == 1 for found in measured)
        assert all(found["peak_memory_mb"] >= found["memory_before_mb"] > 0 for found in measured)


def test_the_doubt_that_ranks_errors_first_has_the_larger_area():
    """By hand: of 2 x 2 pairs of a wrong and a right pixel the first band ranks all, then half."""
    wrong = np.array([True, True, False, False] * 2)
    doubt = np.array([[4, 3, 2, 1] * 2, [4, 1, 3, 1.5] * 2])
    found = areas(wrong, doubt, np.array(["a"] * 4 + ["b"] * 4))
    first, second = found["auroc"].values()
    assert (first["value"], first["interval"]) == (1, [1, 1])
    assert second == {"value": 0.5, "interval": [0.5, 0.5]}
    assert found["difference"] == {"value": 0.5, "interval": [0.5, 0.5]}


def test_planted_duplicates_are_all_found(tmp_path):
    words = ["--samples", "300", "--features", "24", "--copies", "20", "--repeats", "1"]
    duplicates.main([*words, "--out", str(tmp_path)])
    rows = result(tmp_path, "duplicates")["rows"]
    assert [row["variances"] for row in rows] == ["falling", "equal"]
    assert all((row["found"], row["wrong"]) == (20, 0) for row in rows)
    assert all(row["peak_memory_mb"] >= row["memory_before_mb"] > 0 for row in rows)


def test_a_search_is_of_the_windows_of_a_scene(tmp_path):
    words = ["--side", "96", "--chip", "32", "--features", "8", "--repeats", "2"]
    search.main([*words, "--out", str(tmp_path)])
    found = result(tmp_path, "search")
    assert found["windows"] == 5 * 5  # each half a window from the last
    assert len(found["seconds"]) == 2
    assert found["median_processor_seconds"] >= 0


def test_boxes_agree_with_polygons(tmp_path):
    boxes.main(["--boxes", "60", "--repeats", "1", "--out", str(tmp_path)])
    rows = result(tmp_path, "boxes")["rows"]
    assert [row["scene"] for row in rows] == ["spread", "crowded"]
    for row in rows:
        assert row["same_kept"]
        assert row["largest_difference"] < 1e-8
        assert 0 < row["kept"] < 60
        assert row["suppression"]["speed_ratio"] > 0


def test_both_ways_train_a_detector(tmp_path, encoder):
    words = ["--images", "4", "--size", "28", "--repeats", "1", "--encoder", encoder]
    with torch.random.fork_rng():
        detection.main([*words, "--out", str(tmp_path)])
    assert result(tmp_path, "detection")["epoch"]["speed_ratio"] > 0
