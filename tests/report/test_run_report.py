import base64
import io
import json
import re
from html import escape
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import matplotlib
import numpy as np
import pytest
from PIL import Image

from tailora.errors import RunError
from tailora.report import write_report
from tailora.report.map_figure import asked_means

HEADINGS = [
    "Results",
    "Which classes to trust",
    "The long tail",
    "F1 per class",
    "The value of more labels",
    "Shots, worst class and ranking",
    "Other class priors",
    "Map of features, before and after",
    "Composition of the clusters",
    "Confusions",
    "Misclassified samples of rare classes",
    "Map of errors",
    "Distances between classes",
    "Neural collapse and distribution shift",
    "Probability calibration",
    "Prediction sets",
    "Training curves",
    "Cost",
    "What was adapted",
    "Data caveats",
    "Reproducibility",
]


class Outline(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.headings, self.rows = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "h2" and data.strip():
            self.headings.append(data)
        if self.rows and self.rows[-1] and data.strip():
            self.rows[-1][-1] += data.strip() + " "

    def handle_endtag(self, tag):
        if tag == "table":
            self.rows.append([])

    def values(self, name):
        return [value for key, value in self.attributes if key == name]

    def row(self, first):
        return next(
            [c.strip() for c in row] for row in self.rows if row and row[0].strip() == first
        )


def decode(uri):
    return base64.b64decode(uri.partition(",")[2])


def svg_texts(page, alt_start):
    outline = Outline(page)
    images = list(zip(outline.values("src"), outline.values("alt"), strict=True))
    uri = next(src for src, alt in images if alt.startswith(alt_start))
    return [
        node.text for node in ET.fromstring(decode(uri)).iter("{http://www.w3.org/2000/svg}text")
    ]


def change_json(path, change):
    value = json.loads(path.read_text("utf-8"))
    change(value)
    path.write_text(json.dumps(value), "utf-8")


@pytest.fixture(scope="module")
def page_of(fake_run, tmp_path_factory):
    pages = {}

    def make(**options):
        key = repr(sorted(options.items()))
        if key not in pages:
            folder = fake_run.write_fake_run(tmp_path_factory.mktemp("run"), **options)
            pages[key] = write_report(folder).read_text("utf-8")
        return pages[key]

    return make


def test_page_asks_for_nothing_outside_itself(page_of):
    page = page_of()
    outline = Outline(page)
    assert all(uri.startswith("data:image/") for uri in outline.values("src"))
    assert all(target.startswith("#") for target in outline.values("href"))
    assert not {"script", "link", "iframe", "object", "base"} & set(outline.tags)
    rest = re.sub(r'src="data:[^"]*"', "", page)
    assert not any(word in rest for word in ("http", "url(", "@import", "srcset"))


def test_figures_ask_for_nothing_outside_themselves(page_of):
    for uri in Outline(page_of()).values("src"):
        if "svg" in uri[:30]:
            links = re.findall(r'href="([^"]{1,20})', decode(uri).decode("utf-8"))
            assert all(link.startswith(("#", "data:")) for link in links)


def test_every_class_name_is_escaped(page_of, fake_run):
    page = page_of(nasty=True)
    outline = Outline(page)
    for name in fake_run.NASTY_NAMES:
        assert escape(name).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page
        assert outline.row(name)
    assert "b" not in outline.tags
    assert "<broken" not in page


def test_figures_keep_dollars_and_foreign_letters(page_of):
    texts = svg_texts(page_of(nasty=True), "Bar chart")
    assert {"$x_1$ & {{ 7*7 }}", "Gewässer", "зона", "居住区", "<b>bold</b>"} <= set(texts)


def test_sections_stand_in_the_promised_order(page_of):
    assert Outline(page_of()).headings == HEADINGS


@pytest.mark.parametrize(
    ("tail", "verdict"),
    [
        ((0.021, 0.003, 0.04), "+2.1 points over LoRA, 95 % interval [0.3, 4.0]: it helps."),
        (
            (-0.02, -0.04, -0.001),
            "-2.0 points over LoRA, 95 % interval [-4.0, -0.1]: it hurts.",
        ),
        ((0.004, -0.012, 0.02), "[-1.2, 2.0]: no difference can be claimed."),
    ],
)
def test_the_verdict_on_the_tail_comes_first(page_of, unrendered, tail, verdict):
    page = page_of(n_classes=3, tail=tail, arrays=False)
    assert verdict in page
    assert page.index("changes tail macro-F1") < page.index("<table")


def test_without_the_arrays_the_page_says_what_is_left_out(page_of, unrendered):
    page = page_of(arrays=False)
    assert Outline(page).headings == HEADINGS
    assert page.count("Not shown: report.npz is missing.") == 2
    assert "The heat map is not shown" in page


def test_the_same_folder_gives_the_same_bytes(fake_run, tmp_path):
    folder = fake_run.write_fake_run(tmp_path / "run", n_classes=4)
    first = write_report(folder, out=tmp_path / "first.html").read_bytes()
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context(
        {"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "path"}
    ):
        second = write_report(folder, out=tmp_path / "second.html").read_bytes()
    assert first == second
    assert dict(matplotlib.rcParams) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.html", "run", "second.html"]


def test_two_classes_have_no_middle(page_of, unrendered):
    row = Outline(page_of(n_classes=2)).row("LoRA")
    assert row == ["LoRA", "80.0 [77.0, 83.0]", "–", "50.0 [47.0, 53.0]", "62.0 [59.0, 65.0]",
                   "65.0", "85.0"]  # fmt: skip


def test_sixty_classes_stay_below_three_megabytes(page_of):
    page = page_of(n_classes=60)
    assert len(page.encode("utf-8")) < 3_000_000
    name = "class with a rather long descriptive name number 59"
    assert name in Outline(page).values("title")
    assert len(svg_texts(page, "Bar chart")) >= 120


def test_trust_table_lists_classes_by_frequency_with_their_scores(page_of, fake_run):
    outline = Outline(page_of())
    names = fake_run.class_names(12)
    first = outline.row(names[0])
    assert first[1:4] == ["head", "2,000", "200"]
    assert first[8] == "trusted"
    order = [row[0].strip() for row in outline.rows if len(row) == 9]
    assert order == ["class", *names]
    assert outline.row(names[-1])[3:8] == ["0", "–", "–", "–", ""]
    assert outline.row(names[-1])[8] == "untested no test samples"


def test_the_supported_best_is_the_only_bold_one(page_of):
    assert re.findall(r"<strong>(.*?)</strong>", page_of()) == ["53.0"]  # the tail, by the pair
    assert "<strong>" not in page_of(n_classes=3, tail=(0.004, -0.012, 0.02), arrays=False)


def test_confusion_figure_shows_shares_of_the_true_class(fake_run, tmp_path):
    folder = fake_run.write_fake_run(tmp_path, n_classes=2)

    def set_counts(metrics):
        metrics["methods"][-1]["confusion"] = [[150, 50], [1, 5]]

    change_json(folder / "metrics.json", set_counts)
    page = write_report(folder).read_text("utf-8")
    texts = svg_texts(page, "Confusion matrix")
    numbers = [text for text in texts if text.isdigit()]
    assert numbers == ["75", "25", "17", "83"]  # 150/200, 50/200, 1/6, 5/6
    assert {"residential (200)", "forest (6)"} <= set(texts)
    assert "residential predicted as forest (50 of 200)" in page
    assert "forest taken for residential (" not in page  # one sample is no pattern


def test_a_class_that_is_never_predicted_raises_the_alarm(fake_run, unrendered, tmp_path):
    folder = fake_run.write_fake_run(tmp_path, n_classes=2)

    def collapse(metrics):
        metrics["methods"][-1]["confusion"] = [[200, 0], [6, 0]]

    change_json(folder / "metrics.json", collapse)
    assert "Never predicted on the test split: forest." in write_report(folder).read_text("utf-8")


def test_thumbnails_show_the_pixels_that_were_kept(fake_run, unrendered, tmp_path):
    folder = fake_run.write_fake_run(tmp_path, n_classes=4)
    outline = Outline(write_report(folder).read_text("utf-8"))
    images = [uri for uri in outline.values("src") if uri.startswith("data:image/png")]
    kept = np.load(folder / "report.npz")["thumbs"]
    assert len(images) == len(kept)
    for uri, pixels in zip(images, kept, strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(decode(uri)))), pixels)


def test_rings_lie_where_calibration_puts_the_mean_of_the_samples():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(3, 7, 2))
    keep, targets = np.array([0.3, 1.0, 0.6]), rng.normal(size=(3, 2))
    expected = [
        [
            sum(keep[c] * z[i] + (1 - keep[c]) * targets[c][i] for z in samples[c]) / 7
            for i in (0, 1)
        ]
        for c in (0, 2)
    ]
    np.testing.assert_allclose(asked_means(keep, samples.mean(axis=1), targets), expected)


def test_what_an_earlier_version_did_not_write_may_be_missing(fake_run, unrendered, tmp_path):
    folder = fake_run.write_fake_run(tmp_path, n_classes=3, arrays=False, measured=False)
    needed = {"schema", "complete", "method", "dataset", "backbone", "input"}

    def strip_metrics(metrics):
        metrics["methods"] = metrics["methods"][-1:]
        metrics["methods"][0]["macro_f1"] = dict.fromkeys(("all", "head", "middle", "tail"))
        metrics |= {"paired": [], "clusters": None}

    def strip_run(run):
        for key in set(run) - needed:
            del run[key]
        for key in set(run["dataset"]) - {"fingerprint", "bands"}:
            del run["dataset"][key]

    change_json(folder / "metrics.json", strip_metrics)
    change_json(folder / "run.json", strip_run)
    outline = Outline(write_report(folder).read_text("utf-8"))
    # nothing is known of clusters, as of a method that has none
    of_debiasing = {"Map of features, before and after", "Composition of the clusters"}
    assert outline.headings == [h for h in HEADINGS if h not in of_debiasing]
    assert [cell[:1] for cell in outline.row("debLoRA")[1:5]] == ["–"] * 4


@pytest.mark.parametrize(
    ("name", "key"),
    [("metrics.json", "bootstrap"), ("metrics.json", "methods"), ("run.json", "dataset")],
)
def test_what_every_version_wrote_may_not_be_missing(name, key, fake_run, tmp_path):
    folder = fake_run.write_fake_run(tmp_path, n_classes=3, arrays=False)
    change_json(folder / name, lambda content: content.pop(key))
    with pytest.raises(RunError, match=f"{name}' is damaged: {key}: Field required"):
        write_report(folder)


def test_no_two_numbers_of_a_cell_stand_together_when_it_is_copied(page_of):
    scores = page_of().partition("<body>")[2].partition('<section id="record"')[0]
    text = re.sub(r"<[^>]+>", "", scores)
    assert not re.search(r"\d\.\d+\.\d|\d\[", text)


def test_code_that_is_under_no_version_control_is_not_spoken_of(fake_run, unrendered, tmp_path):
    folder = fake_run.write_fake_run(tmp_path, n_classes=3, arrays=False)
    assert "<dt>code</dt>" in write_report(folder).read_text("utf-8")
    change_json(folder / "run.json", lambda run: run.update(git=None))
    page = write_report(folder).read_text("utf-8")
    assert "<dt>code</dt>" not in page
    assert "<dt>versions</dt>" in page


def test_recipe_leaks_and_code_state_are_shown(page_of):
    page = page_of()
    assert "lr = 0.001" in page
    assert "was trained: lora of rank 8, 10 epochs by auto at a learning rate of 0.001" in page
    assert "a/1.png (train) = b/2.png (test)" in page
    assert "commit 0123abc with uncommitted changes" in page
    assert "a/broken &lt;1&gt;.png" in page


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("run.json", '{"schema": 2, "complete": true}', "format 2; this version reads format 1"),
        ("metrics.json", "{", "damaged"),
        ("metrics.json", '{"schema": 1}', "damaged: groups: Field required"),
        ("metrics.json", None, "missing"),
        ("recipe.toml", "a = ", "not TOML"),
        ("report.npz", "no archive", "delete it"),
        ("classes.json", None, "missing"),
        ("recipe.toml", None, "missing"),
    ],
)
def test_a_folder_that_cannot_be_read_is_named(fake_run, tmp_path, name, content, words):
    folder = fake_run.write_fake_run(tmp_path, n_classes=3)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(RunError, match=words) as caught:
        write_report(folder)
    assert "\n" not in str(caught.value)
    assert not (folder / "report.html").exists()


def test_a_run_without_mistakes_on_rare_classes_says_so(fake_run, unrendered, tmp_path):
    folder = fake_run.write_fake_run(tmp_path, n_classes=3)
    arrays = dict(np.load(folder / "report.npz"))
    empty = {name: value[:0] for name, value in arrays.items() if name.startswith("thumb")}
    np.savez(folder / "report.npz", **empty)
    page = write_report(folder).read_text("utf-8")
    assert "Not shown: no test sample of a rare class was misclassified." in page
    assert "Not shown: no map was stored." in page


def test_with_many_pairs_only_the_one_that_decides_is_put_into_words(
    fake_run, unrendered, tmp_path
):
    folder = fake_run.write_fake_run(tmp_path, n_classes=3, arrays=False)

    def add_pairs(metrics):
        first = metrics["paired"][0]
        metrics["paired"] = [
            {**first, "method": "lora", "against": "zero-shot"},
            first,
            {**first, "against": "zero-shot"},
        ]

    change_json(folder / "metrics.json", add_pairs)
    page = write_report(folder).read_text("utf-8")
    assert page.count("changes tail macro-F1") == 1
    assert "over LoRA" in page
    assert Outline(page).row("debLoRA − zero-shot")[3] == "+2.1 [0.3, 4.0]"


def test_ordinary_fine_tuning_is_compared_with_first(fake_run, unrendered, tmp_path):
    folder = fake_run.write_fake_run(tmp_path, n_classes=3, arrays=False)

    def add_own_head(metrics):
        *_, lora, deblora = metrics["methods"]
        fitted = {"head": "logit-adjusted"}
        ordinary = {**lora, "head": "own"}
        metrics["methods"] = [ordinary, {**lora, **fitted}, {**deblora, **fitted}]
        (pair,) = metrics["paired"]
        heads = {"head": "logit-adjusted", "against_head": "logit-adjusted"}
        gain = {"macro_f1_difference": {**pair["macro_f1_difference"], "tail": 0.153},
                "interval": {**pair["interval"], "tail": [0.12, 0.18]}}  # fmt: skip
        metrics["paired"] = [
            {**pair, **heads, "method": "lora", "against_head": "own"},
            {**pair, **heads, **gain, "against_head": "own"},
            {**pair, **heads},
        ]

    change_json(folder / "metrics.json", add_own_head)
    page = write_report(folder).read_text("utf-8")
    first, second = re.findall(
        r"debLoRA[^.]* changes tail macro-F1 by [^.]*\.\d points over ([^,]+),", page
    )
    assert (first, second) == ("LoRA with its own head", "LoRA")
    outline = Outline(page)
    row = outline.row("debLoRA with the logit-adjusted head − LoRA with its own head")
    assert row[3] == "+15.3 [12.0, 18.0]"
    assert outline.row("debLoRA − LoRA")[3] == "+2.1 [0.3, 4.0]"
    assert "is ordinary fine-tuning" in page


def test_a_run_that_moved_no_class_says_so(fake_run, unrendered, tmp_path, page_of):
    words = "No class was rare enough to be moved"
    assert words not in page_of(n_classes=3)
    folder = fake_run.write_fake_run(tmp_path, n_classes=3)
    arrays = dict(np.load(folder / "report.npz"))
    arrays |= {"keep": np.ones(3), "targets": np.full((3, 2), np.nan)}
    np.savez(folder / "report.npz", **arrays)
    assert words in write_report(folder).read_text("utf-8")
