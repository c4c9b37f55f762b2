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
from itertools import count
from pathlib import Path
from unittest.mock import patch

import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

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
    target = out / "labelling.png"
    Image.open(io.BytesIO(shown)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        target, optimize=True
    )
    print(target, target.stat().st_size)


def picture(session: LabellingSession) -> bytes:
    """Draw the page of a session as PNG."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    with socket.create_server(("127.0.0.1", 0)) as listening, sync_playwright() as started:
        port = listening.getsockname()[1]
        app = create_app(session, token="once", port=port)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        chromium = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(f"http://127.0.0.1:{port}/?token=once")
        page.wait_for_selector("#neighbours img")
        page.wait_for_load_state("networkidle")
        shown = page.screenshot()
        chromium.close()
        server.should_exit = True
        thread.join()
    return shown


if __name__ == "__main__":
    main()
