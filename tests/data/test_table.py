import csv

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tailora.class_names import canonical_name
from tailora.data import open_table
from tailora.errors import DataError

PATHS = [f"{i}.png" for i in range(6)]
LABELS = ["007", "7", "007", "7", "007", "7"]


@pytest.fixture
def write_table(tmp_path, write_picture):
    """Write columns as a table beside six pictures."""
    for i, path in enumerate(PATHS):
        write_picture(tmp_path / path, value=i)

    def write(kind="csv", **columns):
        path = tmp_path / f"list.{kind}"
        if kind == "parquet":
            parquet.write_table(pa.table(columns), path)
        else:
            with path.open("w", encoding="utf-8-sig", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(columns)
                writer.writerows(zip(*columns.values(), strict=True))
        return path

    return write


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_text_labels_keep_their_zeros(write_table, kind):
    dataset = open_table(write_table(kind, path=PATHS, label=LABELS))
    assert dataset.classes == ("007", "7")
    assert dataset.labels.tolist() == [0, 1] * 3
    assert dataset.name == "list"
    assert dataset.source.read(4).max() == 4
    assert [dataset.counts(s).values for s in ("train", "val", "test")] == [(1, 1)] * 3


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_splits_and_groups_are_taken(write_table, kind):
    splits = ["Train", "training", "VALID", "validation", "test", "testing"]
    groups = ["g", "g", "h", "h", "i", "01"]
    dataset = open_table(write_table(kind, path=PATHS, label=LABELS, split=splits, group=groups))
    assert dataset.splits.tolist() == ["train", "train", "val", "val", "test", "test"]
    assert dataset.groups is not None
    assert dataset.groups.tolist() == groups
    assert dataset.notes == ()


def test_groups_are_kept_whole_by_the_splits_that_are_made(write_table):
    dataset = open_table(write_table(path=PATHS, label=LABELS, group=list("uuvvww")))
    assert [len(set(dataset.splits[i : i + 2].tolist())) for i in (0, 2, 4)] == [1, 1, 1]


def test_absolute_paths_and_other_columns_do_no_harm(write_table, tmp_path):
    paths = [str(tmp_path / path) for path in PATHS]
    dataset = open_table(write_table(note=LABELS, label=LABELS, path=paths))
    assert dataset.source.read(5).max() == 5


def test_integer_and_categorical_parquet_columns_become_text(write_table):
    table = write_table("parquet", path=PATHS, label=[1, 10] * 3, group=pa.array([3, 4, 5] * 2))
    dataset = open_table(table)
    assert dataset.classes == ("1", "10")
    assert dataset.groups is not None
    assert dataset.groups.tolist() == ["3", "4", "5"] * 2
    labels = pa.array(LABELS).dictionary_encode()
    assert open_table(write_table("parquet", path=PATHS, label=labels)).classes == ("007", "7")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1.0, 2.0] * 3, r"'label' of .* has double values \(row 1: 1.0\).*store it as text"),
        ([1.0, 2.0, None, 1.0, 2.0, 1.0], r"double values \(row 3: None\)"),
        ([1.0, 2.0, 1.0, float("nan"), 2.0, 1.0], r"double values \(row 4: nan\)"),
        ([True, False] * 3, "has bool values"),
        ([1, 2, None, 1, None, 1], r"row 3 of .* has no label \(1 more like it\)"),
        (["a", "b", "a", "", "b", "b"], "row 4 of .* has no label; fill it in"),
        (pa.nulls(6), r"row 1 of .* has no label \(5 more"),
    ],
)
def test_parquet_labels_that_are_no_names_are_refused(write_table, labels, message):
    with pytest.raises(DataError, match=message):
        open_table(write_table("parquet", path=PATHS, label=labels))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": PATHS, "label": ["a", " ", "b", "", "a", "b"]}, r"row 3 .* no label \(1 more"),
        ({"path": PATHS, "label": ["a", "b", "NaN", "a", "b", "b"]}, "row 4 .* has no label"),
        ({"path": [*PATHS[:5], ""], "label": LABELS}, "row 7 .* has no path"),
        ({"path": PATHS, "label": LABELS, "group": [*"uvwxy", ""]}, "row 7 .* has no group"),
        (
            {"path": [*PATHS[:5], "no.png"], "label": LABELS},
            "row 7 .*'no.png', which is not a file",
        ),
        ({"path": ["x", "y", *PATHS[2:]], "label": LABELS}, r"row 2 .*'x'.*\(1 more like it\)"),
        (
            {"path": PATHS, "label": LABELS, "split": ["train"] * 5 + ["tset"]},
            "row 7 of .*unknown split 'tset'; did you mean 'test'",
        ),
        (
            {"path": PATHS, "labels": LABELS},
            r"no column 'label', only \['path', 'labels'\]; rename 'labels'\?",
        ),
        ({"file": PATHS, "label": LABELS}, r"no column 'path', only \['file', 'label'\]$"),
        ({"path": [], "label": []}, "has no rows"),
        ({"path": PATHS, "label": ["a"] * 6}, "at least two different classes"),
    ],
)
def test_what_is_wrong_in_a_csv_is_said_with_its_row(write_table, columns, message):
    with pytest.raises(DataError, match=message):
        open_table(write_table(**columns))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no column 'path', only"),
        (b"path,label\n0.png,a,b\n", "row 2 .* more fields than the header.*double quotes"),
        (b"path,label\n\n0.png\n", "row 3 .* fewer fields"),
        (b'path,label\n0.png,"a\n', "as UTF-8 CSV"),
        ("path,label\n0.png,é\n".encode("latin-1"), "as UTF-8 CSV"),
        (b"path,label,label\n0.png,a,b\n", "more than one column 'label'"),
    ],
)
def test_malformed_csv_is_refused(write_table, tmp_path, text, message):
    (tmp_path / "bad.csv").write_bytes(text)
    with pytest.raises(DataError, match=message):
        open_table(tmp_path / "bad.csv")


def test_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "bad.parquet").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"bad\.parquet' as Parquet"):
        open_table(tmp_path / "bad.parquet")


odd_names = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cf"]), min_size=1, max_size=9
)


@settings(deadline=None, max_examples=20)
@given(
    st.sets(
        odd_names.map(canonical_name).filter(
            lambda s: s.lower() not in ("", "nan") and s[0] != "'"
        ),
        min_size=2,
        max_size=3,
    )
)
def test_any_text_is_a_class_name(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("odd")
    labels = [name for name in names for _ in range(3)]
    files = [f"{i}.png" for i in range(len(labels))]
    for file in files:
        (root / file).write_bytes(b"")
    with (root / "list.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("path", "label"), *zip(files, labels, strict=True)])
    parquet.write_table(pa.table({"path": files, "label": labels}), root / "list.parquet")
    for kind in ("csv", "parquet"):
        dataset = open_table(root / f"list.{kind}")
        assert dataset.classes == tuple(sorted(names))
        assert [dataset.classes[c] for c in dataset.labels] == labels


def test_rows_that_list_an_image_again_are_left_out_and_several_labels_are_said(tmp_path):
    """A copy would land on the other side of a split that is made here."""
    lines = [f"{name}/{i}.png,{name}" for name in "ab" for i in range(6)]
    for line in lines:
        file = tmp_path / line.split(",")[0]
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *lines, *lines[2:9], "a/0.png,b "]))
    data = open_table(tmp_path / "t.csv")
    assert data.ids() == [*(line.split(",")[0] for line in lines), "a/0.png"]
    said = " ".join(data.notes)
    assert "listed before and left out: 7 rows" in said
    assert "listed with several labels: 1 image, e.g. 'a/0.png' as a, b" in said
