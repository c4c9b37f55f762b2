import errno
import json

import pytest

from tailora.config.recipe import Recipe
from tailora.errors import RunError, StorageError
from tailora.runs.folder import SCHEMA, RunFolder
from tailora.storage import write_json

RECIPE = Recipe().override({"deblora.balance": 2.0, "adapter.rank": 8})


@pytest.fixture(autouse=True)
def _version(monkeypatch):
    monkeypatch.setattr("tailora.runs.folder.metadata.version", lambda _name: "1.2.3")


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "a")


def open_(folder, recipe=RECIPE, fingerprint="data-1", *, resume=False, force=False):
    folder.open_for_fit(recipe, fingerprint, resume=resume, force=force)


def edit(folder, **changes):
    run = json.loads(folder.run_file.read_text())
    write_json(folder.run_file, run | changes)


def snapshot(path):
    return {p.relative_to(path): p.is_file() and p.read_bytes() for p in path.rglob("*")}


def test_a_new_run_begins_with_its_recipe_and_is_not_complete(folder):
    open_(folder)
    assert folder.read_recipe() == RECIPE
    assert json.loads(folder.run_file.read_text()) == {
        "schema": SCHEMA,
        "complete": False,
        "tailora": "1.2.3",
        "dataset": {"fingerprint": "data-1"},
    }
    assert not folder.is_complete()


def test_an_empty_folder_may_be_used(folder):
    folder.path.mkdir(parents=True)
    open_(folder)
    assert folder.run_file.is_file()


def test_resuming_touches_nothing(folder):
    open_(folder)
    (folder.stage("lora")).mkdir(parents=True)
    (folder.stage("lora") / "head.safetensors").write_text("half of the work")
    before = snapshot(folder.path)
    open_(folder, resume=True)
    assert snapshot(folder.path) == before


def test_resuming_where_nothing_is_begins(folder):
    open_(folder, resume=True)
    assert folder.read_recipe() == RECIPE


def test_a_run_killed_before_its_recipe_was_written_can_be_resumed(folder, monkeypatch):
    def killed(path, text):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tailora.runs.folder.write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            open_(folder)
    open_(folder, resume=True)
    assert folder.read_recipe() == RECIPE


def test_force_replaces_a_run_and_all_of_its_files(folder):
    open_(folder)
    for name in ("metrics.json", "predictions.csv", "adapter/adapter_config.json", "work/a.pt"):
        path = folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")
    other = RECIPE.override({"seed": 5})
    open_(folder, other, "data-2", force=True)
    assert sorted(p.name for p in folder.path.iterdir()) == ["recipe.toml", "run.json"]
    assert folder.read_recipe().seed == 5


# --- refusals, row by row; a refusal changes nothing ---


def nothing(folder):
    pass


def no_run(folder):
    folder.path.mkdir(parents=True)
    (folder.path / "holiday.jpg").write_text("mine")


def foreign_json(folder):
    folder.path.mkdir(parents=True)
    (folder.path / "run.json").write_text('{"distance_km": 12}')


def a_file(folder):
    folder.path.parent.mkdir(parents=True)
    folder.path.write_text("mine")


def a_run(folder):
    open_(folder)


def other_version(folder):
    open_(folder)
    edit(folder, tailora="1.2.2")


def other_format(folder):
    open_(folder)
    edit(folder, schema=SCHEMA + 1)


def damaged(folder):
    open_(folder)
    folder.run_file.write_text('{"schema": 1, "compl')


@pytest.mark.parametrize(
    ("prepare", "options", "message"),
    [
        (no_run, {}, "exists and is not a tailora run: choose another --out"),
        (no_run, {"force": True}, "exists and is not a tailora run: choose another --out"),
        (no_run, {"resume": True}, "exists and is not a tailora run: choose another --out"),
        (foreign_json, {"force": True}, "exists and is not a tailora run: choose another --out"),
        (a_file, {"force": True}, "exists and is not a tailora run: choose another --out"),
        (a_run, {}, "exists: add --resume to continue it or --force to replace it"),
        (
            a_run,
            {"resume": True, "recipe": RECIPE.override({"deblora.balance": 3})},
            r"different recipe: deblora.balance was 2.0, now 3.0. Resume with the same options",
        ),
        (
            a_run,
            {"resume": True, "recipe": RECIPE.override({"adapter.targets": ["q"]})},
            r"different recipe: adapter.targets was \[\], now \['q'\]",
        ),
        (
            a_run,
            {"resume": True, "fingerprint": "data-2"},
            "belongs to a different dataset: give the same data, or another --out",
        ),
        (other_version, {"resume": True}, r"started by tailora 1.2.2 .*this is 1.2.3.*--force"),
        (other_format, {"resume": True}, rf"format {SCHEMA + 1}.*this is .*format {SCHEMA}"),
        (damaged, {"resume": True}, r"run.json' is damaged .*--force"),
    ],
)
def test_what_may_not_be_overwritten_is_refused_and_stays(prepare, options, message, folder):
    prepare(folder)
    before = snapshot(folder.path.parent)
    for attempt in (open_, check):
        with pytest.raises(RunError, match=message) as caught:
            attempt(folder, **options)
        assert str(folder.path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert snapshot(folder.path.parent) == before


def check(folder, recipe=RECIPE, fingerprint="data-1", *, resume=False, force=False):
    return folder.check_for_fit(recipe, fingerprint, resume=resume, force=force)


def test_a_damaged_run_can_be_replaced(folder):
    damaged(folder)
    open_(folder, force=True)
    assert folder.read_recipe() == RECIPE


def test_a_later_version_may_replace_a_run(folder):
    other_version(folder)
    open_(folder, force=True)
    assert json.loads(folder.run_file.read_text())["tailora"] == "1.2.3"


def test_a_check_alone_changes_nothing(folder):
    check(folder)
    assert not folder.path.exists()
    open_(folder)
    before = snapshot(folder.path)
    check(folder, force=True)
    check(folder, resume=True)
    assert snapshot(folder.path) == before


def test_a_full_disk_is_named_at_the_start(folder, monkeypatch):
    def full(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(StorageError, match=r"no space left while writing '.*run.json'"):
        open_(folder)
    assert not folder.run_file.exists()


# --- reading ---


def complete(folder):
    open_(folder)
    edit(folder, complete=True)


def test_a_complete_run_is_read(folder):
    complete(folder)
    assert folder.is_complete()
    assert folder.read_run()["dataset"] == {"fingerprint": "data-1"}


@pytest.mark.parametrize(
    ("prepare", "changes", "message"),
    [
        (nothing, {}, "holds no run: run.json is missing"),
        (no_run, {}, "holds no run: run.json is missing"),
        (a_run, {}, "is incomplete: continue it with `tailora fit ... --resume`"),
        (
            complete,
            {"schema": 99, "tailora": "9.0"},
            f"written by tailora 9.0, format 99; this version reads format {SCHEMA}: fit it again",
        ),
        (foreign_json, {}, "was not written by tailora: choose another folder"),
        (damaged, {}, r"is damaged .*fit the run again with --force"),
    ],
)
def test_what_cannot_be_read_is_refused(prepare, changes, message, folder):
    prepare(folder)
    if changes:
        edit(folder, **changes)
    with pytest.raises(RunError, match=message):
        folder.read_run()


def test_another_version_of_the_same_format_can_be_read(folder):
    complete(folder)
    edit(folder, tailora="1.2.2")
    assert folder.read_run()["tailora"] == "1.2.2"


def test_leftovers_of_killed_runs_are_swept_and_nothing_else(folder):
    open_(folder)
    stage = folder.stage("lora")
    (stage / ".adapter.writing").mkdir(parents=True)
    (stage / ".adapter.writing" / "adapter_model.safetensors").write_text("half")
    (stage / ".head.writing-12-34.safetensors").write_text("half")
    (stage / "head.safetensors").write_text("whole")
    folder.sweep()
    assert [p.name for p in stage.iterdir()] == ["head.safetensors"]
    assert folder.read_recipe() == RECIPE
