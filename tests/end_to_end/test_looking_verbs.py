"""The verbs that only look: `inspect`, `methods`, `report`, and `--help` of all."""

import io
import json
import re
from importlib import metadata

import numpy as np
import pytest

from tailora.adapters import tuner_names
from tailora.backbones.stem import NEW_BANDS
from tailora.cli.describe import describe, listing
from tailora.cli.main import main
from tailora.config.presets import PRESETS
from tailora.data import BUILT_IN, PUBLISHED
from tailora.data.bands.names import SENSORS
from tailora.experiments.plan import TABLES
from tailora.experiments.tuning_space import MEASURES
from tailora.heads.probes import probe_names
from tailora.registry import compared_methods
from tests.end_to_end.chips import (
    COUNTS,
    chip,
    copy_run,
    snapshot,
    succeed,
    tailora,
    write_chip,
    write_chips,
    write_table,
)


def test_inspect_shows_classes_splits_groups_and_the_image(data):
    answer = succeed("inspect", data)
    for name in COUNTS:
        assert name in answer.out
    assert "imbalance 14.7 : 1; first image 3 bands, 14 x 14, uint8" in answer.out
    assert "too few test samples to judge: " in answer.out
    assert "ship, small; " in answer.out
    assert succeed("inspect", data, "--quiet").out == ""


def test_inspect_as_json_counts_every_image(data):
    found = json.loads(succeed("inspect", data, "--json").out)
    counted = {row["name"]: row["train"] + row["val"] + row["test"] for row in found["classes"]}
    assert counted == COUNTS
    assert {row["group"] for row in found["classes"]} == {"head", "middle", "tail"}
    assert found["duplicates"] == []


def test_inspect_names_the_classes_that_validation_lacks(tmp_path):
    chips = write_chips(tmp_path / "chips", {"3": 8, "7": 8, "sea": 8})
    splits = ["train"] * 5 + ["test"] * 2 + ["val"]

    def notes(data):
        found = json.loads(succeed("inspect", data, "--json").out)
        return [note for note in found["notes"] if note.startswith("no validation")]

    def table(lacking):
        rows = [
            (f"chips/{name}/{i:03d}.png", name, split)
            for name in ("3", "7", "sea")
            for i, split in enumerate(splits)
            if name not in lacking or split != "val"
        ]
        return write_table(tmp_path / "list.csv", ("path", "label", "split"), rows)

    assert notes(chips) == notes(table([])) == []
    assert notes(table(["7", "sea"])) == [
        "no validation sample of '7' (index 1), 'sea' (index 2): not part of what is selected, and "
        "in every prediction set"
    ]
    assert notes(write_chips(tmp_path / "pairs", {"a": 2, "b": 2})) == [
        "no validation split: nothing is selected or calibrated on validation samples"
    ]


def test_inspect_shows_a_made_long_tail(tmp_path):
    chips = write_chips(tmp_path / "chips", {"forest": 40, "water": 40})
    answer = succeed("inspect", chips, "--imbalance", "step:ratio=4", "--json")
    found = json.loads(answer.out)
    trained = [row["train"] for row in found["classes"]]
    assert max(trained) == 4 * min(trained)
    assert "synthetic imbalance: step profile of ratio 4" in found["notes"][-1]


def test_inspect_sees_the_splits_that_fit_uses(data, finished):
    found = json.loads(succeed("inspect", data, "--json").out)
    used = json.loads((finished / "classes.json").read_text("utf-8"))["classes"]
    for split in ("train", "val", "test"):
        counted = {row["name"]: row[split] for row in found["classes"]}
        assert counted == {entry["name"]: entry[f"n_{split}"] for entry in used}


def test_inspect_warns_of_copies_across_splits_and_of_labels_that_contradict(tmp_path):
    chips = write_chips(tmp_path / "chips", {"forest": 6, "water": 6})
    same = chip(np.random.default_rng(9), 0)
    for name in ("forest", "water"):
        for i in range(4):
            write_chip(chips / name / f"copy{i}.png", same)
    answer = succeed("inspect", chips)
    assert "exact duplicates: 1; across splits 1, with conflicting labels 1" in answer.out
    assert "forest/copy0.png; forest/copy1.png" in answer.out


def test_inspect_writes_a_page_with_thumbnails(data, tmp_path):
    succeed("inspect", data, "--out", tmp_path / "new" / "page.html", "--quiet")
    page = (tmp_path / "new" / "page.html").read_text("utf-8")
    assert page.count("data:image/png;base64") >= len(COUNTS)
    assert "ship, small" in page
    assert "<script" not in page


def test_methods_as_json_is_the_catalogue():
    found = json.loads(succeed("methods", "--json").out)
    experts = {"lora+reslt", "lora+sade", "lora+ride", "lora+tlc"}
    fitted = {"deblora", "lora", "zero-shot", "fine-tune"} | experts
    compared = {"clora", "clora+deblora", "clora-oracle", "prompt-oracle"}
    assert set(found["methods"]) == fitted | compared
    assert {"lora", "dora", "ia3", "loha"} <= set(found["tuners"])
    assert {"focal", "logit-adjusted", "cross-entropy"} <= set(found["losses"])
    assert found["recipe"]["deblora.balance"] == 10
    assert found["recipe"]["train.epochs"] == 3


@pytest.mark.parametrize(
    "family", ["methods", "losses", "probes", "objectives", "metrics", "tuners", "recipe"]
)
def test_every_name_of_the_catalogue_is_described(family):
    found = json.loads(succeed("methods", family, "--json").out)
    assert list(found) == [family]
    for name in list(found[family])[:6] if family != "recipe" else []:
        assert name in json.loads(succeed("methods", name, "--json").out)
        assert succeed("methods", name).out.startswith(name)


def test_a_method_s_page_has_the_keys_that_act_on_it():
    assert "deblora.balance" in json.loads(succeed("methods", "deblora", "--json").out)["deblora"]
    tuned = json.loads(succeed("methods", "fine-tune", "--json").out)["fine-tune"]
    assert "train.lr" in tuned
    assert not [key for key in tuned if key.startswith(("deblora.", "adapter."))]


def test_methods_show_options_reference_and_the_test_that_guards_them():
    found = json.loads(succeed("methods", "focal", "--json").out)["focal"]
    assert found["option gamma"] == "2.0"
    assert "ICCV 2017" in found["reference"]
    assert found["test"] == "tests/losses/test_focal.py"


def test_a_name_of_several_families_shows_all():
    found = json.loads(succeed("methods", "class-balanced", "--json").out)
    assert [entry["family"] for entry in found.values()] == ["losses", "samplers", "probes"]
    assert list(found) == [
        "class-balanced", "class-balanced (samplers)", "class-balanced (probes)",
    ]  # fmt: skip


def test_methods_are_found_by_the_names_of_the_papers_and_keys_say_what_they_do():
    assert "deblora.balance" in succeed("methods", "debLoRA").out
    found = json.loads(succeed("methods", "deblora.balance", "--json").out)["deblora.balance"]
    assert found["default"] == "10.0"
    assert "size constraint" in found["what"]
    keys = json.loads(succeed("methods", "recipe", "--json").out)["recipe"]
    for key in ("seed", "method", "train.lr", "probe.l2", "adapter.rank", "evaluate.trust_f1"):
        assert key in keys
        assert json.loads(succeed("methods", key, "--json").out)[key]["what"]


def test_a_terminal_without_unicode_is_no_reason_to_fail(data, monkeypatch):
    held = io.BytesIO()
    bare = io.TextIOWrapper(held, encoding="ascii")
    monkeypatch.setattr("sys.stdout", bare)
    with pytest.raises(SystemExit) as leave:
        main(["inspect", str(data), "--json"])
    assert leave.value.code == 0
    bare.flush()
    names = [entry["name"] for entry in json.loads(held.getvalue().decode("utf-8"))["classes"]]
    assert set(names) == set(COUNTS)


def test_the_report_can_be_written_again_or_elsewhere(rendered, finished, tmp_path):
    run = copy_run(finished, tmp_path / "run")
    before = snapshot(run)
    (run / "report.html").unlink()
    answer = succeed("report", run)
    assert answer.out == f"report: {run / 'report.html'}\n"
    assert snapshot(run) == before
    assert succeed("report", run, "--out", "page.html", "--quiet").out == ""
    assert (tmp_path / "page.html").read_bytes() == (run / "report.html").read_bytes()


def test_two_runs_are_set_side_by_side(finished, tmp_path):
    run = copy_run(finished, tmp_path / "second")
    answer = succeed("report", finished, run, "--json", "--out", tmp_path / "both.html")
    assert len(json.loads(answer.out)) == 2
    page = (tmp_path / "both.html").read_text("utf-8")
    assert "second" in page
    assert "[red]" in page


@pytest.mark.parametrize(
    "verb",
    ["inspect", "fit", "evaluate", "predict", "map", "assess", "search", "report", "methods"],
)
def test_every_verb_explains_itself_and_its_defaults(verb):
    text = succeed(verb, "--help").out
    assert f"tailora {verb}" in text
    for option in ("--quiet", "--json", "--debug", "--help"):
        assert option in text
    shown = {
        "fit": ("deblora", "dinov2-small", "(32)", "runs/DATA", "--set"),
        "predict": ("standard output", "tailora map"),
        "map": ("--polygons", "--dense", "half a chip"),
        "search": ("--like", "--keep-examples", "50]", "half a window"),
        "assess": ("--per-class", "--class-field", "(30)", "producer's accuracy"),
    }
    assert all(word in text for word in shown.get(verb, ()))


def test_help_lists_what_there_is():
    words = succeed("compare", "--help").out.split()
    told = " ".join(word.strip("│") for word in words if word.strip("│"))
    for names in (compared_methods(), TABLES, PRESETS, tuner_names()):
        assert ", ".join(names) in told


def test_the_version_is_that_of_the_package():
    assert succeed("--version").out.split() == ["tailora", metadata.version("tailora")]


def test_no_words_at_all_show_the_help():
    answer = tailora()
    assert "tailora inspect DATA" in answer.out + answer.err
    assert "error:" not in answer.err


def test_methods_explains_every_name_that_it_lists_or_that_an_option_takes():
    families = listing()
    listed = {name for entries in families.values() for name in entries}
    for name in [*families, *listed, *compared_methods(), *probe_names()]:
        assert describe(name), name


@pytest.mark.parametrize(
    ("verb", "choices"),
    [
        ("fit", (*BUILT_IN, *PUBLISHED)), ("inspect", NEW_BANDS), ("compare", MEASURES),
        ("map", SENSORS),
    ],
)  # fmt: skip
def test_help_lists_choices_from_where_they_are_defined(verb, choices):
    page = " ".join(succeed(verb, "--help").out.replace("│", " ").split())
    assert not [choice for choice in choices if choice not in page]
    assert not re.search(r"\{[a-z]", page)
