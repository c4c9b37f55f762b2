import errno
import json
import math

import numpy as np
import pytest
from safetensors import SafetensorError

from tailora.errors import RunError, StorageError
from tailora.storage import (
    create_array,
    guard_disk,
    parse_toml,
    read_arrays,
    read_json,
    write_atomically,
    write_json,
    write_text,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def failing(error):
    def write(temporary):
        temporary.write_text("half")
        raise error

    return write


def test_text_is_written_as_given_into_folders_that_are_made(tmp_path):
    path = tmp_path / "new" / "folder" / "note.txt"
    write_text(path, "Ström\r\nlast\n")
    assert path.read_bytes() == "Ström\r\nlast\n".encode()
    assert names(path.parent) == ["note.txt"]


def test_json_survives_unchanged_and_stays_readable(tmp_path):
    value = {"classes": ["Ödland", "水"], "f1": 0.1 + 0.2, "interval": None, "n": 3}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    text = (tmp_path / "a.json").read_text("utf-8")
    assert "Ödland" in text
    assert text.endswith("}\n")
    assert json.loads(text) == value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_json_is_refused_before_anything_is_touched(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"f1": value})
    assert read_json(path) == 1
    assert names(tmp_path) == ["a.json"]


def test_the_writer_gets_another_name_of_the_same_suffix_in_the_same_folder(tmp_path):
    seen = []
    path = tmp_path / "head.safetensors"
    write_atomically(path, lambda temporary: (seen.append(temporary), temporary.touch()))
    (temporary,) = seen
    assert temporary.parent == path.parent
    assert temporary.suffix == ".safetensors"
    assert temporary != path
    assert path.exists()


def test_an_existing_file_is_replaced_only_by_a_finished_one(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def write(temporary):
        temporary.write_text("new")
        assert path.read_text() == "old"

    write_atomically(path, write)
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("bug"), OSError(errno.EIO, "x")])
def test_after_a_failure_the_old_file_is_whole_and_nothing_else_is_there(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    expected = StorageError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        write_atomically(path, failing(error))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_named_and_so_is_the_way_on(tmp_path, code):
    with pytest.raises(
        StorageError, match=r"no space left while writing '.*a\.txt'.*--resume"
    ) as e:
        write_atomically(tmp_path / "a.txt", failing(OSError(code, "no")))
    assert isinstance(e.value.__cause__, OSError)


def test_any_other_trouble_gives_the_file_and_the_reason(tmp_path):
    with pytest.raises(StorageError, match=r"cannot write '.*a\.txt': no permission"):
        write_atomically(tmp_path / "a.txt", failing(OSError(errno.EACCES, "no permission")))


def test_a_folder_in_the_place_of_the_file_is_a_storage_error(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        write_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == ["a.txt"]


def test_a_file_in_the_place_of_the_folder_is_a_storage_error(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(StorageError, match="cannot write"):
        write_text(tmp_path / "runs" / "a.txt", "x")


def test_a_link_is_replaced_and_what_it_pointed_to_stays(tmp_path):
    write_text(tmp_path / "target.txt", "target")
    (tmp_path / "link.txt").symlink_to(tmp_path / "target.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "target.txt").read_text() == "target"
    assert (tmp_path / "link.txt").read_text() == "new"


def test_a_storage_error_is_not_wrapped_in_another(tmp_path):
    inner = StorageError("no space left while writing 'b.txt'")
    with pytest.raises(StorageError) as caught, guard_disk(tmp_path / "a.txt"):
        raise inner
    assert caught.value is inner


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("IoError(Os { code: 28, kind: StorageFull }) (os error 28)", "no space left"),
        ("Error while serializing: I/O error: Disk quota exceeded (os error 122)", "no space left"),
        ("Error while serializing: I/O error: Permission denied (os error 13)", "Permission"),
    ],
)
def test_safetensors_hides_the_system_error_in_its_text_and_it_is_found(tmp_path, text, message):
    with pytest.raises(StorageError, match=message), guard_disk(tmp_path / "a.safetensors"):
        raise SafetensorError(text)


def test_a_bug_inside_the_guard_stays_what_it_is(tmp_path):
    with pytest.raises(KeyError), guard_disk(tmp_path / "a.txt"):
        raise KeyError("bug")


@pytest.mark.parametrize("shape", [(3, 2), (1000, 40), (7,)])
def test_an_array_has_its_room_on_disk_before_anything_is_written(tmp_path, shape):
    path = tmp_path / "features.npy"
    array = create_array(path, shape, np.float32)
    status = path.stat()
    assert status.st_blocks * 512 >= status.st_size >= 4 * np.prod(shape)
    array[...] = np.arange(np.prod(shape)).reshape(shape)
    array.flush()
    again = np.load(path)
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again, np.arange(np.prod(shape)).reshape(shape))


def test_an_array_the_disk_has_no_room_for_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    path = tmp_path / "features.npy"
    with pytest.raises(StorageError, match="no space left"):
        write_atomically(path, lambda temporary: create_array(temporary, (4, 2), np.float64))
    assert names(tmp_path) == []


def test_json_comes_back_and_numbers_stand_on_one_line(tmp_path):
    value = {"a": [[1, 2.5], [], [None, -3e300]], "ä": {"b": ["x"], "c": {}}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    lines = (tmp_path / "x.json").read_text("utf-8").splitlines()
    assert lines[:6] == ["{", '  "a": [', "    [1, 2.5],", "    [],", "    [null, -3e+300]", "  ],"]
    assert lines[6:] == ['  "ä": {', '    "b": [', '      "x"', "    ],", '    "c": {}', "  }", "}"]


def test_no_list_of_numbers_smuggles_nan_into_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": [1.0, float("nan")]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1e400}', "1e400 is out of range"),
        ('{"a": -1' + "0" * 30 + "}", "too many digits"),
        ('{"a": "\\ud800"}', "surrogates"),
        ("[" * 70 + "]" * 70, "nested too deep"),
        ('{"a":' * 70 + "1" + "}" * 70, "nested too deep"),
    ],
)
def test_json_that_would_fail_later_is_refused_when_it_is_read(text, message, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RunError, match=f"'.*a.json' is damaged .*{message}"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 1.7e308, "\U0001f30d", [[[1]]]])
def test_json_of_any_size_that_is_written_is_read(value, tmp_path):
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04", b"\x80\x04]q\x00."])
def test_arrays_that_cannot_be_read_are_refused(content, tmp_path):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(RunError, match=r"a\.npz' is damaged"):
        read_arrays(tmp_path / "a.npz")


def test_one_array_alone_or_a_folder_is_no_file_of_arrays(tmp_path):
    with (tmp_path / "a.npz").open("wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(RunError, match=r"it is not an \.npz file"):
        read_arrays(tmp_path / "a.npz")
    (tmp_path / "b.npz").mkdir()
    with pytest.raises(RunError, match=r"cannot read '.*b\.npz'"):
        read_arrays(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "9" * 5000, "Exceeds the limit .* digits"),
        ("a = 9223372036854775808", "64 bits"),
        ("a = [[-9223372036854775809]]", "64 bits"),
        ('a = {b = ["\\u0000"]}', "NUL"),
        ("a = " + "[" * 70 + "]" * 70, "too deep"),
        ("a = " + "[" * 100_000, "too deep"),
    ],
)
def test_toml_that_would_fail_later_is_refused_when_it_is_read(text, message):
    with pytest.raises(ValueError, match=message):
        parse_toml(text)


def test_toml_of_64_bits_is_read():
    text = "a = 9223372036854775807\nb = [-9223372036854775808]\nc = inf"
    assert parse_toml(text) == {"a": 2**63 - 1, "b": [-(2**63)], "c": float("inf")}
