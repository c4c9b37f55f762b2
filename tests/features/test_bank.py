import json

import numpy as np
import pytest

from tailora.errors import StorageError
from tailora.features import FeatureBank
from tailora.storage import write_json

MANIFEST = {
    "dataset": "3f2a",
    "split": "train",
    "rows": 4,
    "weights": None,
    "pooling": "both",
    "input": {"image_size": 70, "bands": [1, 2, 3], "scale": 255.0, "mean": [0.4, 0.5, 0.6]},
}
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


class Filler:
    """Fills an array with rows and counts how often it was asked to."""

    def __init__(self, rows=ROWS):
        self.rows, self.calls = rows, 0

    def __call__(self, out):
        self.calls += 1
        out[:] = self.rows


def make(folder, manifest=MANIFEST, rows=ROWS):
    filler = Filler(rows)
    found = FeatureBank(folder, manifest).load_or_make(*rows.shape, filler)
    return np.array(found), filler.calls


def test_features_are_made_once_and_read_back_equal(tmp_path):
    folder = tmp_path / "stages" / "lora"
    first, calls = make(folder)
    again, more_calls = make(folder, rows=-ROWS)
    assert (calls, more_calls) == (1, 0)
    np.testing.assert_array_equal(first, ROWS)
    np.testing.assert_array_equal(again, ROWS)
    assert sorted(p.name for p in folder.iterdir()) == ["features.npy", "manifest.json"]


def test_what_is_given_can_only_be_read(tmp_path):
    found = FeatureBank(tmp_path, MANIFEST).load_or_make(4, 3, Filler())
    assert found.dtype == np.float32
    assert isinstance(found, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1


def changed(path, value):
    manifest = json.loads(json.dumps(MANIFEST))
    *parents, last = path
    entry = manifest
    for key in parents:
        entry = entry[key]
    entry[last] = value
    return manifest


CHANGES = [
    changed(("dataset",), "3f2b"),
    changed(("split",), "val"),
    changed(("weights",), "pretrained"),
    changed(("pooling",), "class"),
    changed(("input", "image_size"), 84),
    changed(("input", "bands"), [3, 2, 1]),
    changed(("input", "scale"), 1.0),
    changed(("input", "mean", 2), 0.6000000000000001),
    changed(("rows",), 4.0),
    changed(("new",), 1),
    {key: value for key, value in MANIFEST.items() if key != "pooling"},
]


@pytest.mark.parametrize("other", CHANGES)
def test_any_change_of_the_manifest_makes_new_features(other, tmp_path):
    make(tmp_path)
    assert not FeatureBank(tmp_path, other).matches()
    found, calls = make(tmp_path, other, rows=-ROWS)
    assert calls == 1
    np.testing.assert_array_equal(found, -ROWS)
    assert not FeatureBank(tmp_path, MANIFEST).matches()


def test_the_order_of_keys_does_not_matter(tmp_path):
    make(tmp_path)
    assert FeatureBank(tmp_path, dict(reversed(MANIFEST.items()))).matches()


@pytest.mark.parametrize("missing", ["features.npy", "manifest.json"])
def test_a_bank_without_one_of_its_files_is_made_anew(missing, tmp_path):
    make(tmp_path)
    (tmp_path / missing).unlink()
    assert make(tmp_path)[1] == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_features_interrupted_half_way_are_never_read(error, tmp_path):
    def interrupted(out):
        out[:2] = 7
        raise error

    with pytest.raises(error):
        FeatureBank(tmp_path, MANIFEST).load_or_make(4, 3, interrupted)
    assert list(tmp_path.iterdir()) == []
    assert make(tmp_path)[1] == 1


def test_after_an_interruption_the_old_features_are_not_taken_for_the_new_ones(tmp_path):
    other = changed(("weights",), "ab12")

    def interrupted(out):
        raise KeyboardInterrupt

    make(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        FeatureBank(tmp_path, other).load_or_make(4, 3, interrupted)
    assert not FeatureBank(tmp_path, other).matches()
    found, calls = make(tmp_path, other, rows=-ROWS)
    assert calls == 1
    np.testing.assert_array_equal(found, -ROWS)


def test_killed_between_array_and_manifest_the_array_is_not_trusted(tmp_path, monkeypatch):
    make(tmp_path)

    def killed(path, value):
        raise KeyboardInterrupt

    other = changed(("weights",), "ab12")
    monkeypatch.setattr("tailora.features.bank.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, other, rows=-ROWS)
    for manifest in (MANIFEST, other):
        assert not FeatureBank(tmp_path, manifest).matches()


def test_a_manifest_cut_short_is_as_good_as_none(tmp_path):
    make(tmp_path)
    text = (tmp_path / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(text[: len(text) // 2])
    assert make(tmp_path)[1] == 1


def test_a_full_disk_is_named_before_anything_is_encoded(tmp_path, monkeypatch):
    def full(descriptor, start, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    filler = Filler()
    with pytest.raises(StorageError, match=r"no space left while writing '.*features\.npy'"):
        FeatureBank(tmp_path, MANIFEST).load_or_make(4, 3, filler)
    assert filler.calls == 0
    assert list(tmp_path.iterdir()) == []


def test_tuples_in_a_manifest_are_the_lists_that_json_makes_of_them(tmp_path):
    manifest = {"bands": (1, 2, 3)}
    make(tmp_path, manifest)
    assert make(tmp_path, manifest)[1] == 0


def test_what_is_no_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        make(tmp_path, {"scale": float("nan")})
    assert not FeatureBank(tmp_path, {"scale": float("nan")}).matches()


def test_a_bank_of_the_same_manifest_elsewhere_is_not_touched(tmp_path):
    make(tmp_path / "a")
    write_json(tmp_path / "b" / "manifest.json", MANIFEST)
    assert make(tmp_path / "b", rows=-ROWS)[1] == 1
    np.testing.assert_array_equal(make(tmp_path / "a")[0], ROWS)


def _as_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", ["features.npy", "manifest.json"])
@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(b"\xff\xfe\0{"),
        _as_folder,
    ],
)
def test_a_damaged_bank_is_made_again(harm, name, tmp_path):
    make(tmp_path)
    harm(tmp_path / name)
    again, calls = make(tmp_path)
    np.testing.assert_array_equal(again, ROWS)
    assert calls == 1


@pytest.mark.parametrize("array", [ROWS[:2], ROWS.T, ROWS.astype(np.float64), ROWS.astype(">f4")])
def test_an_array_of_another_shape_or_type_is_made_again(array, tmp_path):
    make(tmp_path)
    np.save(tmp_path / "features.npy", array)
    again, calls = make(tmp_path)
    np.testing.assert_array_equal(again, ROWS)
    assert calls == 1


def test_maps_are_kept_in_half_precision_and_read_by_window(tmp_path):
    maps = np.random.default_rng(0).normal(size=(5, 4, 6, 3)).astype(np.float32)
    bank = FeatureBank(tmp_path / "maps", MANIFEST, "float16")
    found = bank.load_or_make(5, (4, 6, 3), lambda out: np.copyto(out, maps))
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float16
    window = found[3, 1:3, 2:5]
    np.testing.assert_allclose(window, maps[3, 1:3, 2:5], rtol=2**-11, atol=1e-7)
    assert (tmp_path / "maps" / "features.npy").stat().st_size < 5 * 4 * 6 * 3 * 2 + 200

    def refuse(_):
        raise AssertionError("made again")

    again = bank.load_or_make(5, (4, 6, 3), refuse)
    np.testing.assert_array_equal(again, found)
    assert FeatureBank(tmp_path / "maps", MANIFEST).kept(5, (4, 6, 3)) is None  # of another type
    assert bank.kept(5, (4, 6, 2)) is None
