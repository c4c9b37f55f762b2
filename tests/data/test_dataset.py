import numpy as np
import pytest

from tailora.data import FileImages, assemble
from tailora.errors import ConfigError, DataError

PIXEL = np.zeros((1, 1, 1), dtype=np.uint8)


def files(paths):
    return FileImages(paths, [path.name for path in paths])


def test_rows_counts_and_classes_go_together(memory_dataset):
    dataset = memory_dataset(
        [PIXEL] * 6, [0, 1, 0, 1, 0, 0], ["train", "train", "val", "test", "test", "train"]
    )
    assert len(dataset) == 6
    assert dataset.ids()[2] == "image-2"
    assert dataset.indices("train").tolist() == [0, 1, 5]
    assert dataset.counts().values == (2, 1)
    assert dataset.counts("val").values == (1, 0)


def test_unknown_split_is_named(memory_dataset):
    with pytest.raises(ConfigError, match="unknown split 'tests'; did you mean 'test'"):
        memory_dataset([PIXEL] * 4).indices("tests")


@pytest.mark.parametrize(
    ("labels", "splits", "message"),
    [
        ([0, 0, 1], ["train", "test", "train"], r"\['b'\] have a single sample.*merge or drop"),
        ([0, 0, 1, 1], ["train", "test", "test", "test"], r"\['b'\].*no training sample"),
        ([0, 0, 1, 1], ["train", "test", "val", "val"], r"\['b'\].*in val or test.*no training"),
        ([0, 0, 1, 1], ["train", "test", "train", "val"], r"\['b'\] have no test sample"),
        ([0, 0, 0, 0], ["train", "test", "train", "val"], r"\['b'\] have no training sample"),
        ([0, 0, 1, 2], ["train", "test", "train", "test"], r"labels must lie in \[0, 1\]"),
        ([0, 0, 1, 1], ["train", "test", "train", "dev"], r"splits must be one of.*\['dev'\]"),
        ([0, 0, 1], ["train", "test", "train", "test"], "differ in number"),
    ],
)
def test_what_cannot_be_learnt_or_tested_is_refused(memory_dataset, labels, splits, message):
    with pytest.raises(DataError, match=message):
        memory_dataset([PIXEL] * len(splits), labels, splits)


def test_one_class_is_too_few():
    with pytest.raises(DataError, match=r"at least two different classes are needed, got \['a'\]"):
        assemble("x", files([]), ["a", "a", "a"])


def test_selection_renumbers_and_is_checked_again(memory_dataset):
    images = [PIXEL + i for i in range(6)]
    groups = np.array(list("uvwxyz"))
    dataset = memory_dataset(
        images, [0, 1, 0, 1, 0, 1], ["train", "train", "train", "test", "test", "train"], groups
    )
    part = dataset.select(np.array([5, 3, 4, 0]), note="two left out")
    assert part.ids() == ["image-5", "image-3", "image-4", "image-0"]
    assert part.source.read(1).item() == 3
    assert part.labels.tolist() == [1, 1, 0, 0]
    assert part.splits.tolist() == ["train", "test", "test", "train"]
    assert part.groups is not None
    assert part.groups.tolist() == list("zxyu")
    assert part.notes == ("two left out",)
    assert part.select(np.array([3, 2, 1, 0])).ids()[0] == "image-0"
    with pytest.raises(DataError, match=r"\['b'\] have no test sample"):
        dataset.select(np.array([0, 1, 2, 4, 5]))


def test_fingerprint_tells_any_difference_without_decoding(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png", "c.png", "d.png")]
    for path in paths:
        path.write_bytes(b"not even an image")
    labels, splits = ["x", "x", "y", "y"], ["train", "test", "train", "test"]
    first = assemble("one", files(paths), labels, splits=splits)
    assert assemble("two", files(paths), labels, splits=splits).fingerprint == first.fingerprint
    others = [
        assemble("", files(paths), labels, splits=splits[::-1]),
        assemble("", files(paths), ["x", "x", "z", "z"], splits=splits),
        assemble("", files(paths), ["y", "y", "x", "x"], splits=splits),
        assemble("", files(paths), labels, splits=splits, groups=list("abcd")),
        assemble("", files([*paths[1::-1], *paths[2:]]), labels, splits=splits),
    ]
    paths[0].write_bytes(b"longer than it was before")
    others.append(assemble("", files(paths), labels, splits=splits))
    assert first.fingerprint not in {other.fingerprint for other in others}
    assert len({other.fingerprint for other in others}) == len(others)


def test_selection_has_its_own_fingerprint(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path in paths:
        path.write_bytes(b"x")
    whole = assemble("", files(paths), list("xxxyyy"))
    part = whole.select(np.flatnonzero(whole.splits != "val"))
    assert part.fingerprint != whole.fingerprint
    for path in paths:
        path.write_bytes(b"changed")
    assert part.select(np.arange(4)).fingerprint != part.fingerprint


def test_group_in_two_given_splits_is_noted(tmp_path):
    dataset = assemble(
        "",
        files([tmp_path / f"{i}.png" for i in range(5)]),
        list("xxyyy"),
        splits=["train", "test", "train", "test", "val"],
        groups=["g", "g", "h", "i", "h"],
    )
    assert dataset.notes == ("in more than one of the given splits: 2 groups",)


def test_fingerprint_notices_a_mask_beside_an_image(tmp_path):
    """A prepared copy from before the mask would hold other pixels."""
    paths = []
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).write_bytes(name.encode())
        paths.append(tmp_path / name)

    def fingerprint():
        return assemble(
            "two", files(paths * 2), list("xyxy"), splits=["train"] * 2 + ["test"] * 2
        ).fingerprint

    found = [fingerprint()]
    for content in (b"mask", b"another mask"):
        (tmp_path / "a.tif.msk").write_bytes(content)
        found.append(fingerprint())
    (tmp_path / "a.tif.aux.xml").write_bytes(b"<PAMDataset/>")
    found.append(fingerprint())
    assert len(set(found)) == 4
