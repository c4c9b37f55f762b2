"""What is said of differences between rows of a task's scores."""

from types import SimpleNamespace

from tailora.report.task_tables import gain_notes


def notes(units, ends):
    task = {
        "units": units, "unit": "group",
        "differences": [{"method": "lora", "head": "dpt", "against": "lora", "against_head": "own",
                         "score": 0.25, "score_interval": ends}],
    }  # fmt: skip
    [note] = gain_notes(SimpleNamespace(task=task), "score", "Mean IoU")
    return note


def test_a_difference_is_certain_if_its_interval_is_and_groups_are_enough():
    assert "which may be chance" not in notes(8, (0.1, 0.4)).text
    assert notes(8, (0.1, 0.4)).tone == "good"
    assert notes(8, (-0.1, 0.4)).text.endswith("which may be chance.")
    assert notes(8, (-0.1, 0.4)).tone == "open"


def test_of_few_groups_resamples_are_too_alike_to_tell():
    found = notes(3, (0.25, 0.25))
    assert found.text.endswith(", of 3 groups alone: too few to tell.")
    assert found.tone == "open"
