"""Lay a page out as one HTML file."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from tailora.report.blocks import Page
from tailora.storage import write_text


def write_page(page: Page, out: Path) -> Path:
    """Write a page atomically; everything it needs is inside the file."""
    write_text(out, _template().render(page=page))
    return out


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("tailora.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("template.html")
