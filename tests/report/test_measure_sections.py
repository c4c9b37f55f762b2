"""Sections on ranking, priors, label value, collapse, scaling and sets: right numbers, no gaps."""

import json

import numpy as np
import pytest

from tailora.report import write_report
from tailora.report.method_comparison import write_method_comparison
from tailora.runs.comparison import ComparisonResult

pytestmark = pytest.mark.usefixtures("unrendered")  # `test_run_report.py` looks at whole figures


@pytest.fixture(scope="module")
def pages():
    return {}


@pytest.fixture
def write(fake_run, pages, tmp_path):
    def make(change=None, **options):
        key = repr(sorted(options.items()))
        if change is None and key in pages:
            return pages[key]
        folder = fake_run.write_fake_run(tmp_path / "run", **options)
        if change is not None:
            metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
            change(metrics)
            (folder / "metrics.json").write_text(json.dumps(metrics), "utf-8")
        page = write_report(folder).read_text("utf-8")
        if change is None:
            pages[key] = page
        return page

    return make


def section(page, anchor):
    return page.partition(f'<section id="{anchor}">')[2].partition("</section>")[0]


@pytest.mark.parametrize(
    ("anchor", "texts"),
    [
        ("ranking", ["12.3", "34.5", "90.0", "chance 8.3", "many-shot"]),
        ("priors", ["natural macro-F1", "78 samples", "data:image/svg"]),
        ("labels", ["too few to thin", "60.0", "[50.0, 70.0]", "+10.0", "data:image/svg"]),
        ("collapse", ["3.21", "0.20", "[0.10, 0.30]", "(0.50)"]),
        ("calibration", ["unscaled", "one temperature", "before and after"]),
        ("coverage", ["91.0", "1.7", "88.0", "2.5", "target 90", "always in"]),
    ],
)
def test_each_section_shows_its_numbers(anchor, texts, write):
    found = section(write(), anchor)
    assert [text for text in texts if text not in found] == []


@pytest.mark.parametrize("anchor", ["ranking", "priors", "labels", "collapse", "coverage"])
def test_a_run_of_schema_1_says_that_it_was_not_measured(anchor, write):
    assert "Not shown: " in section(write(measured=False), anchor)


def test_other_schemas_of_the_metrics_are_refused(write):
    with pytest.raises(Exception, match="must have schema 1 or 2, got 3"):
        write(lambda metrics: metrics.update(schema=3))


def test_the_alarm_stands_at_the_top_only_when_a_class_is_given_up(write):
    def give_up(metrics):
        table = np.array(metrics["methods"][-1]["confusion"])
        table[:, 0] += table[:, 1]
        table[:, 1] = 0
        metrics["methods"][-1]["confusion"] = table.tolist()

    page = write(give_up)
    top = section(page, "scores")
    assert "Collapse alarm: never predicted: forest" in top
    assert top.index("Collapse alarm") < top.index("changes tail macro-F1")


@pytest.mark.parametrize("value", [0.049, 0.05])
def test_labels_are_recommended_only_where_the_gain_is_supported(value, write):
    def change(metrics):
        for entry in metrics["label_value"]["classes"]:
            for found in entry.get("values", []):
                found["gain_low"] = value

    found = section(write(change), "labels")
    assert ("If the law holds" in found) == (value >= 0.05)
    assert ("For none of these" in found) == (value < 0.05)


def test_few_effective_samples_are_warned_of(write):
    def change(metrics):
        metrics["methods"][-1]["priors"]["backward-50"]["effective_rows"] = 12.4

    assert "effective sample size of 12" in section(write(change), "priors")
    assert "effective sample size of" not in section(write(), "priors")


def test_relative_accuracy_has_a_column_only_where_it_is_known(write):
    def change(metrics):
        metrics["methods"][-1]["relative_accuracy"] = 0.876

    assert "87.6" in section(write(change), "ranking")
    assert "balanced training" not in section(write(), "ranking")


def test_names_of_classes_are_escaped_in_the_new_sections(write):
    for anchor in ("ranking", "labels", "coverage"):
        assert "<b>bold</b>" not in section(write(nasty=True, n_classes=7), anchor)


def test_rows_are_compared_by_worst_class_ranking_and_coverage(fake_comparison, tmp_path):
    page = write_method_comparison(
        ComparisonResult.from_json(fake_comparison()), tmp_path / "c.html"
    ).read_text("utf-8")
    found = section(page, "measures")
    for text in ("12.3 ± 2.0", "34.5", "chance 8.3", "3.4", "53.0 ± 1.0"):
        assert text in found, text


@pytest.mark.parametrize("old", ["all", "one"])
def test_rows_of_an_earlier_version_are_left_out_by_name(old, fake_comparison, tmp_path):
    comparison = fake_comparison()
    rows = comparison["rows"]
    for row in rows if old == "all" else rows[1:2]:
        row["measures"] = None
    page = write_method_comparison(
        ComparisonResult.from_json(comparison), tmp_path / "c.html"
    ).read_text("utf-8")
    found = section(page, "measures")
    assert "earlier version" in found
    assert ("<table" in found) == (old == "one")
