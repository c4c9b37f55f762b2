"""Every recipe of the paper's experiments, on files in the exact format, with a tiny encoder."""

import json
from pathlib import Path

import pytest

from tailora.config.choices import check_plain
from tailora.config.presets import preset
from tailora.config.recipe import Recipe, read_recipe
from tailora.counts import ClassCounts, make_groups
from tailora.data.readers.dota_labels import DOTA_CLASSES
from tailora.data.readers.fusrs import FUSRS_COUNTS
from tailora.data.readers.srsdd import SRSDD_CLASSES
from tailora.methods.checks import check_task
from tailora.tasks.task import find_task
from tests.end_to_end.chips import DEBLORA, metrics, read_rows, refused, succeed, tailora
from tests.published import DOTA_COUNTS, write_dota, write_fusar, write_fusrs, write_srsdd

FOUND = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
RECIPES = [path for path in FOUND if "detect" not in path.stem]  # of the paper
QUICK = (
    "--preset", "paper", "--image-size", "14", "--epochs", "1", "--clusters", "4", "--quiet",
    "--set", "probe.l2=[0.1]", "--set", "evaluate.replicates=20",
)  # fmt: skip
ALL_DOTA = {  # all fifteen classes, each in several images
    split: {name: max(n - k, 6) for k, name in enumerate(DOTA_CLASSES["1.0"])}
    for split, n in (("train", 14), ("val", 9))
}
CLASSES = {
    "dota": DOTA_CLASSES["1.0"],
    "srsdd": SRSDD_CLASSES,
    "fusrs": tuple(FUSRS_COUNTS),
}


def write(kind, root):
    """Files of a published set, and the words that open them."""
    if kind == "dota":
        write_dota(root, ALL_DOTA)
        return f"dota:{root}:version=1.0"
    {"srsdd": write_srsdd, "fusar": write_fusar, "fusrs": write_fusrs}[kind](root)
    return f"{kind}:{root}"


def test_there_is_a_recipe_for_each_experiment():
    assert {path.stem for path in RECIPES} >= {
        "dota-sd15", "dota-satmae", "fusrs-sd15", "fusrs-satmae",
    }  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_holds_known_keys_and_only_what_differs_from_the_preset(path):
    start = Recipe().override(preset("paper"))
    chosen = read_recipe(path)
    assert start.override(chosen)
    idle = {key for key, value in chosen.items() if start.flat().get(key) == value}
    assert not idle - {"adapter.rank", "train.lr", "train.batch_size"}  # the paper says so too


def test_ships_of_srsdd_are_read_as_oriented_boxes(tmp_path):
    write_srsdd(tmp_path)
    answer = succeed("inspect", f"dota:{tmp_path}", "--task", "detect", "--json")
    assert {row["name"] for row in json.loads(answer.out)["classes"]} == set(SRSDD_CLASSES)


@pytest.mark.parametrize("path", sorted(set(FOUND) - set(RECIPES)), ids=lambda path: path.stem)
def test_a_recipe_for_boxes_goes_with_that_task(path):
    recipe = Recipe().override(read_recipe(path))
    check_plain(recipe)
    check_task(recipe, find_task("detect"))


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_groups_of_a_recipe_hold_every_class_once(path):
    groups = read_recipe(path).get("evaluate.groups")
    names = CLASSES.get(path.stem.partition("-")[0])
    if groups is None:
        return
    counts = ClassCounts(tuple(names), tuple(range(1, len(names) + 1)))
    assert sum(len(members) for _, members in make_groups(counts, groups).items()) == len(names)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_runs_to_the_end_on_files_in_the_published_format(
    tmp_path, path, encoder, plain_report
):
    source = write(path.stem.partition("-")[0], tmp_path / "data")
    run = tmp_path / "run"
    succeed("fit", source, "--recipe", path, "--backbone", encoder, "--out", run, *QUICK, *DEBLORA)
    rows = metrics(run)["methods"]
    assert [row["method"] for row in rows][-3:] == ["zero-shot", "lora", "deblora"]
    groups = read_recipe(path).get("evaluate.groups")
    if groups:
        written = (run / "recipe.toml").read_text("utf-8")
        assert all(f'"{name}"' in written for names in groups.values() for name in names)
    record = json.loads((run / "run.json").read_text("utf-8"))
    assert record["complete"]
    assert record["dataset"]["notes"]


def test_inspect_shows_dota_by_its_path_alone(tmp_path):
    write_dota(tmp_path / "DOTA")
    answer = succeed("inspect", tmp_path / "DOTA", "--json")
    found = json.loads(answer.out)
    assert found["image"]["bands"] == 3
    counts = {row["name"]: row["test"] for row in found["classes"]}
    assert counts == DOTA_COUNTS["val"]
    assert any("difficult" in note for note in found["notes"])
    page = tmp_path / "page.html"
    succeed("inspect", f"dota:{tmp_path / 'DOTA'}:turn=along", "--out", page, "--quiet")
    assert page.stat().st_size > 1000


def test_unreadable_image_stops_the_run_or_is_left_out_with_its_objects(
    tmp_path, encoder, plain_report
):
    planted = write_dota(tmp_path / "DOTA", images=8)
    lost = next(item.image for item in planted if item.split == "train")
    (tmp_path / "DOTA" / lost).write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    words = ("fit", tmp_path / "DOTA", "--method", "zero-shot", "--backbone", encoder, *QUICK)
    refused(tailora(*words, "--out", tmp_path / "run"), lost.rpartition("/")[2], "--skip-broken")
    run = tmp_path / "whole"
    succeed(*words, "--out", run, "--skip-broken")
    broken = json.loads((run / "run.json").read_text("utf-8"))["dataset"]["broken"]
    assert broken == [f"{item.image}#{item.line}" for item in planted if item.image == lost]


def test_predictions_name_image_and_line(tmp_path, encoder, plain_report):
    planted = write_dota(tmp_path / "DOTA")
    run = tmp_path / "run"
    words = ("--method", "zero-shot", "--backbone", encoder, *QUICK)
    succeed("fit", tmp_path / "DOTA", "--out", run, *words)
    rows = read_rows((run / "predictions.csv").read_text("utf-8"))
    tested = {f"{item.image}#{item.line}": item.name for item in planted if item.split == "val"}
    assert len(rows) == len(tested)
    column = next(key for key, value in rows[0].items() if value in tested)
    assert {row[column] for row in rows} == set(tested)


def test_line_that_is_malformed_ends_in_one_line_and_leaves_no_run(tmp_path, refuse):
    write_dota(tmp_path / "DOTA")
    path = tmp_path / "DOTA" / "train" / "labelTxt" / "P0000.txt"
    path.write_text(f"{path.read_text()}1 2 3 ship\n")
    refuse("fit", tmp_path / "DOTA", "--out", tmp_path / "run", says=("line", "P0000.txt"))
