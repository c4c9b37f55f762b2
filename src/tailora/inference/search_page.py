"""Examples and hits of a search as a page of thumbnails."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tailora.inference.search_examples import Example
from tailora.inference.search_pool import Pool
from tailora.inference.search_result import FIRST, SearchResult
from tailora.numbers import counted, percent
from tailora.report.blocks import Facts, Gallery, Listing, Page, Section, Thumbnail, write_page
from tailora.report.style import as_picture, image_uri


def write_search(
    found: SearchResult,
    pool: Pool,
    examples: Sequence[Example],
    like: int,
    rows: Sequence[int],
    out: Path,
) -> Path:
    """Write thumbnails of examples and hits as a page; return `out`.

    Args:
        found: What was found.
        pool: What was searched.
        examples: Examples, then counter-examples.
        like: Number of the former.
        rows: Number of each hit in the pool.
        out: File to write.

    Raises:
        StorageError: It cannot be written.
    """
    against = examples[like:]
    facts = [("searched", f"{found.searched:,}"), ("copies of examples", str(found.copies))]
    if found.quality is not None:
        quality = found.quality
        facts += [
            ("class", quality.name),
            (f"precision at {FIRST}", f"{percent(quality.precision)} %"),
            ("average precision", f"{percent(quality.average_precision)} %"),
            ("its share of the images", f"{percent(quality.images / quality.searched)} %"),
        ]
    hits = tuple(
        _thumbnail(
            pool.source.read(row), pool, (f"{hit.rank} · {hit.score:.3f}", hit.label or ""), hit.id
        )
        for hit, row in zip(found.hits, rows, strict=True)
    )
    sections = (
        _examples("examples", "Examples", examples[:like], pool),
        *([_examples("counter-examples", "Counter-examples", against, pool)] if against else []),
        Section(
            "hits", "Hits", "Rank and score of each, the most similar first.", (Gallery(hits),)
        ),
        Section("about", "About", "", (Facts(tuple(facts)), Listing(found.notes))),
    )
    subtitle = f"{counted(len(found.hits), 'hit')} of {found.searched:,}"
    return write_page(Page(found.data, subtitle, sections, "tailora search"), out)


def _examples(anchor: str, title: str, examples: Sequence[Example], pool: Pool) -> Section:
    items = []
    for one in examples:
        image = pool.source.read(one.row) if one.row is not None else one.image
        if image is not None:
            label = (None if one.row is None else pool.label(one.row)) or ""
            items.append(_thumbnail(image, pool, (Path(one.name).name, label), one.name))
    return Section(anchor, title, "", (Gallery(tuple(items)),))


def _thumbnail(image: NDArray[Any], pool: Pool, lines: Sequence[str], title: str) -> Thumbnail:
    names = pool.bands if pool.bands is not None and len(pool.bands) == len(image) else None
    uri = image_uri(as_picture(image, names))
    return Thumbnail(uri, title, tuple(line for line in lines if line), title)
