import pytest

from tailora import errors
from tailora.errors import (
    ConfigError,
    ProcessError,
    StorageError,
    TailoraError,
    TrainingError,
    unknown_name,
)


def error_classes():
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, TailoraError) and value is not TailoraError
    ]


@pytest.mark.parametrize("error", error_classes())
def test_who_never_heard_of_tailora_can_still_catch_it(error):
    of_python = {
        StorageError: OSError, ProcessError: RuntimeError, TrainingError: ArithmeticError,
    }  # fmt: skip
    assert issubclass(error, of_python.get(error, ValueError))


def test_the_seven_kinds_of_error_are_there():
    names = {error.__name__ for error in error_classes()}
    assert names == {
        "DataError", "ConfigError", "BackboneError", "RunError", "StorageError", "ProcessError",
        "TrainingError",
    }  # fmt: skip


def test_names_too_many_for_a_message_are_left_to_the_command_that_lists_them():
    names = [f"train.{letter}" for letter in "abcdefghijklmnop"]
    error = unknown_name("recipe key", "foo", names, listed_by="tailora methods recipe")
    assert str(error).startswith("unknown recipe key 'foo'; did you mean 'train.")
    assert str(error).endswith("'? (`tailora methods recipe` lists all)")


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all_of_them_sorted():
    error = unknown_name("loss", "blanced-softmax", ["focal", "balanced-softmax", "ldam"])
    assert isinstance(error, ConfigError)
    text = str(error)
    assert "unknown loss 'blanced-softmax'" in text
    assert "did you mean 'balanced-softmax'?" in text
    assert text.endswith("(known: balanced-softmax, focal, ldam)")


def test_a_name_like_no_other_gets_no_suggestion():
    text = str(unknown_name("loss", "zzz", ["focal", "ldam"]))
    assert "did you mean" not in text
    assert "known: focal, ldam" in text


@pytest.mark.parametrize("name", ["", "tab\tand\nnewline", "Ωmega"])
def test_the_message_stays_one_line_whatever_was_typed(name):
    assert "\n" not in str(unknown_name("tuner", name, ["lora"]))


def test_known_names_may_come_from_an_iterator():
    assert "known: a, b" in str(unknown_name("tuner", "x", iter(["b", "a"])))
