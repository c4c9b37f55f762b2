"""A small session of labelling and its page, for tests."""

import json
import shutil

import pytest

from tailora.config.recipe import Recipe
from tailora.labelling.session import LabellingSession
from tests.end_to_end.chips import SIDE, write_chips
from tests.tiny import tiny_encoder_folder

TestClient = pytest.importorskip("starlette.testclient", reason="no extra `label`").TestClient
create_app = pytest.importorskip("tailora.labelling.server").create_app

CLASSES = ("water", 'quarry <b>&"', "forest/wood")
TOKEN = "a-token"
PORT = 8765
HOST = f"http://127.0.0.1:{PORT}"
TAB = "ab12"


def make_session(folder, data=None, *, bands=(), **options):
    """Open a session of 60 chips, or of `data`, with a tiny encoder; heads are fitted at once."""
    if data is None:
        data = write_chips(folder / "chips", {"a": 30, "b": 20, "c": 10}, seed=3)
    encoder = tiny_encoder_folder(folder / "encoder", hidden=16)
    choices = {"backbone.name": str(encoder), "data.image_size": SIDE, "data.bands": [*bands]}
    recipe = Recipe().override(choices)
    return LabellingSession.create(
        data, folder / "session", classes=CLASSES, recipe=recipe,
        **{"target": 4, "background": False, **options},
    )  # fmt: skip


def reopened(folder, copy):
    """Open a copy of a session as it is on the disk, also while it is open itself."""
    shutil.copytree(folder, copy)
    return LabellingSession.open(copy, background=False)


class Page:
    """What a tab of the browser does, without the browser.

    Args:
        client: Has the cookie.
        tab: Name of the tab.
    """

    def __init__(self, client, tab=TAB):
        self.client, self.tab, self.number = client, tab, 0
        self.session = client.get("/session").json()["id"]

    def post(self, path, **body):
        """Send the next order."""
        self.number += 1
        return self.again(path, **body)

    def again(self, path, **body):
        """Send the last order once more, as after a reply that was lost."""
        order = {"session": self.session, "tab": self.tab, "number": self.number, **body}
        return self.client.post(path, json=order, headers={"origin": HOST})

    def state(self):
        return self.client.get("/state").json()


def open_page(session, **options):
    client = TestClient(create_app(session, token=TOKEN, port=PORT, **options), base_url=HOST)
    assert client.get("/", params={"token": TOKEN}).status_code == 200
    return Page(client)


def journal(session):
    """What is on the disk."""
    lines = (session.folder / "answers.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]
