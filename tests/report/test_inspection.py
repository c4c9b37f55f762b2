import base64
import re

import numpy as np

from tailora.report import ClassRow, write_inspection
from tailora.runs.result import Copies

ROWS = [
    ClassRow("rare <1>", {"train": 3, "test": 1}, "tail"),
    ClassRow("common", {"train": 600, "test": 60}, "head"),
    ClassRow("absent", {"train": 0, "test": 0}),
]


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_page_counts_shows_and_warns(tmp_path):
    image = np.full((40, 30, 3), 128, dtype=np.uint8)
    out = write_inspection(
        tmp_path / "new" / "page.html",
        name="Chips & co",
        rows=ROWS,
        notes=["3 images are larger than the rest"],
        thumbnails=[("rare <1>", image), ("common", image)],
        duplicates=[Copies(("x.png", "y.png"), ("train", "test"))],
    )
    page = out.read_text("utf-8")
    text = text_of(page)
    assert "3 classes · 664 images" in text
    assert "common head 600 60 1.0 × rare &lt;1&gt; tail 3 1 200 ×" in text
    assert "absent – 0 0 –" in text
    assert "In more than one split: 1 image." in text
    assert "x.png (train) = y.png (test)" in text
    assert page.count("data:image/png") == 2
    assert page.index("a sample of common") < page.index("a sample of rare")
    assert "http" not in re.sub(r'src="data:[^"]*"', "", page)


def test_data_without_splits_or_findings_are_counted_as_they_are(tmp_path):
    rows = [ClassRow("b", {"all": 2}), ClassRow("a", {"all": 9})]
    page = write_inspection(tmp_path / "page.html", name="x", rows=rows).read_text("utf-8")
    text = text_of(page)
    assert "a – 9 1.0 × b – 2 4.5 ×" in text
    assert "no images were given" in text
    assert "Nothing found" in text


def test_large_thumbnails_are_shrunk(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (900, 600, 3), dtype=np.uint8)
    out = write_inspection(tmp_path / "p.html", name="x", rows=ROWS, thumbnails=[("common", image)])
    assert out.stat().st_size < 150_000


def test_many_classes_are_numbered_in_the_figure_and_named_in_the_table(tmp_path):
    few = [ClassRow(f"no. {c}", {"train": 1000 - c, "test": 1}, "head") for c in range(120)]
    many = [*few, ClassRow("no. 120", {"train": 880, "test": 1}, "tail")]
    small, large = (
        write_inspection(tmp_path / f"{len(rows)}.html", name="x", rows=rows)
        for rows in (few, many)
    )
    for page, in_figure in ((small, True), (large, False)):
        html = page.read_text("utf-8")
        assert "no. 119 head" in text_of(html)
        (figure,) = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", html)
        svg = base64.b64decode(figure).decode("utf-8")
        assert ("no. 119" in svg) == in_figure
        assert ("classes, numbered from 0" in svg) != in_figure
