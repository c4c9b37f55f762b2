import socket
import time

import huggingface_hub.constants
import pytest

from tailora.backbones.hub import hub_is_reachable


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def _online(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def point_to(monkeypatch, url):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)


def test_a_hub_that_listens_is_reachable(listening, monkeypatch):
    point_to(monkeypatch, f"http://127.0.0.1:{listening}")
    assert hub_is_reachable()


def test_a_hub_that_refuses_is_not_and_that_is_known_at_once(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    point_to(monkeypatch, f"http://127.0.0.1:{closed}")
    start = time.monotonic()
    assert not hub_is_reachable()
    assert time.monotonic() - start < 3.5


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
@pytest.mark.parametrize(("value", "reachable"), [("1", False), ("true", False), ("0", True)])
def test_offline_mode_is_obeyed(name, value, reachable, listening, monkeypatch):
    point_to(monkeypatch, f"http://127.0.0.1:{listening}")
    monkeypatch.setenv(name, value)
    assert hub_is_reachable() is reachable


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_behind_a_proxy_the_proxy_is_asked(scheme, listening, monkeypatch):
    point_to(monkeypatch, "http://hub.invalid")
    assert not hub_is_reachable()
    monkeypatch.setenv("http_proxy", f"{scheme}127.0.0.1:{listening}")
    assert hub_is_reachable()


def test_a_hub_that_needs_no_proxy_is_asked_itself(listening, monkeypatch):
    point_to(monkeypatch, f"http://127.0.0.1:{listening}")
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    assert not hub_is_reachable()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert hub_is_reachable()
