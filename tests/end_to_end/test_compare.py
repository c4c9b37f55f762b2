"""`tailora compare`: every row of the paper by name, nothing done twice, resumable."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

import tailora as package
from tailora import Recipe, compare, open_dataset
from tailora.errors import ConfigError
from tests.end_to_end.chips import snapshot, succeed, tailora, write_chips
from tests.end_to_end.conftest import with_figures
from tests.tiny_foundation import clip_folder

PAPER = "zero-shot,fine-tune,clora,clora+deblora,clora-oracle,lora,deblora,lora+reslt"
PROBES = "logit-adjusted,cross-entropy,logit-adjusted:tau=0,ncm-cl2n"
ONE_PENALTY = ("--set", "probe.l2=[0.1]")  # many heads are fitted


@pytest.fixture(scope="module")
def compared(tmp_path_factory, data, quick):
    """All methods under four probes, two seeds; nobody may change it."""
    out = tmp_path_factory.mktemp("compared") / "out"
    with pytest.MonkeyPatch.context() as patch:
        with_figures(patch)
        succeed("compare", data, "--out", out, *quick, *ONE_PENALTY, "--methods", PAPER,
                "--probes", PROBES, "--seeds", 2)  # fmt: skip
    return out


def content(out):
    return json.loads((out / "comparison.json").read_text("utf-8"))


def rows(out):
    return {row["name"]: row for row in content(out)["rows"]}


def numbers(out):
    """All that a comparison found, without times and memory."""
    unlike = ("seconds", "peak_memory_mb")
    return [{k: v for k, v in row.items() if k not in unlike} for row in content(out)["rows"]]


def test_every_row_of_the_paper_is_there_under_every_probe(compared):
    found = content(compared)
    assert found["complete"]
    assert found["adapters"] == PAPER.split(",")
    assert found["probes"] == PROBES.split(",")
    wanted = {f"{a} / {p}" for a in PAPER.split(",") for p in PROBES.split(",")}
    assert set(rows(compared)) == wanted
    for row in wanted:
        adapter, _, probe = row.partition(" / ")
        probe = probe.replace(":", "-")
        for seed in (0, 1):
            place = compared / "results" / adapter / probe / f"seed-{seed}"
            metrics = json.loads((place / "metrics.json").read_text("utf-8"))
            assert [m["method"] for m in metrics["methods"]] == [adapter]


def test_scores_are_those_of_the_predictions(compared):
    found = rows(compared)["deblora / logit-adjusted"]
    for seed in (0, 1):
        place = compared / "results" / "deblora" / "logit-adjusted" / f"seed-{seed}"
        with np.load(place / "predictions.npz") as arrays:
            expected = f1_score(
                arrays["targets"], arrays["probabilities"].argmax(1), average="macro",
                zero_division=0,
            )  # fmt: skip
        assert found["scores"]["all"]["per_seed"][seed] == pytest.approx(expected)


def test_differences_are_to_lora_under_the_same_probe(compared):
    found = rows(compared)
    for probe in PROBES.split(","):
        lora, deblora = (found[f"{name} / {probe}"] for name in ("lora", "deblora"))
        assert lora["difference"] is None
        for scope in ("all", "head", "middle", "tail"):
            gap = deblora["scores"][scope]["mean"] - lora["scores"][scope]["mean"]
            assert deblora["difference"][scope]["mean"] == pytest.approx(gap, abs=1e-9)
            low, high = (deblora["difference"][scope][end] for end in ("low", "high"))
            assert low <= gap + 1e-9
            assert high >= gap - 1e-9


def test_only_the_oracle_is_marked_as_leaking(compared):
    leaking = {row["adapter"] for row in content(compared)["rows"] if row["leaks"]}
    assert leaking == {"clora-oracle"}
    assert "leaks the label" in (compared / "comparison.html").read_text("utf-8")


def test_logit_adjustment_of_strength_zero_is_cross_entropy(compared):
    found = rows(compared)
    for adapter in ("zero-shot", "lora", "deblora"):
        base = found[f"{adapter} / cross-entropy"]["scores"]
        assert found[f"{adapter} / logit-adjusted:tau=0"]["scores"] == base


def test_stages_are_shared(compared):
    names = sorted(path.name.rpartition("-")[0] for path in (compared / "stages").iterdir())
    seeded = ["clora", "clora+deblora", "deblora", "fine-tune", "lora", "lora+reslt"]
    assert names == sorted([*seeded, *seeded, "zero-shot"])  # zero-shot has no seed
    assert not (compared / "images").exists()


def test_adapters_of_categories_differ_and_count_together(compared):
    found = rows(compared)
    one, many = (found[f"{n} / cross-entropy"]["trained_parameters"] for n in ("lora", "clora"))
    assert many > 4 * (one - 5 * 33)
    folders = [p for p in (compared / "stages").iterdir() if p.name.startswith("clora-")]
    weights = {(p / "adapter" / "adapter_model.safetensors").read_bytes()
               for p in folders[0].iterdir() if p.is_dir()}  # fmt: skip
    assert len(weights) == 5


def test_going_on_with_a_finished_comparison_trains_nothing(compared, data, quick, tmp_path):
    before = {k: v for k, v in snapshot(compared).items() if "stages" in str(k)}
    succeed("compare", data, "--out", compared, *quick, *ONE_PENALTY, "--methods", PAPER,
            "--probes", PROBES, "--seeds", 2, "--resume")  # fmt: skip
    assert {k: v for k, v in snapshot(compared).items() if "stages" in str(k)} == before


@pytest.mark.slow
def test_the_same_seeds_give_the_same_table_also_in_two_processes(
    compared, data, quick, tmp_path, plain_page
):
    out = tmp_path / "again"
    words = ["compare", data, "--out", out, *quick, *ONE_PENALTY, "--methods", "lora,deblora",
             "--probes", "logit-adjusted"]  # fmt: skip
    succeed(*words, "--seeds", 2, "--jobs", 2)
    first = {row["name"]: row for row in numbers(compared)}
    for row in numbers(out):
        row.pop("ranks")  # among fewer rows
        assert row == {k: v for k, v in first[row["name"]].items() if k != "ranks"}


def test_rows_and_probes_can_be_added(data, quick, tmp_path, plain_page):
    words = ["compare", data, "--out", tmp_path / "out", *quick, "--seeds", 1]
    succeed(*words, "--methods", "lora")
    (lora,) = (p for p in (tmp_path / "out" / "stages").iterdir() if p.name.startswith("lora"))
    before = snapshot(lora)
    succeed(*words, "--methods", "lora,deblora", "--probes", "logit-adjusted,ncm-un", "--resume")
    assert snapshot(lora) == before
    assert len(content(tmp_path / "out")["rows"]) == 4


def test_varied_keys_act_on_their_methods_only(data, quick, tmp_path, plain_page):
    out = tmp_path / "out"
    succeed("compare", data, "--out", out, *quick, "--seeds", 1, "--methods", "lora,deblora",
            "--vary", "adapter.rank=1,2", "--vary", "deblora.clusters=2,3")  # fmt: skip
    assert content(out)["adapters"] == [
        "lora [adapter.rank=1]",
        "lora [adapter.rank=2]",
        *(f"deblora [adapter.rank={r}, deblora.clusters={k}]" for r in (1, 2) for k in (2, 3)),
    ]
    against = {row["adapter"]: row["against"] for row in content(out)["rows"]}
    assert against["deblora [adapter.rank=2, deblora.clusters=3]"] == "lora [adapter.rank=2]"


def test_what_only_heads_see_is_varied_over_the_same_adapters(data, quick, tmp_path, plain_page):
    out = tmp_path / "out"
    succeed("compare", data, "--out", out, *quick, *ONE_PENALTY, "--methods", "zero-shot,lora",
            "--probes", "own,logit-adjusted", "--vary", "probe.smoothing=0.0,1.0",
            "--seeds", 1)  # fmt: skip
    assert len(list((out / "stages").iterdir())) == 2
    found = rows(out)
    plain, smooth = (
        f"zero-shot [probe.smoothing={share}] / logit-adjusted" for share in (0.0, 1.0)
    )
    assert set(found) == {
        plain, smooth, plain.replace("zero-shot", "lora"), smooth.replace("zero-shot", "lora"),
        "lora [probe.smoothing=0.0] / own",
    }  # fmt: skip
    assert found[plain]["scores"] != found[smooth]["scores"]


def test_a_base_adapter_can_learn_without_labels(data, quick, tmp_path, plain_page):
    out = tmp_path / "out"
    succeed("compare", data, "--out", out, *quick, "--seeds", 1, "--methods", "lora,deblora",
            "--vary", "train.objective=labels,masked,self-distillation")  # fmt: skip
    loras = [p for p in (out / "stages").iterdir() if p.name.startswith("lora-")]
    weights = {(p / "adapter" / "adapter_model.safetensors").read_bytes() for p in loras}
    assert len(weights) == 3
    assert len(content(out)["rows"]) == 7  # one has a head of its own


def test_every_row_is_compared_with_ordinary_fine_tuning(data, quick, tmp_path):
    out = tmp_path / "out"
    succeed("compare", data, "--out", out, *quick, "--seeds", 2, "--resplit",
            "--methods", "lora,deblora")  # fmt: skip
    found = content(out)
    assert found["ordinary"] == "lora / own"
    ordinary, *others = found["rows"]
    assert [row["name"] for row in found["rows"]] == [
        "lora / own", "lora / logit-adjusted", "deblora / logit-adjusted",
    ]  # fmt: skip
    assert ordinary["over_ordinary"] is None
    assert others[0]["difference"] is None
    for row in others:
        for scope in ("tail", "all"):
            change = row["scores"][scope]["mean"] - ordinary["scores"][scope]["mean"]
            assert row["over_ordinary"][scope]["mean"] == pytest.approx(change)
    shown = package.read_comparison(out).table()
    assert shown.columns[-1].header == "tail − ordinary"
    page = (out / "comparison.html").read_text("utf-8")
    assert "ver ordinary fine-tuning (lora / own)" in page


def test_a_table_of_the_paper_runs_by_name(data, quick, tmp_path, plain_page):
    out = tmp_path / "out"
    succeed("compare", data, "--out", out, *quick, "--seeds", 1, "--table", "geometry")
    assert content(out)["adapters"] == ["fine-tune", "lora", "deblora"]
    for row in content(out)["rows"]:
        assert set(row["geometry"]) == {"inter_head_tail", "inter_tail_tail", "intra_tail"}


def test_experts_are_weighed_over_two_views_of_the_test_images(data, quick, tmp_path, plain_page):
    out = tmp_path / "out"
    probes = "sade,sade-test-time,ride,tlc"
    succeed("compare", data, "--out", out, *quick, "--methods", "lora", "--probes", probes,
            "--seeds", 1)  # fmt: skip
    assert {f"lora / {p}" for p in probes.split(",")} == set(rows(out))
    (lora,) = (out / "stages").glob("lora-*")
    banks = [np.load(next(lora.glob(f"features-test{view}/**/*.npy")))
             for view in ("", "-turned-4", "-turned-1")]  # fmt: skip
    assert banks[0].shape == banks[1].shape == banks[2].shape
    assert not np.allclose(banks[0], banks[1])
    assert not np.allclose(banks[1], banks[2])


def test_clip_answers_from_class_names(data, quick, tmp_path, plain_page):
    folder, out = clip_folder(tmp_path / "clip"), tmp_path / "out"
    words = ["compare", data, "--out", out, *quick, "--backbone", folder, "--methods", "zero-shot",
             "--probes", "clip-zero-shot", "--seeds", 1]  # fmt: skip
    answer = tailora(*words)
    assert answer.code == 2
    assert "backbone.pooling=class" in answer.err
    succeed(*words, "--set", "backbone.pooling=class")
    assert set(rows(out)) == {"zero-shot / clip-zero-shot"}


def test_new_splits_for_every_seed(data, quick, tmp_path, plain_page):
    out = tmp_path / "out"
    succeed("compare", data, "--out", out, *quick, "--seeds", 2, "--methods", "zero-shot",
            "--resplit")  # fmt: skip
    found = content(out)
    assert found["resplit"]
    assert len(found["fingerprints"]) == 2
    assert len(list((out / "stages").iterdir())) == 2


def test_data_that_cannot_leave_this_process_are_refused(encoder, data, tmp_path):
    held = open_dataset(data)
    object.__setattr__(held.source, "lock", threading.Lock())
    recipe = Recipe().override({"backbone.name": str(encoder), "data.image_size": 14})
    recipe = recipe.override({"deblora.clusters": 4, "probe.l2": [0.1]})
    with pytest.raises(ConfigError, match=r"cannot be sent to other processes.*jobs=1"):
        compare(held, methods=["zero-shot"], out=tmp_path / "out", recipe=recipe, jobs=2, seeds=2)


@pytest.mark.slow
def test_a_killed_comparison_goes_on(data, quick, tmp_path):
    out = tmp_path / "out"
    words = ["compare", data, "--out", out, *quick, "--seeds", 2, "--methods", "lora"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(package.__file__).parents[1]),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tailora", *map(str, words)],
        env=environment, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    done = out / "results" / "lora" / "logit-adjusted" / "seed-0" / "metrics.json"
    deadline = time.monotonic() + 300
    while not done.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -9
    assert not (out / "comparison.html").exists()
    assert "incomplete" in tailora("report", out).err
    kept = done.stat().st_mtime_ns
    succeed(*words, "--resume")
    assert done.stat().st_mtime_ns == kept
    assert content(out)["complete"]


BAD = {
    "class names without a text encoder": (
        ["--methods", "lora", "--probes", "clip-zero-shot"],
        ["CLIP"],
    ),
    "views of one adapter a category": (
        ["--methods", "clora", "--probes", "sade-test-time"],
        ["'sade-test-time' needs two views", "clora does not give"],
    ),
    "the own head of what has none": (
        ["--methods", "zero-shot,deblora", "--probes", "own"],
        ["probe 'own' is the linear head", "zero-shot"],
    ),
    "another number of views": (
        ["--methods", "lora", "--probes", "crt:views=3"], ["probe.views must be 1 or 8, got 3"],
    ),
    "an unknown method": (["--methods", "deblor"], ["did you mean 'deblora'"]),
    "an unknown table": (["--table", "rank"], ["did you mean 'ranks'"]),
    "an unknown probe": (["--probes", "logit-ajusted"], ["did you mean 'logit-adjusted'"]),
    "an unknown option of a probe": (["--probes", "focal:gama=1"], ["no option 'gama'"]),
    "a probe option without a value": (["--probes", "focal:gamma"], ["name:option=value"]),
    "no seeds": (["--seeds", 0], ["--seeds"]),
    "no processes": (["--jobs", 0], ["--jobs"]),
    "an unknown key to vary": (["--vary", "deblora.cluster=2"], ["did you mean"]),
    "a key to vary without values": (["--vary", "deblora.clusters"], ["key=value,value"]),
    "a key that acts on nothing": (
        ["--methods", "lora", "--vary", "deblora.clusters=2,3"], ["acts on none of lora"],
    ),
    "nothing learns": (
        ["--methods", "zero-shot", "--vary", "compute.micro_batch=2,4"], ["acts on none of zero"],
    ),
    "a value out of range": (["--vary", "deblora.balance=2,0.5"], ["rho", "0.5"]),
    "a value of another type": (["--vary", "deblora.clusters=two"], ["deblora.clusters"]),
    "more clusters than samples": (["--vary", "deblora.clusters=4,500"], ["500"]),
    "an option that cLoRA would ignore": (
        ["--methods", "clora", "--set", "train.loss=focal"], ["train.loss", "clora"],
    ),
    "a head for targets that nothing learns": (
        ["--vary", "deblora.epochs=1,0"], ["deblora.epochs=0", "deblora.head"],
    ),
    "an unknown objective": (["--set", "train.objective=label"], ["did you mean 'labels'"]),
    "a loss without labels": (
        ["--set", "train.objective=masked", "--set", "train.loss=focal"],
        ["train.loss", "train.objective='masked'"],
    ),
    "labels where there are none": (
        ["--methods", "fine-tune", "--set", "train.objective=masked"], ["trains on labels only"],
    ),
    "resume and force together": (["--resume", "--force"], ["choose one"]),
    "an encoder that is not there": (["--backbone", "./enc"], ["./enc"]),
}  # fmt: skip


@pytest.mark.parametrize("row", BAD)
def test_what_cannot_work_is_refused_before_anything_is_written(row, refuse, data, quick):
    words, says = BAD[row]
    refuse("compare", data, "--out", "out", *quick, *words, says=says)


def test_a_folder_of_something_else_is_left_alone(refuse, data, quick, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    for flag in ([], ["--resume"], ["--force"]):
        refuse("compare", data, "--out", "out", *quick, *flag, says=["not a tailora comparison"])


def test_another_recipe_or_data_set_is_not_mixed_in(compared, data, quick, tmp_path):
    words = ["compare", "--out", compared, *quick, *ONE_PENALTY, "--methods", "lora", "--seeds", 1]
    answer = tailora(*words, data)
    assert "add --resume" in answer.err
    answer = tailora(*words, data, "--resume", "--set", "train.epochs=1")
    assert "train.epochs was 2, now 1" in answer.err
    other = write_chips(tmp_path / "other", seed=7)
    assert "different dataset" in tailora(*words, other, "--resume").err


def test_a_group_that_would_be_empty_is_refused(refuse, data, quick):
    limits = ("evaluate.groups=counts", "evaluate.low=1", "evaluate.high=2")
    words = [word for limit in limits for word in ("--set", limit)]
    refuse("compare", data, "--out", "out", *quick, *words, says=["middle empty"])


def test_rows_keep_worst_class_ranking_and_coverage_over_seeds(compared):
    for name, row in rows(compared).items():
        place = compared / "results" / row["adapter"] / row["probe"].replace(":", "-")
        seeds = [
            json.loads((place / f"seed-{s}" / "metrics.json").read_text("utf-8"))["methods"][0]
            for s in (0, 1)
        ]
        measures = row["measures"]
        worst = [seed["worst_class_recall"] for seed in seeds]
        assert measures["worst_class_recall"]["mean"] == pytest.approx(np.mean(worst)), name
        auprc = [seed["ranking"]["tail"]["auprc"] for seed in seeds]
        assert measures["auprc"]["tail"]["deviation"] == pytest.approx(np.std(auprc, ddof=1))
        held = [seed["coverage"]["by_group"]["tail"] for seed in seeds]
        assert measures["coverage"]["tail"]["mean"] == pytest.approx(np.mean(held))
    assert "Worst class, ranking and coverage" in (compared / "comparison.html").read_text("utf-8")


def test_a_row_that_an_earlier_version_measured_is_kept_and_left_blank(data, quick, tmp_path):
    out = tmp_path / "out"
    words = ("compare", data, "--out", out, *quick, "--methods", "zero-shot", "--seeds", 1)
    succeed(*words)
    place = out / "results" / "zero-shot" / "logit-adjusted" / "seed-0" / "metrics.json"
    old = json.loads(place.read_text("utf-8"))
    [method] = old["methods"]
    for key in ("shots", "ranking", "priors", "scaling", "coverage"):
        del method[key]
    place.write_text(json.dumps(old | {"schema": 1}), "utf-8")
    succeed(*words, "--resume")
    [row] = rows(out).values()
    assert row["measures"] is None
    assert row["scores"]["all"]["mean"] is not None
    assert "the rows were measured by an earlier version" in (out / "comparison.html").read_text(
        "utf-8"
    )
