"""Who may use the labelling page: one person's browser on this machine, and nobody else."""

import secrets
from typing import Final, final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_THIS_MACHINE: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_LARGEST: Final = 65_536  # bytes of a request
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",  # the address holds the token
    "x-content-type-options": "nosniff",
}


@final
class Guard:
    """Lets requests through that come from the page, which a token opens.

    The token in the address of the page is answered with a cookie that scripts cannot read and
    other sites cannot send. Host and Origin are checked too, since a site whose name is made to
    point to this machine would otherwise be the page's own origin (DNS rebinding). The port is not
    compared: a tunnel may have another.

    Args:
        app: What is guarded.
        token: Opens the page as often as wanted.
        once: Opens it a single time: for the browser that is started with it, since other users of
            the machine can see the arguments of its process.
        port: Part of the cookie's name, because browsers share cookies between ports.
    """

    def __init__(self, app: ASGIApp, *, token: str, once: str, port: int) -> None:
        self._app = app
        self._token, self._once = token, once
        self._cookie, self._secret = f"tailora-label-{port}", secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with one line."""
        if scope["type"] != "http":
            raise RuntimeError(f"no {scope['type']} here")
        asked = HTTPConnection(scope)
        refusal = self._refusal(asked)
        opens = refusal is None and self._is_opened_by_token(asked)
        if refusal is None and not opens and not self._has_cookie(asked):
            refusal = "this page needs its token: open the address that `tailora label` printed"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
                if opens:
                    headers["set-cookie"] = (
                        f"{self._cookie}={self._secret}; Path=/; HttpOnly; SameSite=Strict"
                    )
            await send(message)

        answer = self._app if refusal is None else PlainTextResponse(refusal, 403)
        await answer(scope, receive, send_with_headers)

    def _refusal(self, asked: HTTPConnection) -> str | None:
        host = asked.headers.get("host", "")
        if not _is_this_machine(host):
            return "this page is for this machine: open it as 127.0.0.1 or localhost"
        origin = asked.headers.get("origin")
        changes = asked.scope["method"] not in ("GET", "HEAD")
        if (origin is not None or changes) and origin != f"http://{host}":
            return "requests of other pages are refused"
        size = asked.headers.get("content-length", "0")
        if not size.isdigit() or int(size) > _LARGEST or "transfer-encoding" in asked.headers:
            return f"a request has at most {_LARGEST} bytes"
        return None

    def _is_opened_by_token(self, asked: HTTPConnection) -> bool:
        given = asked.query_params.get("token")
        if given is None or asked.url.path != "/":
            return False
        if self._once and _same(given, self._once):
            self._once = ""
            return True
        return _same(given, self._token)

    def _has_cookie(self, asked: HTTPConnection) -> bool:
        return _same(asked.cookies.get(self._cookie, ""), self._secret)


def _is_this_machine(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in _THIS_MACHINE
    except ValueError:
        return False


def _same(given: str, wanted: str) -> bool:
    return secrets.compare_digest(given.encode(), wanted.encode())
