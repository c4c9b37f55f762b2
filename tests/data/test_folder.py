from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tailora.class_names import canonical_name
from tailora.data import open_folder
from tailora.data.splits import split_name
from tailora.errors import DataError


def test_class_folders_give_classes_and_splits_are_made(tmp_path, write_picture):
    for name, count in (("river", 10), ("007", 5), ("Älv, 'ö'", 3)):
        for i in range(count):
            write_picture(tmp_path / name / f"{i}.png", value=i)
    dataset = open_folder(tmp_path, seed=1)
    assert dataset.classes == ("007", "river", "Älv, 'ö'")
    assert dataset.name == tmp_path.name
    assert Counter(dataset.labels.tolist()) == {0: 5, 1: 10, 2: 3}
    assert dataset.counts("test").values == (1, 2, 1)
    assert dataset.ids() == sorted(dataset.ids())
    assert dataset.source.read(3).max() == 3
    assert dataset.notes == (
        "val and test split from train, stratified by class, in samples, seed 1",
    )


def test_names_of_files_do_not_depend_on_where_the_folder_is(tmp_path, write_picture):
    for root in ("one", "two"):
        for name in "ab":
            for i in range(3):
                write_picture(tmp_path / root / name / f"{i}.png")
    one, two = (open_folder(tmp_path / root) for root in ("one", "two"))
    assert one.ids()[0] == "a/0.png"
    assert one.fingerprint == two.fingerprint


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_split_folders_give_the_splits(tmp_path, write_picture, val):
    for split, count in (("training", 3), (val, 1), ("testing", 2)):
        for name in "ab":
            for i in range(count):
                write_picture(tmp_path / split / name / f"{i}.png")
    dataset = open_folder(tmp_path)
    assert [dataset.counts(s).values for s in ("train", "val", "test")] == [(3, 3), (1, 1), (2, 2)]
    assert dataset.notes == ()


def test_val_is_carved_out_of_train_when_only_test_is_given(tmp_path, write_picture):
    for split, count in (("train", 16), ("test", 2)):
        for name in "ab":
            for i in range(count):
                write_picture(tmp_path / split / name / f"{i}.png")
    dataset = open_folder(tmp_path)
    assert [dataset.counts(s).values for s in ("train", "val", "test")] == [
        (14, 14),
        (2, 2),
        (2, 2),
    ]


def test_nested_hidden_and_other_files(tmp_path, write_picture):
    for name in "ab":
        write_picture(tmp_path / name / "deep" / "er" / "1.PNG")
        write_picture(tmp_path / name / "0.jpeg")
        write_picture(tmp_path / name / "2.TIFF")
        write_picture(tmp_path / name / ".hidden.png")
        write_picture(tmp_path / name / ".thumbs" / "0.png")
    write_picture(tmp_path / ".cache" / "0.png")
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "README").write_text("x")
    dataset = open_folder(tmp_path)
    assert [i for i in dataset.ids() if i[0] == "a"] == ["a/0.jpeg", "a/2.TIFF", "a/deep/er/1.PNG"]
    assert "ignored files that are not images: 1 .txt" in dataset.notes


def build(root: Path, write_picture, layout):
    for name in layout:
        path = root / name
        if name.endswith("/"):
            path.mkdir(parents=True)
        else:
            write_picture(path)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ([], "no class folder in .*expected FOLDER/CLASS/image"),
        (["a/"], "1 class folder.* without any image .*such as '.*a'; add images or remove"),
        (["a/0.png", "a/1.png", "b/"], "1 class folder.*b'"),
        (["a/0.png", "a/1.png", "b/0.png", "c.png"], "1 image.*'c.png'.*expected FOLDER/CLASS"),
        (["0.png", "1.png"], "2 images directly in .*unknown class, such as '0.png'"),
        (["train/a/0.png", "train/0.png"], "1 image directly in '.*train'.*'0.png'"),
        (["train/a/0.png", "0.png"], "1 image directly in .*'0.png'"),
        (["train/a/0.png", "labels/0.png"], r"split folders \['train'\] next to .*\['labels'\]"),
        (["train/a/0.png", "val/a/0.png", "valid/a/0.png"], "two folders for one split"),
        (["test/a/0.png", "test/b/0.png", "val/a/1.png", "val/b/1.png"], "no 'train' split"),
        (["a/0.png", "a/1.png", "b/0.png"], r"\['b'\] have a single sample"),
        (["a/0.png", "a/1.png"], r"at least two different classes are needed, got \['a'\]"),
        (["train/a/0.png", "train/b/0.png", "test/a/0.png", "test/c/0.png"], "single sample"),
    ],
)
def test_other_layouts_are_explained(tmp_path, write_picture, layout, message):
    build(tmp_path, write_picture, layout)
    with pytest.raises(DataError, match=message):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("images", "masks"), "look like images and their masks"),
        (("images", "masks_anna", "masks_ben"), "look like images and their masks"),
        (("before", "after", "change"), "look like pairs of images of two dates"),
        (("before", "after", "masks_before", "masks_after"), "look like pairs of images"),
        (("before", "after"), None),
    ],
)
def test_folders_of_another_task_are_not_taken_for_classes(
    tmp_path, write_picture, folders, message
):
    for folder in folders:
        for i in range(4):
            write_picture(tmp_path / folder / f"{i}.png", value=i)
    if message is None:
        assert open_folder(tmp_path).classes == tuple(sorted(folders))
        return
    with pytest.raises(DataError, match=message):
        open_folder(tmp_path)


def test_class_without_images_in_val_alone_is_no_error(tmp_path, write_picture):
    build(
        tmp_path,
        write_picture,
        [f"{s}/{c}/0.png" for s in ("train", "test") for c in "ab"] + ["val/a/0.png", "val/b/"],
    )
    assert open_folder(tmp_path).counts("val").values == (1, 0)


@settings(deadline=None, max_examples=30)
@given(
    st.sets(
        st.text(
            st.characters(exclude_categories=["C"], exclude_characters="/\\"),
            min_size=1,
            max_size=8,
        )
        .map(canonical_name)
        .filter(lambda name: name and name[0] != "." and split_name(name) is None),
        min_size=2,
        max_size=4,
    )
)
@example(names={"0", "0.TIF"})
def test_any_folder_name_is_a_class_name(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("odd")
    for name in names:
        for i in range(2):
            (root / name).mkdir(exist_ok=True)
            (root / name / f"{i}.png").write_bytes(b"")
    assert open_folder(root).classes == tuple(sorted(names))
