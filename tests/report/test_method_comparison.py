import base64
import json
import re
from html import escape, unescape
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from tailora.errors import RunError
from tailora.registry import method_title
from tailora.report import write_method_comparison
from tailora.report.method_verdict import verdict_notes
from tailora.runs.comparison import ComparisonResult

NASTY = ["<b>bold</b>", 'R&D "site"', "it's, here", "$x_1$ & {{ 7*7 }}", "зона", "居住区"]


class Outline(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.headings, self.tables = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "h2" and data.strip():
            self.headings.append(data)
        if self.tables and self.tables[-1] and self.tables[-1][-1] and data.strip():
            cell = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = f"{cell} {data.strip()}".strip()

    def handle_endtag(self, tag):
        if tag == "table":
            self.tables.append([])

    def values(self, name):
        return [value for key, value in self.attributes if key == name]

    def table(self, first):
        """The rows of the first table whose first heading is `first`."""
        return next(table for table in self.tables if table and table[0][0] == first)


def svg_texts(page, alt_start):
    outline = Outline(page)
    images = zip(outline.values("src"), outline.values("alt"), strict=True)
    uri = next(src for src, alt in images if alt.startswith(alt_start))
    svg = ET.fromstring(base64.b64decode(uri.partition(",")[2]))
    return [node.text for node in svg.iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture
def page_of(tmp_path):
    def make(comparison):
        json.dumps(comparison, allow_nan=False)  # what the page is made of fits in a file
        found = ComparisonResult.from_json(comparison)
        return write_method_comparison(found, tmp_path / "page.html").read_text("utf-8")

    return make


@pytest.fixture(scope="module")
def full_page(fake_comparison, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "new" / "page.html"
    assert write_method_comparison(ComparisonResult.from_json(fake_comparison()), out) == out
    return out.read_text("utf-8")


def text_of(page):
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def words(comparison):
    return [
        (note.tone, note.text) for note in verdict_notes(ComparisonResult.from_json(comparison))
    ]


def said(comparison):
    return " ".join(text for _, text in words(comparison))


def test_sections_stand_in_the_order_of_the_questions(full_page):
    assert Outline(full_page).headings == [
        "Results",
        "Scores",
        "Method by probe",
        "Gains",
        "Ranks over seeds",
        "F1 per class",
        "Worst class, ranking and coverage",
        "Distances between classes",
        "Accuracy and calibration",
        "Cost",
        "Reproducibility",
    ]


def test_page_asks_for_nothing_outside_itself(full_page):
    outline = Outline(full_page)
    assert all(uri.startswith("data:image/") for uri in outline.values("src"))
    assert all(target.startswith("#") for target in outline.values("href"))
    assert not {"script", "link", "iframe", "object", "base"} & set(outline.tags)
    assert "http" not in re.sub(r'src="data:[^"]*"', "", full_page)


def test_the_same_comparison_gives_the_same_bytes(fake_comparison, page_of):
    small = {"n_adapters": 3, "n_probes": 1}
    assert page_of(fake_comparison(**small)) == page_of(fake_comparison(**small))


def test_each_probe_has_a_table_with_every_method_under_it(full_page, fake_comparison):
    outline = Outline(full_page)
    comparison = fake_comparison()
    row = comparison["rows"][2]
    table = outline.table("probe: logit-adjusted")
    assert table[0][1:] == [
        *("head", "middle", "tail", "all", "tail − LoRA", "all − LoRA", "time", "parameters"),
    ]
    names = [method_title(adapter) for adapter in comparison["adapters"]]
    names[3] += " adapter.rank = 16"
    assert [line[0] for line in table[1:]] == [*names[:-1], f"{names[-1]} leaks the label"]
    shown = next(line for line in table if line[0] == "debLoRA")
    tail = row["scores"]["tail"]
    assert shown[3] == f"{100 * tail['mean']:.1f} ± {100 * tail['deviation']:.1f}"
    assert shown[5:] == ["+3.0 [1.0, 5.0]", "+1.5 [-0.5, 3.5]", "2 min 10 s", "294,912"]
    assert table[2][5:7] == ["–", "–"]  # the method compared against
    assert outline.table("probe: class-balanced")[1][0] == "zero-shot"
    assert "<strong>" not in full_page


def test_a_supported_gain_is_said_to_be_one(fake_comparison):
    comparison = fake_comparison(n_probes=1, n_adapters=3, gain=0.03)
    notes = words(comparison)
    assert (
        "good",
        "On the tail, better than LoRA: debLoRA +3.0 [1.0, 5.0]. Worse: zero-shot "
        "-5.0 [-7.0, -3.0].",
    ) in notes
    assert (
        "open",
        "On all classes no gain over LoRA can be claimed: none of 2 intervals lies above zero. "
        "Worse: zero-shot -2.5 [-4.5, -0.5].",
    ) in notes
    score = comparison["rows"][2]["scores"]["tail"]
    assert notes[0][1].startswith(
        f"Highest tail macro-F1: debLoRA, {100 * score['mean']:.1f} ± "
        f"{100 * score['deviation']:.1f} over 3 seeds. Next: LoRA, "
    )
    assert notes[0][1].endswith(
        "Relative to LoRA it changes by +3.0 points [1.0, 5.0]: this gain is supported."
    )
    assert notes[1][1].endswith("+1.5 points [-0.5, 3.5]: no gain can be claimed.")


@pytest.mark.parametrize("gain", [0.01, -0.01, 0.02])
def test_no_gain_is_claimed_where_no_interval_lies_above_zero(fake_comparison, gain):
    text = said(fake_comparison(n_probes=1, n_adapters=3, gain=gain))
    assert "On the tail no gain over LoRA can be claimed: none of 2 intervals" in text
    assert "this gain is supported" not in text
    assert "better than" not in text


def test_several_probes_are_named_and_compared_within_each(fake_comparison):
    text = said(fake_comparison(n_probes=2, n_adapters=3))
    assert (
        "On the tail, better than LoRA with the same probe: debLoRA with logit-adjusted "
        "+3.0 [1.0, 5.0]; debLoRA with cross-entropy +3.0 [1.0, 5.0]. Worse: zero-shot (2 probes)."
    ) in text
    assert "by chance alone" not in text
    assert "of 18, about 0.5 would show a gain" in said(fake_comparison())


def test_what_leaks_is_never_praised(fake_comparison, full_page):
    comparison = fake_comparison(gain=0.0)
    best = max(comparison["rows"], key=lambda row: row["scores"]["tail"]["mean"])
    assert best["leaks"]
    text = said(comparison)
    assert "Highest tail macro-F1: fine-tuning with logit-adjusted" in text
    assert "On the tail no gain over LoRA" in text
    assert text.count("cLoRA (oracle)") == 1
    assert "Not included in these verdicts (leaks the label): cLoRA (oracle)." in text
    assert '<span class="badge weak">leaks the label</span>' in full_page
    assert "cLoRA (oracle) (leaks)" in svg_texts(full_page, "Heat map")


def test_the_method_compared_against_may_be_the_highest(fake_comparison):
    comparison = fake_comparison(n_probes=1, n_adapters=2)
    text = said(comparison)
    assert "Highest tail macro-F1: LoRA" in text
    assert "It is the reference method." in text
    assert "can be claimed: the one interval does not" in text


def test_without_a_method_to_compare_against_nothing_is_claimed(fake_comparison, page_of):
    comparison = fake_comparison(n_probes=1, n_adapters=3, against=None)
    for row in comparison["rows"]:
        row["difference"] = None
    assert said(comparison).count("no gain can be claimed") == 1
    page = page_of(comparison)
    assert "Not shown: there is no reference method." in page
    assert Outline(page).table("method")[0][4:6] == ["all", "time"]
    assert "None" not in text_of(page).replace("None is bold", "")


def test_one_seed_says_that_the_deviation_is_unknown(fake_comparison, page_of):
    comparison = fake_comparison(n_seeds=1, n_probes=1, n_adapters=3)
    page = page_of(comparison)
    text = text_of(page)
    assert "One seed: the standard deviation over seeds is unknown." in text
    assert "3 methods with 1 probe over 1 seed" in text
    assert "with one seed, ranks are not informative" in text
    assert "±" not in " ".join(cell for row in Outline(page).table("method") for cell in row)
    assert "One seed" not in said(fake_comparison(n_probes=1, n_adapters=3))


def test_an_unfinished_comparison_says_so(fake_comparison):
    notes = words(fake_comparison(n_probes=1, n_adapters=3, complete=False))
    assert notes[0] == ("bad", "The comparison is incomplete: results may still change.")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"resplit": False},
            "bootstrap resamples of whole groups of samples of the test split and the spread",
        ),
        ({"resplit": True}, "from the spread of paired differences over seeds (Student's t)"),
        (
            {"unit": "sample", "seeds": [7]},
            "1,000 bootstrap resamples of single samples of the test split; ",
        ),
    ],
)
def test_the_record_says_how_intervals_came_about(fake_comparison, page_of, changes, sentence):
    assert sentence in text_of(page_of(fake_comparison(n_probes=1, n_adapters=3, **changes)))


def test_sizes_that_differ_from_seed_to_seed_are_given_as_a_range(fake_comparison, page_of):
    dataset = {"name": "x", "n_train": [900, 1100, 1000], "n_val": [50, 50], "n_test": None}
    page = page_of(fake_comparison(n_probes=1, n_adapters=3, resplit=True, dataset=dataset))
    assert "900 to 1,100 train / 50 validation images" in text_of(page)
    assert "drawn per seed" in page


def test_every_name_is_escaped(fake_comparison, page_of):
    comparison = fake_comparison(n_probes=2, n_adapters=3, names=NASTY)
    for row in comparison["rows"]:
        row["adapter"] = f"<i>{row['adapter']}</i>"
        row["probe"] = f"{row['probe']} <&> [red]"
    comparison.update(
        probes=[f"{p} <&> [red]" for p in comparison["probes"]], against="<i>lora</i>"
    )
    page = page_of(comparison)
    outline = Outline(page)
    for name in NASTY:
        assert escape(name).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
    assert not {"b", "i", "tiles"} & set(outline.tags)
    assert {"$x_1$ & {{ 7*7 }}", "居住区", "<b>bold</b>"} <= set(svg_texts(page, "Dot plot"))
    assert "<i>deblora</i>" in svg_texts(page, "Heat map")
    assert "probe: logit-adjusted <&> [red]" in printed(comparison)


def test_nulls_are_dashes_and_sections_say_what_is_missing(fake_comparison, page_of):
    comparison = fake_comparison(n_probes=2, n_adapters=3)
    nothing = {"mean": None, "deviation": None, "per_seed": [None, None, None]}
    for row in comparison["rows"]:
        row.update(
            scores={**row["scores"], "tail": nothing},
            difference=row["difference"]
            and {s: {"mean": None, "low": None, "high": None} for s in row["difference"]},
            ranks=dict.fromkeys(row["ranks"]), per_class=[], geometry=None, ece=None,
            purity=None, seconds=None, peak_memory_mb=None, accuracy=None,
        )  # fmt: skip
    comparison |= {"git": None, "machine": None, "versions": None, "recipe": None, "classes": []}
    page = page_of(comparison)
    text = text_of(page)
    assert "No row has a tail macro-F1" in text
    assert "On the tail no gain over LoRA can be claimed: no difference has an interval." in text
    assert "It was not compared with LoRA." in text
    for reason in ("there is no reference", "no ranks", "no per-class scores", "no distances"):
        assert f"Not shown: {reason}" in text
    score = comparison["rows"][2]["scores"]["all"]
    over_all = f"{100 * score['mean']:.1f} ± {100 * score['deviation']:.1f}"
    shown = Outline(page).table("probe: logit-adjusted")[3]
    assert shown[3:] == ["–", over_all, "–", "–", "–", "294,912"]
    assert not re.search(r"\b(None|nan|null)\b(?! is bold)", text)


def test_a_difference_without_an_interval_supports_nothing(fake_comparison, page_of):
    comparison = fake_comparison(n_probes=1, n_adapters=3)
    comparison["rows"][2]["difference"]["tail"] = {"mean": 0.2, "low": None, "high": None}
    assert "+20.0 points (no interval): no gain can be claimed" in said(comparison)
    assert "+20.0 (no interval)" in text_of(page_of(comparison))


def test_at_most_six_methods_are_drawn_per_class(full_page, page_of, fake_comparison):
    shown = svg_texts(full_page, "Dot plot")
    assert "LoRA" in shown
    assert not {"zero-shot", "cLoRA (oracle)"} & set(shown)
    assert "6 of 8 methods, LoRA and those best on the tail" in text_of(full_page)
    few = page_of(fake_comparison(n_probes=1, n_adapters=3))
    assert {"zero-shot", "LoRA", "debLoRA"} <= set(svg_texts(few, "Dot plot"))
    assert "Method by probe" not in Outline(few).headings


def test_the_forest_groups_rows_by_probe_and_leaves_out_the_one_compared_against(full_page):
    texts = svg_texts(full_page, "Paired differences of 21 rows to LoRA")
    assert texts.count("debLoRA") == 3
    assert "LoRA" not in texts
    assert {"probe: cross-entropy", "gain supported", "open", "loss supported"} <= set(texts)


def test_rows_set_otherwise_are_told_apart_by_their_names(fake_comparison, page_of):
    comparison = fake_comparison(n_probes=1, n_adapters=3)
    twin = {**comparison["rows"][2], "name": "deblora rank 16", "changes": {"adapter.rank": 16}}
    comparison["rows"].append(twin)
    table = Outline(page_of(comparison)).table("method")
    assert [row[0] for row in table[3:]] == [
        "deblora / logit-adjusted",
        "deblora rank 16",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"schema": 2}, "must have schema 1, got 2"), ({"rows": []}, "damaged: rows: ")],
)
def test_a_comparison_of_another_kind_is_refused(fake_comparison, changes, message):
    comparison = fake_comparison(n_probes=1, n_adapters=2) | changes
    with pytest.raises(RunError, match=message):
        ComparisonResult.from_json(comparison)


def printed(comparison):
    console = Console(width=160)
    with console.capture() as captured:
        console.print(ComparisonResult.from_json(comparison).table())
    return re.sub(r"\s+", " ", captured.get())


def test_the_terminal_shows_scores_and_differences(fake_comparison):
    comparison = fake_comparison(n_probes=2)
    text = printed(comparison)
    tail = comparison["rows"][2]["scores"]["tail"]
    assert f"{100 * tail['mean']:.1f} ± {100 * tail['deviation']:.1f}" in text
    assert "+3.0 [1.0, 5.0] │ +1.5 [-0.5, 3.5]" in text
    assert "cLoRA (oracle) (leaks the label)" in text
    assert text.index("probe: logit-adjusted") < text.index("probe: cross-entropy")
    assert "mean ± standard deviation over 3 seeds; paired differences with 95 % intervals" in text
    assert "resampled: whole groups, 1,000 times" in text


def test_the_terminal_says_what_is_unknown(fake_comparison):
    alone = printed(fake_comparison(n_seeds=1, n_probes=1, n_adapters=3, against=None))
    assert "one seed: the deviation over seeds is unknown" in alone
    assert "interval" not in alone
    assert "probe:" not in alone
    anew = printed(fake_comparison(n_probes=1, n_adapters=3, resplit=True))
    assert "intervals from the spread over seeds" in anew


def test_rows_are_named_by_what_tells_them_apart(fake_comparison, page_of):
    comparison = fake_comparison(n_probes=1, n_adapters=3)
    row = comparison["rows"][2]
    shared = {"deblora.head": "targets"}
    comparison["rows"][2:] = [
        {**row, "method": "deblora", "adapter": f"deblora [{k}]", "name": f"deblora [{k}]",
         "changes": {**shared, "deblora.clusters": k}}
        for k in (8, 32)
    ]  # fmt: skip
    table = Outline(page_of(comparison)).table("method")
    assert [row[0] for row in table[3:]] == [
        "debLoRA clusters 8; deblora.head = targets",
        "debLoRA clusters 32; deblora.head = targets",
    ]
