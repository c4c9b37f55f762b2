"""Serves the labelling page on this machine until Ctrl-C."""

import errno
import importlib
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from tailora.errors import ConfigError
from tailora.labelling.session import LabellingSession

PORT: Final = 8765
_HOST: Final = "127.0.0.1"
_PRINT: Final = partial(print, flush=True)  # a pipe would keep the address until the end
_WAIT: Final = 1  # seconds that open connections may take at the end


def require_server(port: int = 0) -> Any:
    """Import uvicorn, and see that Starlette is there and the port free.

    Raises:
        ConfigError: One of them is not installed, or the port is in use or out of range.
    """
    _listen(port).close()
    try:
        importlib.import_module("starlette")
        return importlib.import_module("uvicorn")
    except ImportError as error:
        raise ConfigError(
            "the labelling page needs starlette and uvicorn: pip install 'tailora[label]'"
        ) from error


def serve(
    session: LabellingSession,
    *,
    port: int = PORT,
    browser: bool = True,
    say: Callable[[str], None] = _PRINT,
) -> None:
    """Serve the page of a session until it is interrupted.

    Args:
        session: What is labelled.
        port: 0 takes any that is free.
        browser: Open the page in the browser.
        say: Called with lines: the address of the page, that no browser opens, how it ends.

    Raises:
        ConfigError: The port is in use or out of range, or the server is not installed.
        DataError: The first image cannot be read.
    """
    uvicorn = require_server()
    from tailora.labelling.server import create_app

    token, once = secrets.token_urlsafe(32), secrets.token_urlsafe(32) if browser else ""
    with _listen(port) as listening:
        taken = listening.getsockname()[1]
        app = create_app(session, token=token, once=once, port=taken)
        page = f"http://{_HOST}:{taken}/?token="
        say(f"open this address to label: {page}{token}")
        if browser and not _open(page + once):
            say("no browser was opened: open the address in one")
        say("Ctrl-C ends; the same command continues")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, lifespan="off",
            timeout_graceful_shutdown=_WAIT,
        )  # fmt: skip
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            return


def _listen(port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise ConfigError(f"--port must lie in [0, 65535], got {port}")
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # there it lets two programs share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((_HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        why = "is in use" if error.errno == errno.EADDRINUSE else "cannot be used"
        raise ConfigError(
            f"port {port} {why}: choose another, or --port 0 for any that is free"
        ) from error
    return listening


def _open(address: str) -> bool:
    """Open an address in a browser with windows; one in the terminal would hide its output."""
    on_screen = sys.platform in ("win32", "darwin") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    try:
        return on_screen and webbrowser.open(address)
    except webbrowser.Error:
        return False
