"""The pages of results, from small results made by hand; every number is worked out beside it."""

import json
import re

import pytest

from tests.test_project import script

PLAIN = ("lora", "logit-adjusted")


@pytest.fixture(scope="module")
def made():
    return script("results_page")


def row(method="lora", probe="logit-adjusted", *, changes=None, val=(0.5, 0.5), tail=(0.4, 0.4),
        every=(0.6, 0.6), against=None, difference=None, **more):  # fmt: skip
    listed = ", ".join(f"{k}={v}" for k, v in (changes or {}).items())
    scores = {
        name: {"mean": sum(seeds) / len(seeds), "deviation": None, "per_seed": list(seeds)}
        for name, seeds in {"head": every, "middle": every, "tail": tail, "all": every}.items()
    }
    return {
        "adapter": f"{method} [{listed}]" if listed else method,
        "method": method, "probe": probe, "changes": changes or {}, "against": against,
        "validation": dict(zip(("tail", "all"), val, strict=True)), "scores": scores,
        "difference": difference, "seconds": {"own": 1.0}, **more,
    }  # fmt: skip


def gap(mean, low, high):
    return {"mean": mean, "low": low, "high": high}


def experiment(name, sets, **recipe):
    return {
        "experiment": name,
        "recipe": {"what": f"What {name} asks", **recipe},
        "machine": {"cores": 2, "cpu": "a processor"},
        "git": {"commit": "0123456789"},
        "sets": {
            data: {
                "fingerprints": [f"{data}-{seed}" for seed in range(2)], "seeds": [0, 1],
                "resplit": True, "rows": rows,
                "dataset": {f"n_{split}": [10, 20] for split in ("train", "val", "test")},
            }
            for data, rows in sets.items()
        },
    }  # fmt: skip


@pytest.fixture
def pages(made, tmp_path):
    def write(*results):
        for result in results:
            file = tmp_path / f"{result['experiment']}.json"
            file.write_text(json.dumps(result), "utf-8")
        return made.pages(tmp_path)

    return write


def cells(page, *start):
    """The cells after the first ones, of the one row of a page that begins with these."""
    begin = f"| {' | '.join(start)} |"
    (line,) = {line for line in page.splitlines() if line.startswith(begin)}
    return [cell.strip() for cell in line.removeprefix(begin).strip("|").split(" | ")]


MUON = {"train.optimizer": "muon"}


def test_rows_are_compared_with_those_of_another_result_on_the_splits_of_both(pages):
    """Splits 1 and 0 of the other, whose third is left out: +10 and +20 points, 15 +- 63.5."""
    longer = experiment("detection-longer", {"shapes": [
        row(changes={"train.epochs": 10}, tail=(0.3, 0.2, 0.9)), row(probe="own", tail=(0, 0, 0)),
    ]})  # fmt: skip
    longer["sets"]["shapes"]["fingerprints"] = ["shapes-1", "shapes-0", "shapes-7"]
    ours = experiment("detection-deblora", {"shapes": [row("deblora", tail=(0.3, 0.5))]})
    page = pages(ours, longer)["detection-deblora.md"]
    assert cells(page, "deblora", "logit-adjusted", "lora: epochs 10", "2")[0] == (
        "+15.0 [-48.5, 78.5]"
    )
    assert page.count("| lora: epochs 10 |") == 1
    assert "the token at its centre" not in page
    older = experiment("detection-tail", {"shapes": [row(probe="own")]})
    assert "the token at its centre" in pages(older)["detection-tail.md"]


SCREEN = experiment(
    "screen-training",
    {
        "ponds": [row(val=(0.5, 0.6)), row(changes=MUON, val=(0.53, 0.605)),
                  row(probe="own", val=(0.41, 0.58))],
        "dunes": [row(val=(0.3, 0.4)), row(changes=MUON, val=(0.28, 0.45)),
                  row(probe="own", val=(None, 0.39))],
    },
    note="Three epochs each.", kept="Muon",
)  # fmt: skip


def test_a_screening_shows_the_change_of_every_variant_on_validation(pages):
    again = experiment("screen-z", {"ponds": [row(val=(0.1, 0.1))]})  # not the plain row of others
    page = pages(SCREEN, again)["default.md"]
    # 0.53 - 0.5, 0.605 - 0.6; 0.28 - 0.3, 0.45 - 0.4
    assert cells(page, "optimizer muon", "logit-adjusted") == [
        "53.0 (+3.0)", "60.5 (+0.5)", "28.0 (-2.0)", "45.0 (+5.0)"]  # fmt: skip
    # 0.41 - 0.5, 0.58 - 0.6, no tail, 0.39 - 0.4: what lost is shown too
    assert cells(page, "lora", "own") == ["41.0 (-9.0)", "58.0 (-2.0)", "–", "39.0 (-1.0)"]
    rows = re.findall(r"^\| (lora|optimizer muon) \| ([\w-]+) \|", page, flags=re.MULTILINE)
    assert rows[:3] == [("optimizer muon", "logit-adjusted"), PLAIN, ("lora", "own")]
    assert "2 variants, 2 probes; ponds (2 splits), dunes (2 splits)" in page
    assert "Three epochs each." in page
    assert "**Kept:** Muon" in page


def test_a_screening_without_a_plain_row_takes_that_of_the_same_splits_and_recipe(pages):
    mixed = row(changes={"train.mix": "cmo"}, val=(0.52, 0.57))
    one = experiment("screen-objectives", {"ponds": [mixed]})
    other = experiment("screen-layers", {"ponds": [row(changes={"a.b": 1}, val=(0.52, 0.57))]})
    other["sets"]["ponds"]["fingerprints"] = ["of other splits"]
    longer = experiment("screen-x", {"ponds": [row(val=(0.1, 0.1))]}, recipe={"train.epochs": 6})
    page = pages(SCREEN, one, other, longer)["default.md"]
    assert cells(page, "mix cmo", "logit-adjusted") == ["52.0 (+2.0)", "57.0 (-3.0)"]
    assert cells(page, "optimizer muon", "logit-adjusted")[0] == "53.0 (+3.0)"  # its own
    assert cells(page, "b 1", "logit-adjusted") == ["52.0", "57.0"]


def test_screenings_stand_on_the_page_of_the_search_alone(pages):
    found = pages(SCREEN)
    assert sorted(found) == ["README.md", "default.md"]
    assert "[The search for a default](default.md)" in found["README.md"]
    assert "screen" not in found["README.md"]


def test_fresh_splits_show_the_gain_over_logit_adjustment_and_over_ordinary_fine_tuning(pages):
    ordinary = {"tail": gap(0.1, 0.05, 0.15), "all": gap(0.01, -0.02, 0.04)}
    chosen = row(probe="logit-adjusted:views=8", changes=MUON, val=(0.5, 0.7), tail=(0.41, 0.43),
                 every=(0.65, 0.65), over_ordinary=ordinary)  # fmt: skip
    found = pages(experiment("confirm", {"ponds": [row(), chosen, row(probe="own")]}))
    # tail: gaps of 1 and 3 points, mean 2, deviation sqrt 2, so the half is 12.7062 * 1, by the
    # table of Student's t with one degree of freedom; all: 5 and 5, without any deviation
    assert cells(found["default.md"], "optimizer muon", "logit-adjusted:views=8") == [
        "42.0", "65.0", "+2.0 [-10.7, 14.7]", "**+5.0 [5.0, 5.0]**",
        "**+10.0 [5.0, 15.0]**", "+1.0 [-2.0, 4.0]",
    ]  # fmt: skip
    # the plain row itself, in a file without `over_ordinary`
    assert cells(found["default.md"], *PLAIN) == ["40.0", "60.0", "–", "–", "–", "–"]
    # the best by validation is a LoRA itself, so the summary takes the logit-adjusted one, too
    assert cells(found["README.md"], "[What confirm asks](confirm.md)", "ponds") == [
        "lora: optimizer muon / logit-adjusted:views=8", "2", "40.0, 60.0",
        "+2.0 [-10.7, 14.7]", "**+5.0 [5.0, 5.0]**",
    ]  # fmt: skip


def test_a_goal_is_reached_by_a_mean_and_an_interval(pages):
    ordinary = {"tail": gap(0.16, 0.05, 0.27), "all": gap(0.01, -0.02, 0.04)}
    chosen = row(probe="logit-adjusted:views=8", tail=(0.48, 0.43), over_ordinary=ordinary)
    page = pages(experiment("confirm", {"ponds": [row(), chosen]}))["default.md"]
    # gaps of 8 and 3 points: the mean is 5.5, and the interval is far wider
    assert "| tail at least +5 over logit adjustment | +5.5 [-26.3, 37.3] | not reached |" in page
    said = "| tail at least +15 over ordinary fine-tuning | **+16.0 [5.0, 27.0]** | reached |"
    assert said in page


def test_the_goals_are_read_where_the_default_was_confirmed(pages):
    # head: the rows have the same 60 points, so nothing was lost
    views = row(probe="logit-adjusted:views=8", tail=(0.43, 0.43))
    chosen = row(probe="logit-adjusted:views=8", changes=MUON, tail=(0.48, 0.48))
    first, last = ({"ponds": [row(), one]} for one in (views, chosen))
    made = pages(experiment("confirm", first), experiment("confirm-combined", last))
    found = made["default.md"]
    assert "read in [confirm-combined](confirm-combined.md)" in found
    assert "| tail at least +5 over logit adjustment | **+8.0 [8.0, 8.0]** | reached |" in found
    assert "| head at least -1 over logit adjustment | +0.0 [0.0, 0.0] | reached |" in found
    assert found.count("over logit adjustment |") == 2 + 2 * 2  # goals, and heads of two tables
    assert found.index("What confirm-combined asks") < found.index("What confirm asks")


def test_the_default_s_training_is_compared_with_a_tuned_baseline(pages):
    # tail: 44 and 50 over 40 and 44, so +5; single images alone, whatever else the file holds
    tuned = row(changes={"train.lr": 0.003}, tail=(0.40, 0.44))
    chosen = row(changes=MUON, tail=(0.44, 0.50))
    others = [row(probe="own", changes=one) for one in ({"train.lr": 0.003}, MUON)]
    sets = {"ponds": [others[0], tuned, others[1], chosen]}
    confirmed = experiment("confirm-combined", {"ponds": [row(), row(changes=MUON)]})
    found = pages(confirmed, experiment("confirm-tuned", sets))["default.md"]
    assert "What confirm-tuned asks" in found
    assert "| data |  | lr 0.003 | optimizer muon | gain |" in found
    assert "| ponds | tail | 42.0 | 47.0 | +5.0 [-7.7, 17.7] |" in found  # t(1) x 1.41 / 1.41
    assert "| ponds | head | 60.0 | 60.0 | +0.0 [0.0, 0.0] |" in found
    goal = "| tail at least +5 over logit adjustment with a tuned learning rate |"
    assert f"{goal} -2.0 [-27.4, 23.4] | not reached |" in found  # gaps of 0 and -4


GAINED = {"tail": gap(0.03, 0.01, 0.05), "all": gap(-0.02, -0.03, 0.01)}
LOST = {"tail": gap(0.2, 0.1, 0.3), "all": gap(0.2, 0.1, 0.3)}


def test_the_summary_shows_the_best_row_by_validation_not_by_test(pages):
    rows = [row(val=(0.5, 0.55)), row(probe="own", val=(0.1, 0.1), tail=(0.9, 0.9)),
            row(changes=MUON, val=(0.2, 0.6), against="lora", difference=GAINED),
            row(changes={"a.b": 1}, val=(0.9, 0.59), against="lora", difference=LOST)]  # fmt: skip
    found = pages(experiment("shelf", {"ponds": rows}))
    assert cells(found["README.md"], "[What shelf asks](shelf.md)", "ponds") == [
        "lora: optimizer muon / logit-adjusted", "2", "40.0, 60.0",
        "**+3.0 [1.0, 5.0]**", "-2.0 [-3.0, 1.0]",
    ]  # fmt: skip
    assert "Of 2 gains in this table (tail and all), 1 lie above zero" in found["README.md"]
    assert sorted(found) == ["README.md", "shelf.md"]  # no page of what was not measured


def test_a_recipe_may_name_the_probe_that_gains_are_over(pages):
    rows = [row("zero-shot", "plain", val=(0.5, 0.55)),
            row("zero-shot", "new", val=(0.5, 0.6), tail=(0.41, 0.43), every=(0.65, 0.65)),
            row("zero-shot", "odd", val=(0.5, 0.2), tail=(0.3, 0.3), every=(0.5, 0.7))]  # fmt: skip
    found = pages(experiment("heads", {"ponds": rows}, base="plain"))
    # gaps of 1 and 3 points, and of 5 and 5, as above
    gains = ["+2.0 [-10.7, 14.7]", "**+5.0 [5.0, 5.0]**"]
    assert cells(found["heads.md"], "zero-shot", "new", "60.0", "42.0") == ["65.0", *gains]
    assert cells(found["heads.md"], "zero-shot", "plain", "55.0", "40.0")[1:] == ["–", "–"]
    assert "is the difference to the probe `plain`, paired by split" in found["heads.md"]
    assert "Of 4 differences to plain (tail and all), 1 lie above zero" in found["heads.md"]
    assert cells(found["README.md"], "[What heads asks](heads.md)", "ponds") == [
        "zero-shot / new", "2", "40.0, 60.0", *gains]  # fmt: skip


def test_a_page_shows_the_reference_and_the_best_rows_and_folds_the_others(pages):
    ranked = [row(changes={"a.rank": n}, val=(0.5, 0.9 - n / 100), against="lora",
                  difference=GAINED) for n in range(10)]  # fmt: skip
    page = pages(experiment("ranks", {"ponds": [*ranked[::-1], row(val=(0.1, 0.1))]}))["ranks.md"]
    short, _, folded = page.partition("<details markdown><summary>All 11 rows</summary>\n\n")
    names = [
        re.findall(r"^\| (lora|rank \d) \|", text, flags=re.MULTILINE) for text in (short, folded)
    ]
    assert names[0] == ["lora", *(f"rank {n}" for n in range(7))]
    assert names[1] == [*(f"rank {n}" for n in reversed(range(10))), "lora"]


def test_what_all_rows_share_is_said_once(pages):
    shared = {"backbone.stem": "by-wavelength"}
    rows = [row(changes=shared), row(changes=shared | {"train.lr": 0.1})]
    text = pages(experiment("bands", {"ponds": rows}, recipe={"train.epochs": 2}))["bands.md"]
    assert '`train.epochs = 2`, `method = "lora"`, `backbone.stem = "by-wavelength"`' in text
    assert "| lr 0.1 |" in text
    assert "| lora |" in text
    rows[0]["method"] = "fine-tune"  # several methods: each row names its own
    text = pages(experiment("bands", {"ponds": rows}))["bands.md"]
    assert "| lora: lr 0.1 |" in text
    assert "| fine-tune |" in text


def test_links_to_headings_are_those_of_github(made):
    assert made._anchor("Size-constrained K-means: time, and more") == (
        "size-constrained-k-means-time-and-more"
    )


def test_heads_on_one_training_take_its_time_once(made):
    rows = [
        {"method": "lora", "changes": {}, "seconds": {"own": 90.0}},
        {"method": "lora", "changes": {}, "seconds": {"own": 80.0}},
        {"method": "lora", "changes": {"train.lr": 3e-3}, "seconds": {"own": 90.0}},
        {"method": "lora+sade", "changes": {}, "seconds": {"own": 180.0}},
    ]
    assert made._hours({"rows": rows, "seeds": [0, 1, 2, 3, 4]}) == 0.5
