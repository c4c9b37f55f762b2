"""Hooks of mkdocs: what the site holds beyond docs/, and what a strict build must find in it.

Links are written for readers of the repository. Here those that leave docs/ are led to copies that
the site holds, so one text serves both.
"""

import ast
import logging
import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md"} | {name: name for name in ("CONTRIBUTING.md", "CHANGELOG.md")}
LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(?=[#)])")
ANCHOR = re.compile(r'id="?(tailora[\w.]*)')
# what a page loads; links that a reader clicks may lead anywhere
OUTSIDE = re.compile(r"<(?:script|img|iframe|source)[^>]*src=\"?https?:|<link[^>]*href=\"?https?:")
log = logging.getLogger("mkdocs.hooks.docs_site")


def on_config(config: MkDocsConfig) -> None:
    """Add the pages of results to the navigation: which there are depends on what was measured."""
    section = next(item["Results"] for item in config.nav or [] if "Results" in item)
    found = (
        path.relative_to(config.docs_dir) for path in Path(config.docs_dir, "results").glob("*.md")
    )
    section += sorted({path.as_posix() for path in found} - set(section))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages at the root of the repository, and the files that any page links to."""
    for source, uri in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    for file in list(files.documentation_pages()):
        page = _in_repository(file.src_uri)
        for link in LINK.findall((ROOT / page).read_text("utf-8")):
            path = _target(page, link)
            outside = not path.startswith("docs/") and (ROOT / path).is_file()
            if outside and _in_site(path) not in files.src_uris:
                source = str(ROOT / path)
                files.append(File.generated(config, _in_site(path), abs_src_path=source))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Write the links of a page as they are in the site."""
    source, folder = _in_repository(page.file.src_uri), posixpath.dirname(page.file.src_uri)
    if folder == "results":
        page.meta["hide"] = ["toc"]  # its place is for tables

    def in_site(found: re.Match[str]) -> str:
        return posixpath.relpath(_in_site(_target(source, found[1])), folder or ".")

    return LINK.sub(in_site, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Warn, which ends a strict build, of public names left out and of what a page would fetch."""
    texts = {path: path.read_text("utf-8") for path in Path(config.site_dir).rglob("*.html")}
    anchors = {name for text in texts.values() for name in ANCHOR.findall(text)}
    for name in sorted(public_names()):
        # a module hides the function of its own name from griffe, which has its own directive then
        if not anchors & {name, f"{name}.{name.rpartition('.')[2]}"}:
            log.warning("%s is public but stands on no page of docs/reference", name)
    for path, text in texts.items():
        if found := OUTSIDE.search(text):
            log.warning("%s loads something from outside: %s", path, found[0])


def public_names() -> set[str]:
    """Every name of every `__all__`, with its package, read without importing anything."""
    found = set()
    for path in (ROOT / "src").rglob("__init__.py"):
        package = ".".join(path.parent.relative_to(ROOT / "src").parts)
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                found |= {f"{package}.{name}" for name in ast.literal_eval(node.value)}
    return found


class Examples(griffe.Extension):
    """Show the one `Example:` of a docstring as code; griffe knows only several."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section."""
        if text := obj.docstring:
            text.value = re.sub(r"(?m)^(\s*)Example:$", r"\1Examples:", text.value)


def _in_repository(uri: str) -> str:
    return next((source for source, page in PAGES.items() if page == uri), f"docs/{uri}")


def _in_site(path: str) -> str:
    return PAGES.get(path, path.removeprefix("docs/"))


def _target(page: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
