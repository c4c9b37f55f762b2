"""Runs whose head is no linear layer under a loss: from `fit` to what the run predicts."""

import io
import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from safetensors.torch import load_file

from tailora import load_run
from tests.data.scenes import write_scene
from tests.end_to_end.chips import (
    COUNTS,
    copy_run,
    metrics,
    read_rows,
    reseal,
    succeed,
    write_chips,
)
from tests.end_to_end.test_map import country
from tests.tiny_foundation import clip_folder


def _shares(row):
    return [value for key, value in row.items() if key.startswith("p(")]


def _predicts_its_own_rows(run, data):
    own = read_rows((run / "predictions.csv").read_text("utf-8"))
    again = read_rows(succeed("predict", run, *(data / row["path"] for row in own), "--quiet").out)
    assert [_shares(row) for row in again] == [_shares(row) for row in own]
    assert [row["set"] for row in again] == [row["set"] for row in own]


@pytest.fixture(scope="module")
def retrained(tmp_path_factory, data, quick):
    """A LoRA under a re-trained classifier."""
    run = tmp_path_factory.mktemp("crt") / "run"
    succeed("fit", data, "--out", run, *quick, "--method", "lora", "--probe", "crt")
    return run


@pytest.fixture(scope="module")
def nearest(tmp_path_factory, data, quick):
    """A debLoRA under the nearest class mean."""
    run = tmp_path_factory.mktemp("ncm") / "run"
    succeed("fit", data, "--out", run, *quick, "--method", "deblora", "--probe", "ncm-cl2n")
    return run


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory, data, quick):
    """A vote of neighbours on pretrained features."""
    run = tmp_path_factory.mktemp("knn") / "run"
    succeed("fit", data, "--out", run, *quick, "--method", "zero-shot", "--probe", "knn:k=5")
    return run


@pytest.fixture(scope="module")
def own(tmp_path_factory, data, quick):
    """A LoRA with the head that it was trained with."""
    run = tmp_path_factory.mktemp("own") / "run"
    succeed("fit", data, "--out", run, *quick, "--method", "lora", "--probe", "own")
    return run


def test_the_own_head_is_the_one_that_learnt_along(own, data, quick, tmp_path):
    still = ("--set", "train.lr=1e-12")
    succeed("fit", data, "--out", tmp_path / "run", *quick, "--method", "lora", "--probe", "own",
            *still)  # fmt: skip
    unmoved, learnt = (load_file(run / "head.safetensors") for run in (tmp_path / "run", own))
    start = load_file(tmp_path / "run" / "stages" / "zero-shot" / "start.safetensors")
    torch.testing.assert_close(unmoved, start, atol=1e-8, rtol=1e-5)
    assert (learnt["weight"] - start["weight"]).abs().max() > 1e-3
    _predicts_its_own_rows(own, data)


def test_a_head_that_starts_at_zero_needs_no_pretrained_features(data, quick, tmp_path):
    run = tmp_path / "run"
    succeed("fit", data, "--out", run, *quick, "--method", "lora", "--set", "train.lr=1e-12",
            "--set", "train.head_start=zero")  # fmt: skip
    assert load_file(run / "stages" / "lora" / "own-head.safetensors")["weight"].abs().max() < 1e-8
    assert not (run / "stages" / "zero-shot" / "features-train").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train.head_start=zeros"], "did you mean 'zero'"),
        (["train.head_start=zero", "train.objective=supcon"], "train.head_start has no effect"),
    ],
)
def test_a_start_of_the_head_that_means_nothing_is_refused(words, says, data, quick, refuse):
    settings = [word for setting in words for word in ("--set", setting)]
    refuse("fit", data, *quick, "--method", "lora", *settings, says=[says])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--method", "deblora"), "zero-shot with train.loss='cross-entropy'"),
        (("--method", "lora", "--set", "train.loss=ldam"), "lora with train.loss='ldam'"),
        (("--method", "lora+ride"), "lora+ride with train.loss"),
        (("--method", "lora", "--set", "train.objective=supcon"), "train.objective='supcon'"),
    ],
)
def test_a_method_without_a_linear_head_of_its_own_is_refused(words, says, data, quick, refuse):
    refuse("fit", data, *quick, *words, "--probe", "own",
           says=["probe 'own' is the linear head that a method trained", says])  # fmt: skip


@pytest.mark.parametrize(
    ("which", "name", "options"),
    [
        ("retrained", "crt", {}),
        ("nearest", "ncm-cl2n", {}),
        ("neighbours", "knn", {"k": 5, "tau": 1.0}),
    ],
)
def test_a_run_keeps_its_head_and_all_verbs_use_it(which, name, options, request, data, tmp_path):
    run = request.getfixturevalue(which)
    facts = json.loads((run / "head.json").read_text("utf-8"))
    assert facts == {"name": name, "options": options, "width": 32, "classes": len(COUNTS)}
    assert f'loss = "{name}"' in (run / "recipe.toml").read_text("utf-8")
    assert "head.json" in json.loads((run / "run.json").read_text("utf-8"))["files"]
    _predicts_its_own_rows(run, data)

    page = (run / "report.html").read_text("utf-8")
    assert f"only linear heads trained with a loss can be refitted, the head here is {name}" in page
    assert "Collapse is not computed for" in page
    last = metrics(run)["methods"][-1]
    assert last["collapse"] is None
    assert last["shift"] is not None

    succeed("evaluate", run, data, "--quiet", "--out", "m.json")
    again = json.loads((tmp_path / "m.json").read_text("utf-8"))["methods"][-1]
    assert again["macro_f1"] == last["macro_f1"]
    succeed("report", run, "--quiet", "--out", "r.html")
    assert "The value of more labels" in (tmp_path / "r.html").read_text("utf-8")

    pixels, _ = country(42, 56)
    scene = write_scene(tmp_path / "scene.tif", pixels)
    succeed("map", run, scene, "--out", "map.tif", "--chip", 14, "--quiet")
    assert (tmp_path / "map.tif").is_file()


def test_the_features_are_those_of_a_comparison(retrained, data, quick, tmp_path, plain_page):
    """Training starts at the same linear head, whatever head is fitted afterwards."""
    succeed("compare", data, "--out", "out", *quick, "--methods", "lora", "--probes", "crt",
            "--seeds", 1)  # fmt: skip
    [stage] = (tmp_path / "out" / "stages").glob("lora-*")
    own = retrained / "stages" / "lora"
    name = "adapter/adapter_model.safetensors"
    assert (stage / name).read_bytes() == (own / name).read_bytes()
    with np.load(tmp_path / "out" / "results" / "lora" / "crt" / "seed-0" / "predictions.npz") as f:
        compared = f["probabilities"]
    own = read_rows((retrained / "predictions.csv").read_text("utf-8"))
    files = [data / row["path"] for row in own]
    rows = read_rows(succeed("predict", retrained, *files, "--raw", "--quiet").out)
    kept = np.array([[float(p) for p in _shares(row)] for row in rows])
    np.testing.assert_allclose(kept, compared, atol=1e-6)


OTHERS = ("lws", "cosine", "tau-normalised", "post-hoc", "reslt", "sade", "ride", "tlc",
          "ldam:scale=12.0", "ncm-un", "ncm-l2n")  # fmt: skip


@pytest.mark.parametrize("probe", OTHERS)
def test_every_head_is_kept_and_predicts_what_the_run_did(
    probe, data, quick, tmp_path, plain_report
):
    succeed("fit", data, "--out", "run", *quick, "--method", "zero-shot", "--probe", probe,
            "--set", "evaluate.replicates=2")  # fmt: skip
    facts = json.loads((tmp_path / "run" / "head.json").read_text("utf-8"))
    assert facts["name"] == probe.partition(":")[0]
    assert ":" not in probe or facts["options"]["scale"] == 12.0
    _predicts_its_own_rows(tmp_path / "run", data)


def test_class_names_can_be_the_head_of_a_run(data, quick, tmp_path, plain_report):
    folder = clip_folder(tmp_path / "clip")
    words = ["fit", data, "--out", "run", *quick, "--backbone", folder, "--method", "zero-shot",
             "--probe", "clip-zero-shot", "--set", "backbone.pooling=class"]  # fmt: skip
    succeed(*words)
    shutil.rmtree(tmp_path / ".hub-cache", ignore_errors=True)
    assert not (tmp_path / "run" / "head.json").exists()  # it is a linear layer
    _predicts_its_own_rows(tmp_path / "run", data)
    left = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))["label_value"]
    assert "clip-zero-shot" in left["left_out"]


def test_a_default_run_has_no_description_of_its_head(finished):
    assert not (finished / "head.json").exists()
    assert not list((finished / "stages").rglob("head.json"))
    assert set(load_file(finished / "head.safetensors")) == {"weight", "bias"}


def test_a_linear_run_that_replaces_another_leaves_nothing_of_it(
    retrained, data, quick, tmp_path, plain_report
):
    run = copy_run(retrained, tmp_path / "run")
    words = ["fit", data, "--out", run, *quick, "--method", "zero-shot", "--force"]
    succeed(*words, "--probe", "cross-entropy")
    assert not list(run.rglob("head.json"))
    _predicts_its_own_rows(run, data)


def _facts(**values):
    def harm(path):
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values))

    return harm


DAMAGE = {
    "half a description": (lambda path: path.write_text("{"), ["head.json", "damaged"]),
    "no description": (lambda path: path.unlink(), ["head.safetensors", "damaged"]),
    "another width": (_facts(width=5), ["head.json", "5 features", "by 32"]),
    "another number of classes": (_facts(classes=9), ["head.json", "9 classes"]),
    "another head": (_facts(name="reslt"), ["head.safetensors", "damaged"]),
    "an unknown head": (_facts(name="ctr"), ["head.json", "did you mean 'crt'"]),
    "an option it has not": (_facts(options={"tau": 1}), ["head.json", "no option 'tau'"]),
}


@pytest.mark.parametrize("row", DAMAGE)
def test_a_damaged_description_of_the_head_is_refused(row, refuse, retrained, data, tmp_path):
    harm, says = DAMAGE[row]
    run = copy_run(retrained, tmp_path / "run")
    harm(run / "head.json")
    image = data / "007" / "000.png"
    refuse("predict", run, image, "--quiet", says=["head.json"])  # its checksum
    reseal(run)
    refuse("predict", run, image, "--quiet", says=says)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("which", ["finished", "retrained", "nearest"])
def test_the_whole_model_is_exported_to_onnx(which, request):
    """Linear or not: what ONNX's reference evaluator makes of it is what the run says."""
    model = load_run(request.getfixturevalue(which)).model
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 14, 14))).float()
    buffer = io.BytesIO()
    torch.onnx.export(model, (images,), buffer, dynamo=False, input_names=["images"])
    evaluator = ReferenceEvaluator(onnx.load_from_string(buffer.getvalue()))
    [found] = evaluator.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(found, model(images).detach().numpy(), rtol=1e-3, atol=1e-3)


def test_patches_cannot_be_mapped_with_such_a_head(refuse, retrained, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", country(42, 56)[0])
    refuse("map", retrained, scene, "--out", "map.tif", "--chip", 14, "--dense", "--quiet",
           says=["--dense", "linear head"])  # fmt: skip


def test_broken_images_are_no_matter_of_the_head(tmp_path, quick, refuse):
    """What is refused of a head comes before images are decoded."""
    broken = write_chips(tmp_path / "broken", {"forest": 6, "water": 6})
    (broken / "water" / "000.png").write_text("hello")
    refuse("fit", broken, "--out", "run", *quick, "--probe", "sade-test-time",
           says=["'sade-test-time'", "`tailora compare --probes`"])  # fmt: skip
