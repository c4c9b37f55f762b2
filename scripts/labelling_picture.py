"""The picture of the labelling page in the documentation, by the Chromium that is installed.

    python scripts/labelling_picture.py [OUT_FOLDER]

The images are Blue Marble's, the answers those of its labels.
"""

import io
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from unittest.mock import patch

import uvicorn
from PIL import Image
from playwright.sync_api import Page, sync_playwright

import tailora
from tailora.labelling.server import create_app
from tailora.labelling.session import LabellingSession

IMAGES = Path(__file__).parents[1] / "docs" / "images"
ANSWERS, ON_PAGE, SECONDS = 120, 7, 3
WIDTH, HEIGHT = 1280, 760


def main() -> None:
    """Label, serve and draw."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES
    data = tailora.open_dataset("bluemarble")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session"
        with (
            LabellingSession.create(
                "bluemarble", path, classes=data.classes, background=False
            ) as session,
            patch("tailora.labelling.session.time") as clock,
        ):
            clock.time.side_effect = count(0, SECONDS)  # between answers, as of somebody quick
            answered = 0
            while answered < ANSWERS:
                for query in session.queries(24):
                    session.answer(
                        query.item, data.classes[data.labels[query.item]], seconds=SECONDS
                    )
                    answered += 1
                page = session.advance(24)
            for query in page[:ON_PAGE]:
                session.answer(query.item, data.classes[data.labels[query.item]], seconds=SECONDS)
            shown = picture(session)
    keep(shown, out / "labelling.png")


def picture(session: LabellingSession) -> bytes:
    """Draw the page of a session as PNG."""
    with opened_page(session, WIDTH, HEIGHT) as page:
        page.wait_for_selector("#neighbours img")
        page.wait_for_load_state("networkidle")
        return page.screenshot()


@contextmanager
def opened_page(session: LabellingSession, width: int, height: int) -> Iterator[Page]:
    """Serve a session and open its page in Chromium."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    with socket.create_server(("127.0.0.1", 0)) as listening, sync_playwright() as started:
        port = listening.getsockname()[1]
        app = create_app(session, token="once", port=port)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            flags = ["--no-sandbox", "--disable-gpu"]
            chromium = started.chromium.launch(executable_path=browser, args=flags)
            page = chromium.new_page(viewport={"width": width, "height": height})
            page.goto(f"http://127.0.0.1:{port}/?token=once")
            page.wait_for_selector("#chips [aria-current]")
            yield page
            chromium.close()
        finally:
            server.should_exit = True
            thread.join()


def keep(shown: bytes, target: Path) -> None:
    """Save a picture of a page with few colours, so that it loads at once."""
    few = Image.open(io.BytesIO(shown)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(target, optimize=True)
    print(target, target.stat().st_size)


if __name__ == "__main__":
    main()
