import numpy as np
import pytest

from tailora.data import open_dataset
from tailora.data.readers.fusar import open_fusar
from tailora.data.readers.fusrs import FUSRS_COUNTS
from tailora.errors import ConfigError, DataError
from tests.published import (
    FUSAR_COUNTS,
    FUSRS_SMALL,
    write_fusar,
    write_fusrs,
    write_lines,
    write_picture,
)

CHIP = np.zeros((8, 8), dtype=np.uint8)


def counted(data):
    names, counts = np.unique(np.array(data.classes)[data.labels], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


@pytest.fixture
def fusar(tmp_path):
    return tmp_path / "FUSAR_Ship1.0", write_fusar(tmp_path / "FUSAR_Ship1.0")


def test_fusar_is_recognised_and_its_categories_are_the_classes(fusar):
    root, _ = fusar
    data = open_dataset(root)
    assert counted(data) == {"Cargo": 36, "Fishing": 14, "Tanker": 8}
    chip = data.source.read(data.ids().index("Tanker/OilTanker/Ship_C03S01N0001.tiff"))
    assert chip.shape == (1, 16, 16)
    assert (chip[0, 4:-4, 6:-6] == 210).all()


def test_fusar_subcategories_are_classes_by_option(fusar):
    root, _ = fusar
    data = open_dataset(f"fusar:{root}:level=subcategory:min_per_class=10")
    assert counted(data) == {
        "Cargo/BulkCarrier": 24, "Cargo/ContainerShip": 12, "Fishing/FishingVessel": 14,
    }  # fmt: skip
    assert "left out classes with fewer than 10 chips: Tanker/OilTanker" in data.notes


def test_chips_of_one_ship_stand_in_one_split(fusar):
    root, ships = fusar
    data = open_dataset(root)
    side = {}
    for name, split, group in zip(data.ids(), data.splits, data.groups, strict=True):
        ship = ships[name.rpartition("/")[2].removesuffix(".tiff")]
        assert group == f"mmsi-{ship}"
        assert side.setdefault(ship, split) == split
    assert any("one ship (MMSI, meta.csv) are in one split" in note for note in data.notes)
    apart = open_fusar(root, group_by="chip")
    assert apart.groups is None
    (root / "meta.csv").unlink()
    assert any("no meta.csv" in note for note in open_fusar(root).notes)


def test_chips_that_the_table_lacks_stand_alone(fusar):
    root, _ = fusar
    lines = (root / "meta.csv").read_text().replace(",", "\t").splitlines()
    write_lines(root / "meta.csv", lines[:-3])
    data = open_fusar(root)
    assert "not in meta.csv and treated as ships of their own: 3 chips" in data.notes
    assert len(data) == sum(FUSAR_COUNTS.values())


def test_clutter_is_passed_over(fusar):
    root, _ = fusar
    write_picture(root / "Land" / "Urban" / "patch.png", CHIP)
    assert "ignored 1 image with other names" in open_fusar(root).notes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Ship_C01S01N9999.tiff", "is not in a category and subcategory"),
        ("Tanker/OilTanker/Ship_C01S01N9999.tiff", "are in 'Tanker' and 'Cargo'; move one"),
        (
            "Cargo/ContainerShip/Ship_C01S01N9999.tiff",
            "are in 'Cargo/ContainerShip' and 'Cargo/BulkCarrier'; move one",
        ),
    ],
)
def test_chips_in_wrong_folders_are_refused(fusar, name, message):
    write_picture(fusar[0] / name, CHIP)
    with pytest.raises(DataError, match=message):
        open_fusar(fusar[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,ship\na,b\n", "lacks the columns 'id' and 'mmsi'"),
        (b"", "lacks the columns"),
        (b"id,mmsi\nShip_C01S01N0001,\n", r"line 2 of .* has no id or no mmsi"),
        ("id,mmsi,ort\na,1,Köln".encode("latin-1"), r"is not UTF-8 \(byte 17\)"),
    ],
)
def test_bad_tables_of_ships_are_refused(fusar, content, message):
    (fusar[0] / "meta.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_fusar(fusar[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("level=type", "unknown level 'type'"),
        ("group_by=scene", "unknown group_by 'scene'"),
        ("min_per_class=-1", "min_per_class must be at least 0"),
        ("margin=0.1", "unknown option of fusar 'margin'"),
    ],
)
def test_wrong_options_of_fusar_are_refused(fusar, words, message):
    with pytest.raises(ConfigError, match=message):
        open_dataset(f"fusar:{fusar[0]}:{words}")


def test_empty_folder_is_no_fusar(tmp_path):
    with pytest.raises(DataError, match="no FUSAR-Ship chips"):
        open_fusar(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        open_fusar(tmp_path / "nowhere")


@pytest.mark.parametrize("lists", [False, True])
def test_fusrs_keeps_its_classes_and_splits(tmp_path, lists):
    root = tmp_path / "fusrs"
    write_fusrs(root, lists=lists)
    data = open_dataset(f"fusrs:{root}")
    assert data.classes == tuple(sorted(FUSRS_COUNTS))
    for k, split in enumerate(("train", "val", "test")):
        expected = {name: counts[k] for name, counts in FUSRS_SMALL.items()}
        assert dict(zip(data.classes, data.counts(split).values, strict=True)) == expected
    row = data.ids().index("chips/test_dredger_0.png" if lists else "test/dredger/0000.png")
    assert data.classes[data.labels[row]] == "dredger"
    assert (data.source.read(row)[0, 5:-5, 3:14] == 230).all()
    assert any("train is not the published FUSRS v2: 20 cargo for 3890" in n for n in data.notes)
    assert any("the scene of each chip is not published" in note for note in data.notes)


def test_fusrs_class_folders_may_have_capitals(tmp_path):
    write_fusrs(tmp_path)
    for split in ("train", "val", "test"):
        for folder in list((tmp_path / split).iterdir()):
            folder.rename(folder.with_name(folder.name.capitalize()))
    assert open_dataset(f"fusrs:{tmp_path}").classes == tuple(sorted(FUSRS_COUNTS))


def test_published_counts_of_fusrs_add_up():
    totals = [sum(counts[k] for counts in FUSRS_COUNTS.values()) for k in range(3)]
    assert totals == [6971, 869, 1260]
    assert round(3890 / 242) == 16


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("chips/train_cargo_0.png", r"line 1 of .*train\.txt' is malformed"),
        ("chips/train_cargo_0.png 5", r"line 1 of .*: class number 5 must lie in \[0, 4\]"),
        ("chips/train_cargo_0.png kargo", "unknown class 'kargo'; did you mean 'cargo'"),
        ("chips/no.png 0", r"lists 1 missing image, such as 'chips/no\.png'"),
    ],
)
def test_bad_lists_are_named_by_file_and_line(tmp_path, line, message):
    write_fusrs(tmp_path, lists=True)
    rest = (tmp_path / "train.txt").read_text()
    write_lines(tmp_path / "train.txt", [line, *rest.splitlines()])
    with pytest.raises(DataError, match=message):
        open_dataset(f"fusrs:{tmp_path}")


def test_other_classes_are_no_fusrs(tmp_path):
    write_fusrs(tmp_path)
    for split in ("train", "val", "test"):
        (tmp_path / split / "cargo").rename(tmp_path / split / "cargos")
    with pytest.raises(DataError, match="unknown class of FUSRS 'cargos'; did you mean 'cargo'"):
        open_dataset(f"fusrs:{tmp_path}")
    with pytest.raises(DataError, match="no folder"):
        open_dataset("fusrs:nowhere")


def test_lists_that_are_not_utf8_are_refused(tmp_path):
    write_fusrs(tmp_path, lists=True)
    (tmp_path / "classnames.txt").write_bytes(b"cargo\n\xff")
    with pytest.raises(DataError, match=r"classnames\.txt' is not UTF-8 \(byte 6\)"):
        open_dataset(f"fusrs:{tmp_path}")
