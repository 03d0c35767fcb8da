"""The web application: a page, its clips and its answers, all below a secret path."""

import json
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mujoco_sail.labelling.question_queue import QuestionQueue
from mujoco_sail.preferences.answers import NotOpenError
from mujoco_sail.preferences.questions import LABELS
from mujoco_sail.system.errors import UserError
from mujoco_sail.system.files import WriteError

HERE = Path(__file__).parent
FILES = {"": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
LARGEST = 1000  # bytes of a request's body
LONGEST = 30 * 24 * 3600.0  # seconds over one pair
DRAWING = 240.0  # seconds to wait for a clip
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "media-src blob:; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",  # the address has the token
    "X-Content-Type-Options": "nosniff",
}

Handler = Callable[[Request], Awaitable[Response]]


def application(queue: QuestionQueue, token: str) -> Starlette:
    """The application, all of whose paths begin with the token."""

    def guarded(handler: Handler) -> Handler:
        async def checked(request: Request) -> Response:
            said = request.path_params["token"].encode("utf-8", "replace")
            if not secrets.compare_digest(said, token.encode()):
                raise HTTPException(404)
            response = await handler(request)
            response.headers.update(HEADERS)
            return response

        return checked

    async def page(request: Request) -> Response:
        name = request.path_params.get("file", "")
        if name not in FILES:
            raise HTTPException(404)
        text = (HERE / (name or "page.html")).read_bytes()
        return Response(text, media_type=FILES[name])

    async def next_(request: Request) -> Response:
        name = _page(request.query_params.get("page"))
        return JSONResponse(await run_in_threadpool(queue.next, name))

    async def clip(request: Request) -> Response:
        key, *numbers = (request.path_params[name] for name in ("key", "pair", "side"))
        if not all(number.isdecimal() and len(number) < 7 for number in numbers):
            raise HTTPException(404)
        pair, side = map(int, numbers)

        def draw() -> bytes:
            one = queue.find(key)
            if pair >= one.question.pairs or side > 1:
                raise NotOpenError
            return queue.cache.clip(one.path, one.question, pair, side).result(DRAWING)

        try:
            return Response(await run_in_threadpool(draw), media_type="video/mp4")
        except (NotOpenError, FileNotFoundError, CancelledError) as error:
            raise HTTPException(404) from error
        except TimeoutError as error:
            raise HTTPException(503, "it takes too long") from error
        except UserError as error:
            raise HTTPException(503, str(error)) from error

    async def answer(request: Request) -> Response:
        said = _answer(await _body(request))
        await _write(queue.answer, *said)
        return JSONResponse(await run_in_threadpool(queue.next, said[-1]))

    async def undo(request: Request) -> Response:
        name = await _page_of(request)
        await _write(queue.undo, name)
        return JSONResponse(await run_in_threadpool(queue.next, name))

    async def release(request: Request) -> Response:
        await run_in_threadpool(queue.release, await _page_of(request))
        return Response(status_code=204)

    app = Starlette(
        routes=[
            Route("/{token}/", guarded(page)),
            Route("/{token}/next", guarded(next_)),
            Route("/{token}/clip/{key}/{pair}/{side}", guarded(clip)),
            Route("/{token}/answer", guarded(answer), methods=["POST"]),
            Route("/{token}/undo", guarded(undo), methods=["POST"]),
            Route("/{token}/release", guarded(release), methods=["POST"]),
            Route("/{token}/{file}", guarded(page)),
        ]
    )
    app.router.redirect_slashes = False
    return app


async def _write(store: Callable[..., None], *said: Any) -> None:
    """Stores on the disk, before the next pair is shown."""
    try:
        await run_in_threadpool(store, *said)
    except NotOpenError as error:
        raise HTTPException(409, "this pair is not asked for") from error
    except WriteError as error:
        raise HTTPException(507, "the answer cannot be written to the disk") from error


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request, of bounded size."""
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > LARGEST:
            raise HTTPException(413)
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400) from error
    if not isinstance(said, dict):
        raise HTTPException(400)
    return said


def _answer(said: dict[str, Any]) -> tuple[str, tuple[int, bool], str, float, str]:
    """Checks an answer: key, pair with its repetition, answer, seconds and page."""
    if said.keys() != {"key", "pair", "repeat", "answer", "seconds", "page"}:
        raise HTTPException(400)
    key, pair, repeat, answer, seconds = (
        said[name] for name in ("key", "pair", "repeat", "answer", "seconds")
    )
    valid = (
        isinstance(key, str)
        and type(pair) is int
        and type(repeat) is bool
        and isinstance(answer, str)
        and answer in LABELS
        and type(seconds) in (int, float)
        and 0 <= seconds <= LONGEST
    )
    if not valid:
        raise HTTPException(400)
    return key, (pair, repeat), answer, float(seconds), _page(said["page"])


async def _page_of(request: Request) -> str:
    """The page that a request names, and nothing else."""
    said = await _body(request)
    if said.keys() != {"page"}:
        raise HTTPException(400)
    return _page(said["page"])


def _page(name: Any) -> str:
    """Checks the name that a page gave itself."""
    if not (isinstance(name, str) and name.isascii() and name.isalnum() and len(name) <= 32):
        raise HTTPException(400)
    return name
