import numpy as np

from tailora.data import find_duplicates, open_folder


def test_copies_of_files_are_found_with_their_splits_and_labels(tmp_path, write_picture):
    for split in ("train", "test"):
        for c, name in enumerate("ab"):
            for i in range(3):
                write_picture(
                    tmp_path / split / name / f"{i}.png", 20 * c + 10 * (split == "test") + i
                )
    write_picture(tmp_path / "val/a/0.png", 99)
    write_picture(tmp_path / "test/a/copy.png", 1)  # of train/a/1
    write_picture(tmp_path / "train/b/copy.png", 2)  # of train/a/2
    write_picture(tmp_path / "train/b/twin.png", 20)  # of train/b/0
    found = find_duplicates(open_folder(tmp_path))
    assert [(d.ids, d.leaks, d.conflicts) for d in found] == [
        (("test/a/copy.png", "train/a/1.png"), True, False),
        (("train/a/2.png", "train/b/copy.png"), False, True),
        (("train/b/0.png", "train/b/twin.png"), False, False),
    ]
    assert found[0].splits == ("test", "train")
    assert found[1].labels == ("a", "b")


def test_files_of_equal_size_alone_are_no_copies(tmp_path):
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "0.png").write_text(split[1] + name)
    assert find_duplicates(open_folder(tmp_path)) == []


def test_pictures_without_files_are_compared_by_pixels_shape_and_dtype(memory_dataset):
    first = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    others = [first + 1, first.reshape(1, 1, 4), first.astype(np.uint16), first.copy(), first + 2]
    (found,) = find_duplicates(memory_dataset([first, *others]))
    assert found.ids == ("image-0", "image-4")
    assert found.leaks


def test_selected_rows_are_compared_by_their_files(tmp_path, write_picture):
    for name in "ab":
        for i in range(4):
            write_picture(tmp_path / name / f"{i}.png", 7)
    dataset = open_folder(tmp_path)
    (found,) = find_duplicates(dataset.select(np.flatnonzero(dataset.splits != "val")))
    assert len(found.ids) == (dataset.splits != "val").sum()
