"""Two real processes do one run: the same result, one writer, and an end when one of them dies."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from tailora import load_run
from tests.end_to_end.chips import DEBLORA, metrics, succeed, tailora
from tests.end_to_end.test_detect import write_dota

# what is drawn differs by process, so nothing is; stage 5 and its features are in it all the same
ALIKE = ("--set", "train.augment=none", "--set", "evaluate.label_value=false")


def launch(count, *words):
    """Start `tailora` in several processes that talk by gloo."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
            str(count), "-m", "tailora", *map(str, words),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def adapters(run, stage):
    return load_file(run / "stages" / stage / "adapter" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def alone(data, quick, tmp_path_factory):
    run = tmp_path_factory.mktemp("alone") / "run"
    succeed("fit", data, "--out", run, *quick, *ALIKE, *DEBLORA)
    return run


@pytest.mark.slow
def test_two_processes_make_the_run_that_one_makes_even_when_one_has_died(
    alone, data, quick, tmp_path
):
    run = tmp_path / "run"
    words = ("fit", data, "--out", run, *quick, *ALIKE, *DEBLORA)
    both = launch(2, *words)
    kill_one(both, once=run / "stages" / "lora" / "checkpoint.pt")
    _, said = both.communicate(timeout=60)
    assert both.returncode != 0
    assert "SIGKILL" in said
    assert not (run / "metrics.json").exists()

    both = launch(2, *words, "--resume")
    _, said = both.communicate(timeout=180)
    assert both.returncode == 0, said
    for stage in ("lora", "deblora"):
        expected = adapters(alone, stage)
        for name, tensor in adapters(run, stage).items():
            assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)
    for one, two in zip(metrics(alone)["methods"], metrics(run)["methods"], strict=True):
        assert two["macro_f1"] == one["macro_f1"]
        assert two["confusion"] == one["confusion"]
    for one, two in zip(load_run(alone).image_history, load_run(run).image_history, strict=True):
        assert (two.id, two.looks, two.forgotten) == (one.id, one.looks, one.forgotten)
        assert two.el2n == pytest.approx(one.el2n, abs=1e-4)
    assert not list(run.rglob("share-*"))
    assert not list(run.rglob("*writing*"))
    assert '"processes": 2' in (run / "run.json").read_text("utf-8")


@pytest.mark.slow
def test_two_processes_validate_and_name_parts_of_a_loss_as_one_does(data, quick, tmp_path):
    """The last batch has one image, so that the second process has none of it."""
    words = (
        "fit", data, *quick, *ALIKE, "--method", "lora+ride", "--set", "train.batch_size=11",
        "--set", "train.patience=1", "--out",
    )  # fmt: skip
    one, two = histories_of_one_and_two(words, tmp_path)
    for row, other in zip(one.rows, two.rows, strict=True):
        if row.epoch == 1:  # weights of the second phase are averaged by process
            assert other.parts == pytest.approx(row.parts, rel=1e-3, abs=1e-5)
    assert two.epochs[0].value == pytest.approx(one.epochs[0].value)
    assert [row.best_epoch for row in two.epochs] == [row.best_epoch for row in one.epochs]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [["train.detector=fcos"], ["train.detector=rtmdet", "compute.micro_batch=1"]]
)
def test_two_processes_train_a_detector_as_one_does(options, encoder, tmp_path):
    """Losses are means over the objects of both, also in parts of one tile.

    The last batch has one tile, so that the second process has none of it.
    """
    sets = [f"--set={option}" for option in options]
    words = (
        "fit", f"dota:{write_dota(tmp_path / 'harbour')}", "--task", "detect", "--quiet",
        "--backbone", encoder, "--rank", "2", "--epochs", "1", "--image-size", "28", *DEBLORA,
        "--clusters", "3", "--set", "deblora.pull=0.5", *ALIKE,
        *sets, "--set", "deblora.epochs=1",
        "--set", "train.batch_size=3", "--set", "probe.l2=[0.01]",
        "--set", "evaluate.replicates=20", "--out",
    )  # fmt: skip
    one, two = histories_of_one_and_two(words, tmp_path)
    assert {row.stage for row in one.rows} == {"lora", "deblora"}
    for row, other in zip(one.rows, two.rows, strict=True):
        assert other.parts == pytest.approx(row.parts, rel=1e-3, abs=1e-5)
        assert other.gradient_norm == pytest.approx(row.gradient_norm, rel=1e-2)


def histories_of_one_and_two(words, folder):
    """Fit in one process and in two, into folders of these names, and read how both trained."""
    succeed(*words, folder / "one")
    both = launch(2, *words, folder / "two")
    _, said = both.communicate(timeout=180)
    assert both.returncode == 0, said
    return [load_run(folder / name).history for name in ("one", "two")]


def kill_one(launched, *, once):
    """Kill the second process as soon as a file is there."""
    until = time.monotonic() + 120
    while not once.is_file() and time.monotonic() < until and launched.poll() is None:
        time.sleep(0.005)
    children = psutil.Process(launched.pid).children()
    next(one for one in children if one.environ().get("RANK") == "1").send_signal(signal.SIGKILL)


@pytest.mark.slow
def test_workers_of_a_comparison_end_with_it(data, quick, tmp_path):
    out = tmp_path / "out"
    words = (
        "compare", data, "--methods", "zero-shot,lora", "--out", out, *quick,
        "--set", "train.epochs=1000", "--seeds", 2, "--jobs", 2,
    )  # fmt: skip
    parent = subprocess.Popen(
        [sys.executable, "-m", "tailora", *map(str, words)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 120
    while not list(out.glob("stages/lora-*/checkpoint.pt")) and time.monotonic() < until:
        time.sleep(0.05)
    children = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    assert len(children) >= 2
    _, left = psutil.wait_procs(children, timeout=30)
    for one in left:
        one.kill()
    assert not left


@pytest.mark.parametrize("verb", ["compare", "evaluate", "predict", "map", "inspect"])
def test_what_one_process_does_is_refused_to_several(verb, data, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    answer = tailora(verb, data)
    assert answer.code == 2
    expected = f"process 1: error: `tailora {verb}` runs in one process: run it without"
    assert answer.err.startswith(expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "--set compute.precision=bf16"),
        ({"WORLD_SIZE": "2"}, "2 processes were launched, but Accelerate joins 1"),
    ],
)
def test_what_a_launcher_asks_in_vain_is_refused(
    given, message, data, quick, tmp_path, monkeypatch
):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tailora.methods.fit.make_accelerator", _one_process)
    answer = tailora("fit", data, "--out", tmp_path / "run", *quick)
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "run").exists()


def _one_process():
    from accelerate import Accelerator

    return Accelerator()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["compute.precision=bf8"], "unknown precision 'bf8'; did you mean 'bf16'?"),
        (["compute.micro_batch=16"], r"compute.micro_batch must lie in [1, 15]"),
        (["compute.micro_batch=0"], "compute.micro_batch must lie in"),
        (["compute.shard=true"], "divides the encoder among processes, but there is only one"),
        (
            ["compute.micro_batch=4", "train.objective=supcon"],
            "compares all images of a batch, which therefore cannot be divided",
        ),
    ],
)
def test_a_way_of_computing_that_cannot_be_is_refused(options, message, data, quick, tmp_path):
    sets = [word for option in options for word in ("--set", option)]
    answer = tailora("fit", data, "--out", tmp_path / "run", *quick, *sets)
    assert answer.code == 2
    assert message in answer.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [["method=lora"], ["method=fine-tune", "train.optimizer=muon"]])
def test_what_cannot_be_divided_is_refused(options, data, quick, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("tailora.methods.fit.make_accelerator", _one_process)
    monkeypatch.setattr("tailora.methods.fit.check_launch", lambda _accelerator: None)
    sets = [word for option in (*options, "compute.shard=true") for word in ("--set", option)]
    answer = tailora("fit", data, "--out", tmp_path / "run", *quick, *sets)
    assert answer.code == 2
    assert "compute.shard is for --method fine-tune with train.optimizer=adamw" in answer.err


def test_memory_can_be_saved_without_another_result(alone, data, quick, tmp_path):
    """Parts of five and activations computed again: the step is the same."""
    saving = ("--set", "compute.micro_batch=5", "--set", "compute.checkpointing=true")
    succeed("fit", data, "--out", tmp_path / "run", *quick, *ALIKE, *saving, "--method", "lora")
    expected = adapters(alone, "lora")
    for name, tensor in adapters(tmp_path / "run", "lora").items():
        assert_close(tensor, expected[name], rtol=1e-4, atol=1e-6)


def test_the_encoder_is_compiled_for_each_training_alone(data, quick, tmp_path, monkeypatch):
    """Compiled with a back end that changes nothing: a real one takes a minute."""
    compiled, plain = [], torch.nn.Module.compile

    def noted(module, **_options):
        compiled.append(type(module).__name__)
        plain(module, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", noted)
    quicker = ("--set", "compute.compile=true", "--epochs", 1, "--method", "lora")
    succeed("fit", data, "--out", tmp_path / "run", *quick, *ALIKE, *quicker)
    assert compiled == ["Encoder"]


def test_a_run_in_bfloat16_says_so_and_predicts_in_it(data, quick, tmp_path):
    run = tmp_path / "run"
    succeed(
        "fit", data, "--out", run, *quick, *ALIKE, "--method", "lora", "--set",
        "compute.precision=bf16",
    )  # fmt: skip
    assert 'precision = "bf16"' in (run / "recipe.toml").read_text("utf-8")
    succeed("evaluate", run, data, "--quiet")
