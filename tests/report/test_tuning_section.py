from pathlib import Path

import pytest

from tailora.report import write_method_comparison
from tailora.report.blocks import Note, Picture, Table
from tailora.report.tuning_section import tuning_section
from tailora.runs.comparison import ComparisonResult, TuningResult
from tailora.storage import typed


def trial(number, value, values=None, reason=None):
    validation = {"all": value, "head": 0.9, "middle": None, "tail": 0.1} if value else {}
    return {
        "number": number, "values": values or {}, "value": value, "validation": validation,
        "seconds": 12.0, "reason": reason,
    }  # fmt: skip


def row(chosen, values, recipe="tuning/deblora-1/best.toml"):
    return {
        "row": "deblora", "adapter": "deblora", "method": "deblora", "chosen": chosen,
        "values": values, "own": {"deblora.pull": "adaptive", "train.lr": None}, "recipe": recipe,
        "trials": [
            trial(0, 0.5), trial(1, 0.61, {"deblora.pull": 0.3, "train.lr": 0.01}),
            trial(2, None, {"deblora.pull": 0.9, "train.lr": 0.1}, "diverged <badly>"),
        ],
    }  # fmt: skip


def tuning(*rows, without=0):
    return {
        "by": "tail", "seed": 0, "trials": 3, "space": {"deblora.pull": "0.0..1.0"}, "n_val": 40,
        "classes_without_validation": without, "rows": list(rows),
    }  # fmt: skip


def section_of(*rows, without=0):
    return tuning_section(typed(TuningResult, tuning(*rows, without=without), Path("c.json")))


def notes(section):
    return [block.text for block in section.blocks if isinstance(block, Note)]


def test_every_trial_is_a_row_and_the_chosen_one_is_marked():
    section = section_of(row(1, {"deblora.pull": 0.3, "train.lr": 0.01}))
    [table] = [block for block in section.blocks if isinstance(block, Table)]
    cells = [[cell.text for cell in line] for line in table.rows]
    assert cells[0] == ["0", "adaptive", "–", "50.0", "90.0", "–", "10.0", "50.0", "12.0 s", ""]
    assert cells[1][:4] == ["1", "0.3", "0.01", "61.0"]
    assert [line[-1] for line in cells] == ["", "selected", "no score: diverged <badly>"]
    assert cells[2][3:8] == ["–"] * 5
    assert "over the tail classes, 40 images, seed 0" in section.caption
    assert isinstance(section.blocks[0], Picture)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (
            row(1, {"deblora.pull": 0.3}),
            "debLoRA: deblora.pull = 0.3, 61.0 on validation; recipe: 50.0. "
            "Recipe: tuning/deblora-1/best.toml.",
        ),
        (
            row(0, {}),
            "debLoRA: none of 3 trials was better than the recipe (50.0).",
        ),
    ],
)
def test_a_sentence_says_what_was_taken(found, says):
    assert notes(section_of(found)) == [says]


def test_classes_that_nothing_was_chosen_for_are_told():
    first, _ = notes(section_of(row(0, {}), without=2))
    assert first.startswith("Without a validation sample, and so without influence: 2 classes.")


def test_the_page_of_a_comparison_shows_it(fake_comparison, tmp_path):
    found = fake_comparison(n_probes=1, n_adapters=3, tuning=tuning(row(0, {})))
    page = write_method_comparison(ComparisonResult.from_json(found), tmp_path / "page.html")
    text = page.read_text("utf-8")
    assert "Options tuned on validation" in text
    assert "diverged &lt;badly&gt;" in text
    assert "diverged <badly>" not in text
