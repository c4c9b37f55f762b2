"""Run folders that cannot be used, or must not be touched: one line, code 2, nothing lost."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tailora.runs.one_at_a_time import one_at_a_time
from tests.end_to_end.chips import (
    COUNTS,
    DEBLORA,
    chip,
    copy_run,
    reseal,
    succeed,
    write_chip,
    write_chips,
    write_raster,
)


def test_a_run_that_is_there_is_not_written_over(refuse, finished, tmp_path, data, quick):
    run = copy_run(finished, tmp_path / "run")
    refuse("fit", data, "--out", run, *quick, says=["exists", "--resume", "--force"])


@pytest.mark.parametrize("flag", [None, "--resume", "--force"])
@pytest.mark.parametrize("content", [{"notes.txt": "mine"}, {"run.json": '{"mine": 1}'}])
def test_a_folder_that_is_no_run_is_never_touched(content, flag, refuse, tmp_path, data, quick):
    (tmp_path / "work").mkdir()
    for name, text in content.items():
        (tmp_path / "work" / name).write_text(text)
    flags = [flag] if flag else []
    refuse(
        "fit", data, "--out", "work", *quick, *flags, says=["not a tailora run", "another --out"]
    )


def test_a_run_is_not_made_inside_a_file(refuse, tmp_path, data, quick):
    (tmp_path / "file").write_text("mine")
    refuse("fit", data, "--out", "file", *quick, says=["not a tailora run"])
    refuse("fit", data, "--out", "file/run", *quick, says=["cannot write"])


def test_a_broken_image_does_not_cost_the_run_that_would_be_replaced(
    refuse, finished, tmp_path, quick
):
    run = copy_run(finished, tmp_path / "run")
    broken = write_chips(tmp_path / "broken", {"forest": 6, "water": 6})
    (broken / "water" / "000.png").write_text("hello")
    refuse("fit", broken, "--out", run, "--force", *quick, "--clusters", 2, says=["000.png"])


def _edit(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))))


def _set(run, **values):
    _edit(run / "run.json", lambda content: content | values)


ADAPTER = "adapter/adapter_model.safetensors"
HARM = {
    "incomplete": (lambda run: _set(run, complete=False), ["incomplete", "--resume"]),
    "of another version": (lambda run: _set(run, schema=99), ["format 99", "fit it again"]),
    "without run.json": (lambda run: (run / "run.json").unlink(), ["no run", "run.json"]),
    "with half a run.json": (
        lambda run: (run / "run.json").write_text("{"),
        ["damaged", "--force"],
    ),
    "without its recipe": (lambda run: (run / "recipe.toml").unlink(), ["recipe.toml"]),
    "without metrics": (lambda run: (run / "metrics.json").unlink(), ["metrics.json"]),
    "without classes": (lambda run: (run / "classes.json").unlink(), ["classes.json"]),
}
WEIGHTS = {
    "without its adapter": (lambda run: shutil.rmtree(run / "adapter"), ["weights", "--force"]),
    "without adapter weights": (lambda run: (run / ADAPTER).unlink(), ["weights", "--force"]),
    "with half an adapter": (lambda run: (run / ADAPTER).write_bytes(b"x"), ["damaged"]),
    "without its head": (lambda run: (run / "head.safetensors").unlink(), ["head", "missing"]),
    "with half a head": (
        lambda run: (run / "head.safetensors").write_bytes(b"x"),
        ["head.safetensors", "damaged"],
    ),
}


@pytest.mark.parametrize("row", [*HARM, *WEIGHTS])
def test_a_run_folder_that_is_not_whole_is_not_used(row, refuse, finished, tmp_path, data):
    harm, says = (HARM | WEIGHTS)[row]
    run = copy_run(finished, tmp_path / "run")
    harm(run)
    if "half" in row and row in WEIGHTS:
        reseal(run)  # what is checked beside the checksums
    image = data / "007" / "000.png"
    refuse("predict", run, image, "--quiet", "--out", "p.csv", says=says)
    refuse("evaluate", run, data, "--quiet", "--out", "m.json", says=says)
    if row in HARM:
        refuse("report", run, "--quiet", "--out", "r.html", says=says[:1])


@pytest.mark.parametrize("verb", ["predict", "evaluate", "report"])
def test_a_folder_without_a_run_is_named(verb, refuse, data):
    words = [] if verb == "report" else [data]
    refuse(verb, "nowhere", *words, "--quiet", says=["'nowhere'", "no run"])


def test_a_run_is_resumed_only_with_its_own_data_and_recipe(
    refuse, finished, tmp_path, data, quick
):
    run = copy_run(finished, tmp_path / "run")
    others = write_chips(tmp_path / "others", COUNTS | {"[red]": 7})
    words = ["--out", run, "--resume", *quick, *DEBLORA]
    refuse("fit", others, *words, says=["different dataset", "--out"])
    both = ["different recipe: seed was 0, now 4; adapter.rank was 2, now 4. Resume with"]
    refuse("fit", data, *words, "--rank", 4, "--seed", 4, says=both)
    _set(run, tailora="0.0.1")
    refuse("fit", data, *words, says=["tailora 0.0.1", "--force"])


def test_an_encoder_with_other_weights_is_noticed(refuse, finished, tmp_path, encoder, data):
    run = copy_run(finished, tmp_path / "run")
    _edit(run / "run.json", lambda r: r | {"backbone": r["backbone"] | {"sha256": "0" * 64}})
    reseal(run)
    refuse("predict", run, data / "007", "--quiet", says=["different weights", str(encoder)])


@pytest.mark.parametrize("kind", ["missing", "no image", "truncated", "two bands", "16 bit", "NaN"])
def test_an_image_that_cannot_be_predicted_is_named(kind, refuse, finished, tmp_path):
    path = tmp_path / "odd.tif"
    rng = np.random.default_rng(0)
    if kind == "no image":
        path.write_text("hello")
    elif kind == "truncated":
        write_chip(path.with_suffix(".png"), chip(rng, 0)).rename(path)
        path.write_bytes(path.read_bytes()[:-40])
    elif kind == "two bands":
        write_raster(path, np.ones((2, 14, 14), np.uint8))
    elif kind == "16 bit":
        write_raster(path, np.ones((3, 14, 14), np.uint16))
    elif kind == "NaN":
        write_raster(path, np.full((3, 14, 14), np.nan, np.float32))
    refuse("predict", finished, path, "--quiet", "--out", "p.csv", says=["odd.tif"])


def test_a_folder_without_images_cannot_be_predicted(refuse, finished, tmp_path):
    (tmp_path / "bare").mkdir()
    refuse("predict", finished, "bare", "--quiet", says=["no images", "bare", ".tif"])


def test_evaluation_refuses_data_without_a_class_that_the_run_knows(refuse, finished, tmp_path):
    other = write_chips(tmp_path / "other", {"airport": 1, "bridge": 4})
    says = ["has none of the classes", "airport", "bridge", "007"]
    refuse("evaluate", finished, other, "--quiet", says=says)


def test_evaluation_refuses_an_empty_split_of_data_too_small_to_divide(refuse, finished, tmp_path):
    other = write_chips(tmp_path / "other" / "train", {"007": 2}).parent
    refuse("evaluate", finished, other, "--split", "test", "-q", says=["no test sample", "all"])


@pytest.mark.parametrize("kind", ["no class folder", "an empty class", "loose images", "no rows"])
def test_evaluation_refuses_data_without_a_labelled_sample(kind, refuse, finished, tmp_path):
    place, says = tmp_path / "other", "no class folder"
    place.mkdir()
    if kind == "an empty class":
        (place / "007").mkdir()
        says = "without any image"
    elif kind == "loose images":
        write_chip(place / "a.png", chip(np.random.default_rng(0), 0))
        says = "unknown class"
    elif kind == "no rows":
        place, says = place / "list.csv", "no rows"
        place.write_text("path,label\n")
    refuse("evaluate", finished, place, "--quiet", says=[says])


def test_evaluation_refuses_images_of_another_kind(refuse, finished, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("007", "[red]"):
        for i in range(3):
            pixels = rng.integers(0, 9, (3, 14, 14)).astype(np.uint16)
            write_raster(tmp_path / "other" / name / f"{i}.tif", pixels)
    refuse("evaluate", finished, "other", "--quiet", says=["uint16", "uint8"])


def test_evaluation_on_what_was_learnt_is_refused(refuse, finished, data):
    refuse(
        "evaluate",
        finished,
        data,
        "--split",
        "all",
        "--quiet",
        says=["--split all", "own training images"],
    )
    refuse("evaluate", finished, data, "--split", "tset", "--quiet", says=["did you mean 'test'"])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 2
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    [
        "run.json", "recipe.toml", "metrics.json", "classes.json", "calibration.json",
        "head.safetensors", "adapter/adapter_config.json", ADAPTER, "report.npz",
    ],
)  # fmt: skip
def test_one_flipped_bit_of_any_file_is_noticed(name, refuse, finished, tmp_path, data):
    run = copy_run(finished, tmp_path / "run")
    if name == "run.json":
        _edit(run / name, lambda r: r | {"input": r["input"] | {"scale": 254.0}})
    else:
        _flip(run / name)
    for verb, words in {"predict": [data], "evaluate": [data], "report": []}.items():
        refuse(verb, run, *words, "--quiet", says=[str(run / name), "has changed", "--unverified"])


def test_unverified_reads_a_run_as_it_is_and_says_so(finished, tmp_path, data):
    run = copy_run(finished, tmp_path / "run")
    _flip(run / "head.safetensors")
    answer = succeed("predict", run, data / "007", "--quiet", "--unverified")
    assert answer.err == f"note: the files of run {str(run)!r} were not verified\n"


def test_a_run_without_checksums_is_read_with_a_note(finished, tmp_path, data):
    run = copy_run(finished, tmp_path / "run")
    _edit(
        run / "run.json", lambda r: {k: v for k, v in r.items() if k not in ("files", "checksum")}
    )
    answer = succeed("predict", run, data / "007", "--quiet")
    assert answer.out == succeed("predict", finished, data / "007", "--quiet").out
    assert "without checksums" in answer.err


def _inner(key, **values):
    return lambda run: _edit(run / "run.json", lambda r: r | {key: r[key] | values})


def _config(**values):
    return lambda run: _edit(run / "adapter/adapter_config.json", lambda c: c | values)


def _swap(run):
    _edit(run / "classes.json", lambda c: {"classes": [c["classes"][i] for i in (1, 0, 2, 3, 4)]})


def _head(change):
    def harm(run):
        state = load_file(run / "head.safetensors")
        save_file(change(state), run / "head.safetensors")

    return harm


def _metrics(**values):
    return lambda run: _edit(run / "metrics.json", lambda m: m | values)


def _method(**values):
    return _metrics_of(lambda method: method | values)


def _metrics_of(change):
    def harm(run):
        def each(content):
            return content | {"methods": [change(method) for method in content["methods"]]}

        _edit(run / "metrics.json", each)

    return harm


_HUGE = {"vector": {"scale": [1e308] * 5, "shift": [0.0] * 5}}
_COLD = {"temperature": {"value": -1.0}}
_VALUE = {
    "factor": 2.0, "score": 0.5, "low": 0.4, "high": 0.6, "gain": 0.1, "gain_low": 0.0,
    "gain_high": 0.2,
}  # fmt: skip
WRONG = {
    "band 0": (_inner("input", bands=[1, 2, 0]), "bands [1, 2, 0]"),
    "band 999": (_inner("input", bands=[1, 2, 999]), "but images that have 3"),
    "two means": (_inner("input", mean=[0.5, 0.5]), "other lengths"),
    "scale 0": (_inner("input", scale=0.0), "above 0"),
    "size as text": (_inner("input", image_size="14"), "image_size"),
    "dataset a list": (lambda run: _set(run, dataset=[]), "dataset"),
    "swapped names": (_swap, "another order"),
    "no class": (lambda run: (run / "classes.json").write_text("{}"), "classes"),
    "classes a list": (lambda run: (run / "classes.json").write_text("[]"), "classes.json"),
    "metrics a list": (lambda run: (run / "metrics.json").write_text("[]"), "metrics.json"),
    "NaN": (lambda run: (run / "metrics.json").write_text('{"schema": NaN}'), "NaN"),
    "deep": (lambda run: (run / "metrics.json").write_text("[" * 99_999), "too deep"),
    "twice": (lambda run: (run / "classes.json").write_text('{"a": 1, "a": 2}'), "twice"),
    "long digits": (lambda run: (run / "classes.json").write_text("9" * 9999), "damaged"),
    "calibration null": (lambda run: (run / "calibration.json").write_text("null"), "damaged"),
    "recipe empty": (lambda run: (run / "recipe.toml").write_text(""), "recipe"),
    "other layers": (_config(target_modules=["q_proj"]), "other layers"),
    "no layers": (_config(target_modules=["nowhere"]), "damaged"),
    "a regular expression": (_config(target_modules="(a+)+$"), "names of layers"),
    "a huge rank": (_config(r=10**9), "r is 1e+09"),
    "a module to import": (_config(megatron_config={"a": 1}), "megatron_config"),
    "an unknown option": (_config(use_other_lora=True), "use_other_lora is unknown to PEFT"),
    "a huge scaling": (
        lambda run: _edit(run / "calibration.json", lambda c: c | {"scalings": _HUGE}),
        "calibration.json",
    ),
    "negative temperature": (
        lambda run: _edit(run / "calibration.json", lambda c: c | {"scalings": _COLD}),
        "calibration.json",
    ),
    "out of range": (lambda run: (run / "metrics.json").write_text('{"a": 1e400}'), "1e400"),
    "half a character": (
        lambda run: (run / "classes.json").write_text('{"a": "\\ud800"}'),
        "classes.json",
    ),
    "label value a text": (_metrics(label_value={"classes": "x"}), "label_value.classes"),
    "label value without sizes": (
        _metrics(label_value={"classes": [{"name": "a", "labels": 3, "values": [_VALUE]}]}),
        "a score at each of its sizes",
    ),
    "coverage of one class": (
        _metrics_of(lambda m: m | {"coverage": m["coverage"] | {"by_class": [0.5]}}),
        "does not have all of its 5 classes",
    ),
    "collapse a list": (_method(collapse=[]), "collapse"),
    "shift a text": (_metrics_of(lambda m: m | {"shift": m["shift"] | {"low": "x"}}), "shift.low"),
    "half a confusion": (_method(confusion=[[1]]), "does not have all of its 5 classes"),
    "stages a text": (lambda run: _set(run, stages="x"), "stages"),
    "a stage without a name": (lambda run: _set(run, stages=[{}]), "stages.0.name"),
    "duplicates of numbers": (_inner("dataset", duplicates=[3]), "dataset.duplicates.0"),
    "notes a number": (_inner("dataset", notes=3), "dataset.notes"),
    "spectrum empty": (lambda run: _set(run, spectrum={"entropy": 1}), "spectrum"),
    "versions a list": (lambda run: _set(run, versions=[]), "versions"),
    "another tuner": (_config(peft_type="XLORA"), "no known tuner"),
    "a narrow head": (
        _head(lambda h: h | {"weight": h["weight"][:, :5].contiguous()}),
        "by 5 features",
    ),
    "a head without bias": (_head(lambda h: {"weight": h["weight"]}), "damaged"),
    "one bias for all": (_head(lambda h: h | {"bias": h["bias"][:1].contiguous()}), "damaged"),
}


@pytest.mark.parametrize("row", WRONG)
def test_a_run_whose_checksums_agree_is_checked_too(row, refuse, finished, tmp_path, data):
    harm, says = WRONG[row]
    run = copy_run(finished, tmp_path / "run")
    harm(run)
    if row != "dataset a list":
        reseal(run)
    refuse("predict", run, data / "007", "--quiet", "--unverified", says=[says])


def test_a_lost_calibration_is_named(refuse, finished, tmp_path, data):
    run = copy_run(finished, tmp_path / "run")
    (run / "calibration.json").unlink()
    for flags in ([], ["--unverified"]):
        refuse("predict", run, data, "--quiet", *flags, says=["calibration.json", "missing"])


def test_an_adapter_config_holds_no_folder_of_this_machine_and_sorted_names(finished):
    config = json.loads((finished / "adapter/adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] is None  # the encoder is a folder
    assert config["target_modules"] == sorted(config["target_modules"])
    assert len(config["target_modules"]) == 4


@pytest.mark.parametrize("flag", ["--resume", "--force"])
def test_a_folder_that_another_process_writes_is_left_to_it(
    flag, refuse, finished, tmp_path, data, quick
):
    run = copy_run(finished, tmp_path / "run")
    with one_at_a_time(run):
        words = [data, "--out", run, flag, *quick, *DEBLORA]
        refuse("fit", *words, says=["another tailora", str(os.getpid()), str(run)])
    succeed("fit", data, "--out", run, "--resume", *quick, *DEBLORA)  # released
    with one_at_a_time(tmp_path / "c"):
        words = [data, "--out", "c", "--methods", "zero-shot", "--seeds", 1, *quick]
        refuse("compare", *words, says=["another tailora", "'c'"])


@pytest.mark.parametrize("stage", ["lora", "deblora"])
def test_features_are_kept_under_the_checksum_of_the_weights_that_made_them(stage, finished):
    place = finished / "stages" / stage
    weights = hashlib.sha256((place / ADAPTER).read_bytes()).hexdigest()
    for split in ("train", "val", "test"):
        manifest = json.loads((place / f"features-{split}/manifest.json").read_text("utf-8"))
        assert manifest["weights"] == weights
        assert manifest["split"] == split
