"""The labelling page's server: who gets in, what is recorded, and what is repeated."""

import io
import re
import shutil
import socket
import sys
import webbrowser

import numpy as np
import pytest

from tailora.errors import ConfigError
from tailora.labelling import serve
from tailora.labelling.session import LabellingSession
from tests.labelling.pages import (
    CLASSES,
    HOST,
    PORT,
    TOKEN,
    Page,
    TestClient,
    create_app,
    journal,
    make_session,
    open_page,
    reopened,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of a session without answers."""
    with make_session(tmp_path_factory.mktemp("made")) as opened:
        return opened.folder


@pytest.fixture
def session(made, tmp_path):
    with reopened(made, tmp_path / "session") as opened:
        yield opened


@pytest.fixture
def page(session):
    return open_page(session)


# -------------------------------------------------------------------- who gets in


@pytest.fixture(scope="module")
def unchanged(made, tmp_path_factory):
    """A session that tests share: none of their requests changes it."""
    with reopened(made, tmp_path_factory.mktemp("shared") / "session") as opened:
        yield opened


@pytest.fixture
def stranger(unchanged):
    """A client without cookie."""
    app = create_app(unchanged, token=TOKEN, once="single", port=PORT)
    return TestClient(app, base_url=HOST)


@pytest.mark.parametrize("address", ["/", "/?token=wrong", "/?token=", "/state", "/label.js"])
def test_nothing_is_shown_without_the_token(stranger, address):
    reply = stranger.get(address)
    assert reply.status_code == 403
    assert reply.text == "this page needs its token: open the address that `tailora label` printed"
    assert "set-cookie" not in reply.headers


def test_the_token_opens_the_page_and_nothing_else(stranger):
    assert stranger.get("/state", params={"token": TOKEN}).status_code == 403
    reply = stranger.get("/", params={"token": TOKEN})
    assert reply.status_code == 200
    assert "<title>" in reply.text
    cookie = reply.headers["set-cookie"]
    assert cookie.startswith(f"tailora-label-{PORT}=")
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert stranger.get("/state").status_code == 200
    stranger.cookies.clear()
    stranger.cookies.set(f"tailora-label-{PORT}", "x")
    assert stranger.get("/state").status_code == 403


def test_the_token_of_the_browser_that_was_started_works_once(stranger):
    assert stranger.get("/", params={"token": "single"}).status_code == 200
    stranger.cookies.clear()
    assert stranger.get("/", params={"token": "single"}).status_code == 403
    assert stranger.get("/", params={"token": TOKEN}).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example", 403), ("127.0.0.1.evil.example:8765", 403), ("[::1", 403), ("", 403),
     ("localhost:9000", 200), ("[::1]:8765", 200)],
)  # fmt: skip
def test_only_names_of_this_machine_are_answered(stranger, host, status):
    reply = stranger.get("/", params={"token": TOKEN}, headers={"host": host})
    assert reply.status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [(None, 403), ("null", 403), ("http://evil.example", 403), ("http://127.0.0.1:9999", 403),
     ("https://127.0.0.1:8765", 403), (HOST, 422)],
)  # fmt: skip
def test_changes_are_asked_for_by_the_page_alone(stranger, origin, status):
    stranger.get("/", params={"token": TOKEN})
    headers = {} if origin is None else {"origin": origin}
    assert stranger.post("/undo", json={}, headers=headers).status_code == status


def test_replies_forbid_scripts_of_others(stranger):
    for reply in (stranger.get("/"), stranger.get("/", params={"token": TOKEN})):
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert {part.split()[-1] for part in policy.split("; ")} == {"'none'", "'self'"}
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cache-control"] == "no-store"
    text = reply.text
    assert "style=" not in text
    assert "onclick" not in text
    assert "<script>" not in text
    assert "http" not in text


# -------------------------------------------------------------------- answers


def test_an_answer_is_on_the_disk_before_the_reply(session, page):
    chip = page.state()["page"][0]
    before = len(journal(session))
    reply = page.post("/answer", item=chip["item"], answer=CLASSES[1], seconds=1.5).json()
    [line] = journal(session)[before:]
    assert (line["item"], line["answer"], line["seconds"]) == (chip["item"], CLASSES[1], 1.5)
    assert reply["page"][0]["answer"] == CLASSES[1]
    assert reply["status"]["counts"] == dict(zip(CLASSES, (0, 1, 0), strict=True))
    assert page.post("/undo").json()["undone"] == [chip["item"]]
    assert page.state()["page"][0]["answer"] is None
    assert page.post("/undo").json()["undone"] == []


def test_what_is_confirmed_at_once_is_undone_at_once(session, page):
    first, *items = [chip["item"] for chip in page.state()["page"][:5]]
    page.post("/answer", item=first, answer=CLASSES[1])
    given = {str(item): CLASSES[0] for item in items}
    assert page.post("/confirm", answers=given).json()["status"]["answered"] == 5
    assert page.again("/confirm", answers=given).json()["status"]["answered"] == 5
    reply = page.post("/undo").json()
    assert (reply["undone"], reply["status"]["answered"]) == (items[::-1], 1)
    assert [line["kind"] for line in journal(session)[-8:]] == ["answer"] * 4 + ["undo"] * 4


def test_what_is_repeated_is_done_once(session, page):
    items = [chip["item"] for chip in page.state()["page"]]
    for item in items[:3]:
        page.post("/answer", item=item, answer=CLASSES[0])
    before = len(journal(session))
    assert page.again("/answer", item=items[2], answer=CLASSES[0]).status_code == 200
    assert len(journal(session)) == before
    page.post("/undo")
    assert page.again("/undo").json()["status"]["answered"] == 2
    page.post("/advance", items=items)
    shown = page.again("/advance", items=items).json()["page"]
    assert shown == page.state()["page"]
    assert not {chip["item"] for chip in shown} & set(items[:2])


def test_a_kill_between_answer_and_reply_loses_and_doubles_nothing(session, page, tmp_path):
    [first, second, *_] = [chip["item"] for chip in page.state()["page"]]
    page.post("/answer", item=first, answer=CLASSES[0])
    page.post("/answer", item=second, answer=CLASSES[1])  # whose reply is lost
    with reopened(session.folder, tmp_path / "killed") as after:
        again = open_page(after)
        again.number, before = page.number - 1, len(journal(after))
        state = again.post("/answer", item=second, answer=CLASSES[1]).json()
        assert state["status"]["counts"] == dict(zip(CLASSES, (1, 1, 0), strict=True))
        assert [chip["item"] for chip in state["page"][:2]] == [first, second]
        assert len(journal(after)) == before
        assert again.post("/undo").json()["undone"] == [second]
    with reopened(after.folder, tmp_path / "again") as third:  # whose reply was lost as well
        last = open_page(third)
        last.number = again.number
        assert last.again("/undo").json()["status"]["answered"] == 1


def test_two_tabs_see_the_same_and_turn_the_page_once(page):
    other = Page(page.client, tab="cd34")
    items = [chip["item"] for chip in page.state()["page"]]
    page.post("/answer", item=items[0], answer=CLASSES[0])
    state = other.post("/answer", item=items[1], answer="unsure").json()
    assert [chip["answer"] for chip in state["page"][:2]] == [CLASSES[0], "unsure"]
    turned = page.post("/advance", items=items).json()["page"]
    assert [chip["item"] for chip in turned] != items
    assert other.post("/advance", items=items).json()["page"] == turned
    # an answer for a chip that the other tab has turned away still counts
    late = other.post("/answer", item=items[2], answer=CLASSES[2]).json()
    assert late["status"]["answered"] == 3
    assert page.post("/undo").json()["undone"] == [items[2]]


def test_a_head_that_cannot_be_fitted_is_told_and_loses_nothing(made, tmp_path):
    def told(path):
        items = [chip["item"] for chip in page.state()["page"]]
        page.post(path, items=items)
        opened._fitting.join()
        return page.state()["status"]

    folder = shutil.copytree(made, tmp_path / "session")
    with LabellingSession.open(folder) as opened:
        page, features = open_page(opened), opened._space.features
        opened._space.features = np.where(np.arange(features.shape[1]) == 1, np.nan, features)
        for chip, answer in zip(page.state()["page"], CLASSES, strict=False):
            page.post("/answer", item=chip["item"], answer=answer)
        status = told("/advance")
        assert status["failed"].startswith("DataError: features contain NaN")
        assert "failures.log" in status["failed"]
        assert (status["version"], status["counts"]) == (0, dict.fromkeys(CLASSES, 1))
        assert "Traceback" in (folder / "failures.log").read_text("utf-8")
        opened._space.features = features
        status = told("/advance")  # tries again, also without new answers
        assert (status["version"], status["failed"]) == (1, None)


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/answer", {"item": 0, "answer": "watr"}, 422, "unknown class 'watr'; did you mean"),
        ("/answer", {"item": 60, "answer": "water"}, 404, "there is no image 60"),
        ("/answer", {"item": -1, "answer": "water"}, 404, "there is no image -1"),
        ("/confirm", {"answers": {"0": "watr"}}, 422, "unknown class 'watr'; did you mean"),
        ("/confirm", {"answers": {"60": "water"}}, 404, "there is no image 60"),
        ("/confirm", {"answers": {"x": "water"}}, 422, "answers.x.[key]: Input should be"),
        ("/undo", {"session": "other"}, 409, "another session is served here now: reload"),
        ("/answer", {"item": "0", "answer": "water"}, 422, "item: Input should be a valid integer"),
        ("/answer", {"answer": "water"}, 422, "item: Field required"),
        ("/answer", {"item": 0, "answer": "water", "seconds": -1}, 422, "seconds"),
        ("/phase", {"phase": "guess"}, 422, "phase: Input should be 'find', 'refine' or 'check'"),
        ("/size", {"size": 13}, 422, "size: Input should be 12, 24, 36 or 60"),
        ("/undo", {"more": 1}, 422, "more: Extra inputs are not permitted"),
    ],
)
def test_bad_orders_are_refused_in_one_line(unchanged, path, body, status, said):
    reply = open_page(unchanged).post(path, **body)
    assert reply.status_code == status
    assert said in reply.json()["error"]
    assert "\n" not in reply.json()["error"]


def test_requests_that_are_no_orders_are_refused(unchanged):
    page = open_page(unchanged)
    headers = {"origin": HOST}
    assert page.client.post("/undo", content=b"{", headers=headers).status_code == 422
    assert page.client.post("/undo", content=b" " * 70_000, headers=headers).status_code == 403
    assert page.client.get("/undo").status_code == 405
    for path in ("/chip/x.png", "/chip/60.png", "/surroundings/0.png", "/overview.png", "/nothing",
                 "/neighbours/99", "/chip/..%2f..%2fsession.json"):  # fmt: skip
        assert page.client.get(path).status_code == 404, path
    for look in ("bands=9", "bands=-1", "bands=x", "contrast=none", "scale=2"):
        assert page.client.get(f"/chip/0.png?{look}").status_code == 422, look


def test_what_the_page_is_told(page):
    told = page.client.get("/session").json()
    assert [one["name"] for one in told["classes"]] == list(CLASSES)
    assert [one["key"] for one in told["classes"]] == ["1", "2", "3"]
    assert told["bands"][0] == "bands 1, 2, 3"
    assert not told["places"]
    assert told["one"] == "image"
    assert told["export"].endswith("/session --out labels.csv")
    assert "image in focus" in page.client.get("/", params={"token": TOKEN}).text
    assert len(page.post("/size", size=12).json()["page"]) == 12
    assert page.client.get("/session").json()["size"] == 12
    shown = {chip["item"] for chip in page.state()["page"]}
    coming = page.client.get("/upcoming").json()
    assert len(coming) == 12
    assert not set(coming) & shown
    state = page.post("/phase", phase="check").json()
    assert not state["status"]["automatic"]
    assert page.post("/phase", phase=None).json()["status"]["automatic"]
    item = state["page"][0]["item"]
    page.post("/answer", item=item, answer=CLASSES[0])
    near = page.client.get(f"/neighbours/{state['page'][1]['item']}").json()
    assert near == [{"item": item, "answer": CLASSES[0]}]
    picture = page.client.get(f"/chip/{item}.png?scale=1")
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["cache-control"].startswith("private")


# -------------------------------------------------------------------- serving


def test_a_busy_port_is_said_in_one_line(unchanged):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for ask in (serve.require_server, lambda port: serve.serve(unchanged, port=port)):
            with pytest.raises(ConfigError, match=f"port {port} is in use: .* --port 0"):
                ask(port)
    with pytest.raises(ConfigError, match=r"--port must lie in \[0, 65535\], got 65536"):
        serve.require_server(65_536)


def test_without_the_server_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"pip install 'tailora\[label\]'"):
        serve.require_server()


def interrupted(_server, sockets):
    raise KeyboardInterrupt


@pytest.mark.parametrize("opens", [True, False])
def test_the_address_is_said_also_where_no_browser_opens(unchanged, monkeypatch, opens):
    said, opened = [], []
    monkeypatch.setenv("BROWSER", "some")
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or opens)
    monkeypatch.setattr("uvicorn.Server.run", interrupted)
    serve.serve(unchanged, port=0, say=said.append)
    [told] = re.findall(r"^open this address to label: (http://127.0.0.1:\S+)$", said[0])
    assert said[1:-1] == ([] if opens else ["no browser was opened: open the address in one"])
    assert said[-1] == "Ctrl-C ends; the same command continues"
    [address] = opened
    assert address.partition("?")[0] == told.partition("?")[0]
    assert address != told  # whose token lasts


def test_a_pipe_gets_the_address_at_once(unchanged, monkeypatch):
    class Pipe(io.StringIO):
        def flush(self):
            flushed.append(self.getvalue())

    flushed = []
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: flushed.append("served"))
    monkeypatch.setattr(sys, "stdout", Pipe())
    serve.serve(unchanged, port=0, browser=False)
    assert "http://127.0.0.1:" in flushed[0]


def test_no_browser_of_the_terminal_is_started(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(webbrowser, "open", lambda _address: pytest.fail("opened"))
    assert not serve._open(HOST)
