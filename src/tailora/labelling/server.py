"""The labelling page as a web application: JSON, pictures and four files."""

import hashlib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import resources
from threading import Lock
from typing import Any, Final, Literal, TypeVar, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tailora.class_colours import class_colours, hex_colour
from tailora.errors import DataError, TailoraError, unknown_name
from tailora.labelling.acquisition import PHASES
from tailora.labelling.guard import Guard
from tailora.labelling.journal import SKIP, UNSURE, Phase
from tailora.labelling.pictures import CONTRASTS, SIDES, Pictures
from tailora.labelling.session import LabellingSession, Query

PAGE_SIZES: Final = (12, 24, 36, 60)

_FILES: Final = {
    "index.html": "text/html",
    "label.css": "text/css",
    "label.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_WEEK: Final = 7 * 24 * 3600


class Order(BaseModel):
    """A change that a page asks for.

    Attributes:
        session: That the page is of: another one may be served at its address later.
        tab: Made by the page when it is opened.
        number: Of the order, ascending; what a page repeats because no reply came is done once.
    """

    model_config = ConfigDict(extra="forbid")
    session: str
    tab: str = Field(pattern=r"^[0-9a-f]{1,32}$")
    number: int = Field(ge=1)


class AnswerOrder(Order):
    """The answer for a chip: a class, `"unsure"` or `"skip"`, after some seconds."""

    item: int
    answer: str
    seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class ConfirmOrder(Order):
    """Several answers at once, by the number of the chip; one undo takes them back."""

    answers: dict[int, str]


class AdvanceOrder(Order):
    """The page after the one with these chips; another one stays as it is."""

    items: list[int]


class PhaseOrder(Order):
    """How chips are chosen; None lets the session decide."""

    phase: Phase | None


class SizeOrder(Order):
    """How many chips a page has."""

    size: Literal[12, 24, 36, 60]


_Order = TypeVar("_Order", bound=Order)


def create_app(
    session: LabellingSession, *, token: str, once: str = "", port: int = 80
) -> Starlette:
    """Build the application.

    Args:
        session: What is labelled.
        token: Opens the page; see `Guard`.
        once: As `token`, a single time.
        port: On which it is served.

    Raises:
        DataError: The first image cannot be read.
    """
    desk = Desk(session)
    read = resources.files("tailora.labelling").joinpath("page")
    files = [
        Route(
            "/" if name == "index.html" else f"/{name}",
            _file(read.joinpath(name), media, desk.one),
        )
        for name, media in _FILES.items()
    ]
    posts = [
        Route(path, endpoint, methods=["POST"])
        for path, endpoint in (
            ("/answer", desk.answer),
            ("/confirm", desk.confirm),
            ("/undo", desk.undo),
            ("/advance", desk.advance),
            ("/phase", desk.phase),
            ("/size", desk.size),
        )
    ]
    gets = [
        Route(path, endpoint)
        for path, endpoint in (
            ("/session", desk.session),
            ("/state", desk.state),
            ("/upcoming", desk.upcoming),
            ("/neighbours/{item:int}", desk.neighbours),
            ("/chip/{item:int}.png", desk.chip),
            ("/surroundings/{item:int}.png", desk.surroundings),
            ("/overview.png", desk.overview),
        )
    ]
    guard = Middleware(Guard, token=token, once=once, port=port)
    refusals = {TailoraError: _refused, HTTPException: _not_there}
    return Starlette(
        routes=[*files, *posts, *gets], middleware=[guard], exception_handlers=refusals
    )


def _file(path: Any, media_type: str, one: str) -> Callable[[Request], Response]:
    content = path.read_text("utf-8").replace("{{one}}", one)
    return lambda _request: Response(content, media_type=media_type)


def _refused(_request: Request, error: Exception) -> Response:
    status = 404 if isinstance(error, DataError) else 422
    return JSONResponse({"error": str(error)}, 507 if isinstance(error, OSError) else status)


def _not_there(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


@final
class Desk:
    """Answers the requests of the page; each blocking one runs in a thread.

    Args:
        session: What is labelled.
    """

    def __init__(self, session: LabellingSession) -> None:
        self._session = session
        self._pictures = Pictures(session.pool)
        self.one = "chip" if self._pictures.has_places else "image"
        self._id = _mark(session.folder.resolve(), session.settings)
        self._size = PAGE_SIZES[1]  # of all tabs, which show the same page
        self._done = session.orders()  # last order of each tab, also of a server before this
        self._lock = Lock()

    def session(self, _request: Request) -> Response:
        """Return what stays the same."""
        session, pictures = self._session, self._pictures
        keys = session.settings.keys
        colours = map(hex_colour, class_colours(session.classes))
        labels = "labels.gpkg" if pictures.has_places else "labels.csv"
        return JSONResponse(
            {
                "name": session.pool.name,
                "one": self.one,
                "version": _mark(session.pool.name, session.pool.mark),
                "id": self._id,
                "export": f"tailora label export {shlex.quote(str(session.folder))} --out {labels}",
                "classes": [
                    {"name": name, "key": keys.get(name), "colour": colour}
                    for name, colour in zip(session.classes, colours, strict=True)
                ],
                "bands": [choice.title for choice in pictures.choices],
                "contrasts": [[name, CONTRASTS[name]] for name in pictures.contrasts],
                "sides": SIDES,
                "sizes": PAGE_SIZES,
                "size": self._size,
                "phases": PHASES,
                "places": pictures.has_places,
            }
        )

    def state(self, _request: Request) -> Response:
        """Return counts and estimates, and the current page."""
        return JSONResponse(self._state())

    def upcoming(self, _request: Request) -> Response:
        """Return the chips that the next page would have now, so that they can be fetched."""
        return JSONResponse(self._session.upcoming(self._size))

    def neighbours(self, request: Request) -> Response:
        """Return the labelled chips most like one."""
        found = self._session.neighbours(self._item(request))
        return JSONResponse([{"item": item, "answer": answer} for item, answer in found])

    async def answer(self, request: Request) -> Response:
        """Record an answer; it is on disk before the reply."""
        asked = await _read(request, AnswerOrder)
        self._check_answers({asked.item: asked.answer})

        def record() -> None:
            self._session.answer(
                asked.item, asked.answer, seconds=asked.seconds, tab=_source(asked)
            )

        return await self._once(asked, record)

    async def confirm(self, request: Request) -> Response:
        """Record several answers at once; they are on disk before the reply."""
        asked = await _read(request, ConfirmOrder)
        self._check_answers(asked.answers)
        return await self._once(
            asked, lambda: self._session.answer_at_once(asked.answers, tab=_source(asked))
        )

    async def undo(self, request: Request) -> Response:
        """Take back the last answer, or all that were given at once, also of another tab."""
        asked = await _read(request, Order)
        return await self._once(asked, lambda: self._session.undo(tab=_source(asked)))

    async def advance(self, request: Request) -> Response:
        """Show the next page, unless another tab has done so."""
        asked = await _read(request, AdvanceOrder)

        def turn() -> None:
            if asked.items == [query.item for query in self._session.queries(self._size)]:
                self._session.advance(self._size)

        return await self._once(asked, turn)

    async def phase(self, request: Request) -> Response:
        """Choose how chips are chosen."""
        asked = await _read(request, PhaseOrder)
        return await self._once(asked, lambda: self._session.choose_phase(asked.phase))

    async def size(self, request: Request) -> Response:
        """Choose how many chips a page has."""
        asked = await _read(request, SizeOrder)

        def resize() -> None:
            self._size = asked.size

        return await self._once(asked, resize)

    def chip(self, request: Request) -> Response:
        """Return the picture of a chip."""
        return _picture(self._pictures.chip(self._item(request), *self._look(request)))

    def surroundings(self, request: Request) -> Response:
        """Return the picture of what is around a chip."""
        return _picture(self._pictures.surroundings(self._item(request), *self._look(request)))

    def overview(self, request: Request) -> Response:
        """Return the picture of the scene."""
        choice, _, side = self._look(request)
        return _picture(self._pictures.overview(choice, side))

    async def _once(self, asked: Order, change: Callable[[], Any]) -> Response:
        if asked.session != self._id:
            raise HTTPException(409, "another session is served here now: reload this page")

        def work() -> dict[str, Any]:
            undone: list[int] | None = None
            with self._lock:
                if asked.number > self._done.get(asked.tab, 0):
                    undone = change()
                    self._done[asked.tab] = asked.number
                return {**self._state(), "undone": undone}

        return JSONResponse(await run_in_threadpool(work))

    def _state(self) -> dict[str, Any]:
        queries = self._session.queries(self._size)
        return {
            "session": self._id,
            "status": asdict(self._session.status()),
            "page": [self._chip(query) for query in queries],
        }

    def _chip(self, query: Query) -> dict[str, Any]:
        return {**asdict(query), "place": self._pictures.place(query.item)}

    def _item(self, request: Request) -> int:
        return self._check(request.path_params["item"])

    def _check(self, item: int) -> int:
        if not 0 <= item < len(self._session.pool.source):
            raise DataError(f"there is no {self.one} {item}")
        return item

    def _check_answers(self, answers: Mapping[int, str]) -> None:
        for item, answer in answers.items():
            self._check(item)
            if answer not in (*self._session.classes, UNSURE, SKIP):
                raise unknown_name("class", answer, self._session.classes)

    def _look(self, request: Request) -> tuple[int, str, int]:
        choice = _number(request, "bands", len(self._pictures.choices) - 1)
        contrast = request.query_params.get("contrast", self._pictures.contrasts[0])
        if contrast not in self._pictures.contrasts:
            raise unknown_name("contrast", contrast, self._pictures.contrasts)
        return choice, contrast, SIDES[_number(request, "scale", len(SIDES) - 1)]


async def _read(request: Request, kind: type[_Order]) -> _Order:
    try:
        return kind.model_validate_json(await request.body(), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise HTTPException(422, f"{where}: {first['msg']}" if where else first["msg"]) from error


def _source(asked: Order) -> str:
    return f"{asked.tab}-{asked.number}"


def _mark(*facts: object) -> str:
    return hashlib.blake2b(repr(facts).encode(), digest_size=6).hexdigest()


def _number(request: Request, name: str, largest: int) -> int:
    text = request.query_params.get(name, "0")
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > largest:
        raise HTTPException(422, f"{name} must be a whole number from 0 to {largest}")
    return int(text)


def _picture(png: bytes) -> Response:
    # its address has the version of the data
    headers = {"cache-control": f"private, max-age={_WEEK}, immutable"}
    return Response(png, media_type="image/png", headers=headers)
