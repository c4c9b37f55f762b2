"""The page of benchmarks from made-up results: what is missing is said, not hidden."""

import copy

import pytest

from benchmarks.page.__main__ import RESULTS, page, read
from benchmarks.page.growth_figures import digest, growth_figures
from benchmarks.page.run_sections import how_it_was_run
from benchmarks.page.tables import counted, scaled, short, spread


@pytest.fixture(scope="module")
def committed():
    return read(RESULTS)


@pytest.fixture
def results(committed):
    return copy.deepcopy(committed)


def test_a_size_that_was_not_run_is_a_dash_with_its_reason(results):
    row = next(r for r in results["growth"]["rows"] if r["stage"] == "probe")
    reason = "would take about 99 s, the limit is 1 s"
    results["growth"]["rows"] = [
        {key: row[key] for key in ("stage", "axis", "samples", "features", "classes")}
        | {"skipped": reason}
    ]
    text = page(results)
    assert f"- probe, N = {row['samples']:,}: {reason}" in text
    assert f"| {row['samples']:,} | – |" in text


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"load_average_at_start": 0.1}, "| quiet |"),
        ({"load_average_at_start": 3.0}, "| 3.0: other jobs ran |"),
        ({}, "| not recorded |"),
    ],
)
def test_what_else_ran_is_said(results, state, text):
    one = results["growth"]
    del one["machine"]["load_average_at_start"]
    one["machine"] |= state
    assert text in how_it_was_run({"growth": one})


def test_the_duration_is_that_of_the_last_whole_run(results):
    assert "12 minutes in all" in page(results | {"bench": {"minutes": 12.2}})


def test_figures_hold_the_digest_of_their_numbers(results):
    figures = growth_figures(results["growth"])
    assert set(figures) == {"growth-time.svg", "growth-memory.svg"}
    assert all(digest(results["growth"]) in svg for svg in figures.values())
    results["growth"]["rows"][0]["median_seconds"] *= 2
    assert not any(digest(results["growth"]) in svg for svg in figures.values())


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (short(12345.6), "12,346"),
        (short(0.012345), "0.0123"),
        (short(99.94), "99.9"),
        (scaled(4.56e12), "4.56 x 10^12"),
        (spread(0.5, 1.25), "0.50 to 1.25"),
        (spread(1.0, 1.0), "–"),
        (counted(1, "core"), "1 core"),
        (counted(1200, "step"), "1,200 steps"),
    ],
)
def test_numbers_are_written_as_a_reader_wants_them(found, text):
    assert found == text


def test_growth_of_large_inputs_is_a_ratio_and_what_was_not_measured_a_dash(results):
    small = {"seconds": 2.0, "memory_before_mb": 100.0, "peak_memory_mb": 130.0}
    full = {"seconds": 24.0, "memory_before_mb": 100.0, "peak_memory_mb": 350.0}
    found = results["large-inputs"]
    found["things"] = [{"thing": "count", "full": full, "fewer_classes": small}]
    assert "| count | 24 | 250 | 350 | – | 12 x |" in page(results)
    del results["large-inputs"]
    assert "Large inputs" not in page(results)
