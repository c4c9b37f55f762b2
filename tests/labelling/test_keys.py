"""Keys of classes."""

import pytest

from tailora.errors import ConfigError
from tailora.labelling.keys import COMMANDS, class_keys
from tailora.labelling.settings import read_classes, read_keys


def test_classes_have_digits_then_letters_that_are_no_commands():
    names = [f"class {i}" for i in range(40)]
    keys = list(class_keys(names).values())
    assert "".join(keys) == "123456789defghijklmopqrtvwy"
    assert not set(keys) & set(COMMANDS)
    assert list(class_keys(names)) == names[: len(keys)]


def test_chosen_keys_are_kept_and_the_others_go_round_them():
    keys = class_keys(["a", "b", "c"], {"b": "Q", "c": "1"})
    assert keys == {"a": "2", "b": "q", "c": "1"}


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"a": "12"}, "must be one letter or digit, got '12'"),
        ({"a": "?"}, "must be one letter or digit"),
        ({"a": ""}, "must be one letter or digit"),
        ({"a": "U"}, "key 'U' of class 'a' is a command (undo)"),
        ({"a": "q", "b": "Q"}, "classes 'a' and 'b' have the same key 'Q'"),
        ({"c": "q"}, "unknown class 'c'"),
    ],
)
def test_unusable_keys_are_refused(chosen, said):
    with pytest.raises(ConfigError) as caught:
        class_keys(["a", "b"], chosen)
    assert said in str(caught.value)


def test_a_file_of_classes_gives_keys_after_a_tab(tmp_path):
    file = tmp_path / "classes.txt"
    file.write_text("farm land\nquarry\tq\nwater \t W\n", "utf-8")
    assert read_classes(file) == ("farm land", "quarry", "water")
    assert read_keys(file) == {"farm land": "1", "quarry": "q", "water": "w"}
    file.write_text("farm\nquarry\tundo\n", "utf-8")
    with pytest.raises(ConfigError, match="the key of class 'quarry' must be one letter or digit"):
        read_keys(file)
