"""The labelling page in a real browser: keys, undo, reload, sizes, and nothing on its console."""

import shutil
import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from tests.data.scenes import write_scene
from tests.end_to_end.chips import write_chips
from tests.labelling.pages import CLASSES, TOKEN, create_app, journal, make_session

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
uvicorn = pytest.importorskip("uvicorn")

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")
NAMES = ("B02", "B03", "B04", "B08")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A session on the windows of a scene."""
    folder = tmp_path_factory.mktemp("page")
    pixels = np.random.default_rng(0).integers(1, 3000, (4, 112, 168), dtype=np.uint16)
    scene = write_scene(folder / "scene.tif", pixels, names=NAMES, nodata=0)
    with make_session(folder, scene, bands=NAMES[:3], chip=14, target=20) as opened:
        yield opened


@contextmanager
def served(session, *, token=TOKEN, port=0):
    """Serve a session in a thread; gives its port."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        port = listening.getsockname()[1]
        app = create_app(session, token=token, port=port)
        config = uvicorn.Config(
            app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def address(session):
    """Serves the session in a thread; returns its address."""
    with served(session) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = started.chromium.launch(executable_path=BROWSER, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium, address):
    """Opens the page in a window; at the end nothing may have failed."""
    failed, opened = [], []

    def open_tab(width=1280, height=800, **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        page = context.new_page()
        opened.append(context)
        page.on("console", lambda said: failed.append(said.text))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("response", lambda got: got.status >= 400 and failed.append(got.url))
        page.goto(f"{address}?token={TOKEN}")
        page.wait_for_selector("#chips [aria-current]")
        return page

    yield open_tab
    for context in opened:
        context.close()
    assert not failed


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


def until(page, condition):
    """Wait until something of the page is true; what Playwright has for this, the CSP forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"{condition}: {page.inner_text('#message')}")


def until_told(page, text):
    until(page, f"document.querySelector('#message').textContent.includes({text!r})")


def recorded(page):
    """The chips of the page as the server has them."""
    return page.evaluate("fetch('state').then((reply) => reply.json())")["page"]


def until_answered(page, *expected):
    """Wait until the first answers of the page are recorded."""
    for _ in range(200):
        found = tuple(chip["answer"] for chip in recorded(page))[: len(expected)]
        if found == expected:
            return
        page.wait_for_timeout(20)
    raise AssertionError(found)


def said(page):
    return page.locator("#chips .said").all_inner_texts()


def focused(page):
    """Number of the chip that has the focus, -1 if none has."""
    return page.evaluate(
        "[...document.querySelectorAll('#chips button')].indexOf(document.activeElement)"
    )


def test_keys_label_undo_and_find_and_a_reload_keeps_all(tab):
    page = tab()
    assert page.url.endswith("/")  # the token is not in the address any more
    assert focused(page) == 0
    press(page, "1", "s", "ArrowRight", "3", "ArrowLeft", "ArrowLeft", "x")
    until_answered(page, CLASSES[0], "unsure", "skip", CLASSES[2])
    assert focused(page) == 4
    press(page, "/")
    page.keyboard.type("zzz")
    press(page, "Enter")
    assert page.inner_text("#not-found") == "No class matches 'zzz'."
    press(page, "Escape", "/")
    page.keyboard.type("QUARRY")
    press(page, "Enter")
    until_answered(page, CLASSES[0], "unsure", "skip", CLASSES[2], CLASSES[1])
    assert page.locator("#chips .name").nth(4).inner_text() == CLASSES[1]  # as text, not as HTML
    counts = "[...document.querySelectorAll('#classes .count')].map((e) => e.textContent).join()"
    until(page, f"{counts} === '1/20,1/20,1/20'")
    press(page, "u")
    until_told(page, "Undone")
    assert focused(page) == 4
    press(page, "Control+z")
    until_answered(page, CLASSES[0], "unsure", None, CLASSES[2])
    until_told(page, "Undone: chip 3.")
    press(page, "7")
    until_told(page, "No class has the key 7.")
    before = said(page)
    page.reload()
    page.wait_for_selector("#chips [aria-current]")
    assert said(page) == before
    assert focused(page) == 2
    assert page.inner_text("#message") == "21 of 24 left on this page."
    other = tab()  # another tab shows the same, and each sees what the other does
    assert said(other) == before
    press(other, "2")
    until_answered(other, CLASSES[0], "unsure", CLASSES[1])
    press(page, "u")
    until_told(page, "Undone: chip 3.")


BEHIND = """
() => { // the button comes into focus while it lies behind the line in place below
  const next = document.querySelector("#next");
  next.blur();
  scrollBy(0, next.getBoundingClientRect().bottom - innerHeight);
  next.focus();
}
"""


def test_the_page_turns_and_suggestions_are_confirmed(tab):
    page = tab(height=560)
    page.select_option("#size", "12")
    until(page, "document.querySelectorAll('#chips button').length === 12")
    press(page, *"121212121212")
    until(page, "document.activeElement.id === 'next'")
    page.evaluate(BEHIND)
    below = page.locator("#message").bounding_box()["y"]
    box = page.locator("#next").bounding_box()
    assert box["y"] + box["height"] + 5 < below  # seen whole, with its outline
    press(page, "Enter")
    until_told(page, "to label.")
    until(page, "document.querySelector('#figures').textContent.includes('version')")
    offered = page.locator("#chips .name").all_inner_texts()
    item = next(i for i, name in enumerate(offered) if name.endswith("?"))
    page.locator("#chips button").nth(item).click()
    press(page, "Space")
    until_answered(page, *[None] * item, offered[item].rstrip("?").replace("\u200b", ""))
    left = page.locator("#confirm-all").inner_text().split()[1]
    press(page, "a")
    assert f"confirms {left} suggestions" in page.inner_text("#message")
    press(page, "a")
    until(page, "document.querySelector('#confirm-all').hidden")
    confirmed = said(page)
    press(page, "u")
    until_told(page, f"Undone: {left} answers.")
    until_answered(page, *[None] * item, offered[item].rstrip("?").replace("\u200b", ""))
    press(page, "a", "a")
    until(page, "document.querySelector('#confirm-all').hidden")
    assert said(page) == confirmed
    blind = [chip for chip in recorded(page) if chip["acquisition"] in ("random", "check")]
    assert blind
    assert not any(chip["answer"] for chip in blind)  # nothing was suggested, so nothing confirmed
    assert "random check" in " ".join(said(page))


def test_answers_outlive_the_server_and_the_end_says_what_to_do(chromium, tmp_path):
    pool = write_chips(tmp_path / "pool", {"a": 8, "b": 6})
    options = {"random_share": 1.0}  # all are random checks
    with make_session(tmp_path, pool, **options) as opened, chromium.new_context() as context:
        page = context.new_page()
        with served(opened) as port:
            page.goto(f"http://127.0.0.1:{port}/?token={TOKEN}")
            page.wait_for_selector("#chips [aria-current]")
            assert page.inner_text("#message") == "14 images to label."
            press(page, "1")
            until_answered(page, CLASSES[0])
            assert page.inner_text("#shares") == "Share of each class: after 9 more random checks."
        press(page, "2", "3")
        until_told(page, "Not saved yet: the server does not answer")
        with served(opened, token="another", port=port):
            until_told(page, "open the address that `tailora label` printed: your 2 answers wait")
            page.goto(f"http://127.0.0.1:{port}/?token=another")
            until_told(page, "2 answers that waited in this browser")
            until_answered(page, *CLASSES)
            assert sum(line["kind"] == "answer" for line in journal(opened)) == 3
            assert page.evaluate("localStorage.length") == 0
            assert "chip" not in page.inner_text("body").lower()
            press(page, *"1" * 11)
            until(page, "!document.querySelector('#done').hidden")
            end = f"then tailora label export {tmp_path}/session --out labels.csv"
            assert page.inner_text("#done").startswith(
                "All 14 are labelled. Ctrl-C in the terminal"
            )
            assert page.inner_text("#done").endswith(end)
            assert page.locator("#next").is_hidden()
            press(page, "n")
            until(page, "document.querySelector('#classes').textContent.includes('about 86 %')")
            assert page.locator("#shares").is_hidden()
            assert len(said(page)) == 14
            assert opened.advance(24) == []  # as sessions ended before
            page.reload()
            until(page, "!document.querySelector('#done').hidden")
            assert page.locator("aside").is_hidden()


CONTRAST = """
() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${e.tagName} ${e.id} ${e.className} ${ratio}`);
  }
  return poor;
}
"""
NAMELESS = """
() => [...document.querySelectorAll("button, select, input, img, dialog, [role=listbox]")].filter(
  (e) => e.checkVisibility() && !(e.ariaLabel || e.getAttribute("aria-labelledby")
    || e.getAttribute("alt") !== null || e.labels?.length || e.innerText?.trim())
).map((e) => e.outerHTML)
"""


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (1280, "dark")])
def test_small_and_large_dark_and_light(tab, session, tmp_path, monkeypatch, width, scheme):
    monkeypatch.setattr(session, "_why", "MemoryError (see failures.log in the session)")
    page = tab(width, 640, color_scheme=scheme)
    assert "renewed: MemoryError" in page.locator("#failed").inner_text()
    until(page, "document.querySelector('#chips img').naturalWidth > 0")
    page.evaluate("document.querySelector('#chips img').dispatchEvent(new Event('error'))")
    assert page.locator("#chips .lost").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    assert page.evaluate(NAMELESS) == []
    assert page.locator("#chips button").first.bounding_box()["y"] < 320  # seen at once
    columns = page.evaluate(
        "new Set([...document.querySelectorAll('#chips li')].map((e) => e.offsetLeft)).size"
    )
    assert columns >= 2 if width == 320 else columns >= 4
    # the chip in focus is seen whole, between what stays in place above and below it
    press(page, "End")
    assert page.evaluate("document.activeElement.matches(':focus-visible')")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    box, message = page.locator("#chips button").last.bounding_box(), page.locator("#message")
    assert box["y"] + box["height"] <= message.bounding_box()["y"]
    for picture in ("near", "around", "scene"):
        until(page, f"document.querySelector('#{picture}').naturalWidth > 0")
        assert page.get_attribute(f"#{picture}", "alt")
    press(page, "b", "c", "z")
    until(page, "document.querySelector('#zoomed').naturalWidth > 0")
    assert "bands=1&contrast=own" in page.get_attribute("#zoomed", "src")
    press(page, "z", "?", "Escape")
    assert focused(page) >= 0
    image = page.screenshot(path=tmp_path / f"{width}-{scheme}.png")
    assert image[:4] == b"\x89PNG"
