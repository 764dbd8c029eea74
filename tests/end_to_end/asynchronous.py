"""The ASGI application behind the end-to-end tests: `everything.py` once more, and what only an event loop has.

Files named by JOURNAL and GATES in the environment let the tests see what ran, and decide when an answer goes on.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Page = Callable[["Request"], Awaitable[None]]
PAGES: dict[str, Page] = {}
TEXT = (b"content-type", b"text/plain; charset=utf-8")


def page(function: Page) -> Page:
    PAGES["/" + function.__name__] = function
    return function


class Request:
    """What a page needs of a request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.query = dict(parse_qsl(scope["query_string"].decode()))

    async def pieces(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError("the client left in the middle of its body")
            more = message["more_body"]
            yield message["body"]

    async def body(self) -> bytes:
        return b"".join([piece async for piece in self.pieces()])

    async def start(self, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        await self.send({"type": "http.response.start", "status": status, "headers": [TEXT, *headers]})

    async def part(self, body: bytes = b"", *, more: bool = False) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, body: bytes, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        await self.start(status, *headers)
        await self.part(body)


def journal(line: str) -> None:
    descriptor = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)


async def gate(name: str, seconds: float = 20.0) -> None:
    """Return when the test has made the file `name`."""
    async with asyncio.timeout(seconds):
        while not os.path.exists(os.path.join(os.environ["GATES"], name)):
            await asyncio.sleep(0.005)


@page
async def hello(request: Request) -> None:
    await request.answer(b"Hello\n")


@page
async def scope(request: Request) -> None:
    """The scope as JSON, with bytes as latin-1."""
    params = {k: v for k, v in request.scope["extensions"]["gateway"]["params"].items() if isinstance(v, str)}
    shown = {**request.scope, "extensions": {"gateway": {"params": params}}, "pid": os.getpid()}
    text = json.dumps(shown, default=lambda value: value.decode("latin-1"))
    await request.answer(text.encode())


@page
async def digest(request: Request) -> None:
    found, length = hashlib.sha256(), 0
    async for piece in request.pieces():
        found.update(piece)
        length += len(piece)
    await request.answer(f"{length} {found.hexdigest()}".encode())


@page
async def digest_later(request: Request) -> None:
    """Read the body when the gate opens."""
    journal(f"running {request.query['gate']}")
    await gate(request.query["gate"])
    found = hashlib.sha256()
    async for piece in request.pieces():
        found.update(piece)
    await request.answer(found.hexdigest().encode())


@page
async def echo(request: Request) -> None:
    """All pieces back; not as they come, for neither front sends more of a body once an answer has begun."""
    if "id" in request.query:
        journal(f"running {request.query['id']}")
    pieces = [piece async for piece in request.pieces()]
    await request.start()
    for piece in pieces:
        await request.part(piece, more=True)
    await request.part()


@page
async def unread(request: Request) -> None:
    await request.answer(b"not read\n", 413)


@page
async def download(request: Request) -> None:
    """So many bytes, in one part or in parts of a given size."""
    size, step = int(request.query["size"]), int(request.query.get("step", "0"))
    whole = bytes(range(256)) * (size // 256 + 1)
    await request.start()
    if step:
        for at in range(0, size, step):
            await request.part(whole[at : min(size, at + step)], more=True)
        await request.part()
    else:
        await request.part(whole[:size])
    journal(f"downloaded {request.query.get('id', '')}")


@page
async def stream(request: Request) -> None:
    """One line at once, the next when the test has seen the first."""
    await request.start(200, (b"x-accel-buffering", b"no"))
    await request.part(b"first\n", more=True)
    await gate(request.query["gate"])
    await request.part(b"last\n")


@page
async def events(request: Request) -> None:
    """Server-sent events, each when the test has seen the one before."""
    await request.start(200, (b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no"))
    for number in range(int(request.query["count"])):
        await request.part(b"data: %d\n\n" % number, more=True)
        await gate(f"{request.query['gate']}-{number}")
    await request.part()


@page
async def status(request: Request) -> None:
    await request.answer(b"", int(request.query["status"]))


@page
async def raise_before(request: Request) -> None:
    raise LookupError("before the first byte, on purpose")


@page
async def raise_after(request: Request) -> None:
    length = [(b"content-length", request.query["length"].encode())] if "length" in request.query else []
    await request.start(200, *length)
    await request.part(b"begun\n", more=True)
    raise LookupError("after the first byte, on purpose")


@page
async def endless(request: Request) -> None:
    """Parts until nobody takes them."""
    try:
        await request.start()
        while True:
            await request.part(b"more\n" * 2000, more=True)
    finally:
        journal(f"closed {request.query['id']}")


@page
async def silent(request: Request) -> None:
    """One part, and then nothing, for ever; the journal gets how it ended."""
    await request.start(200, (b"x-accel-buffering", b"no"))
    await request.part(b"begun\n", more=True)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        journal(f"cancelled {request.query['id']}")
        raise


@page
async def listening(request: Request) -> None:
    """One part, and an end as soon as the client leaves."""
    await request.body()
    await request.start(200, (b"x-accel-buffering", b"no"))
    await request.part(b"begun\n", more=True)
    message = await request.receive()
    journal(f"{message['type']} {request.query['id']}")


@page
async def beats(request: Request) -> None:
    """A short line ten times a second, until nobody takes it: what a front-end notices a client's end by."""
    await request.start(200, (b"x-accel-buffering", b"no"))
    try:
        while True:
            await request.part(b"beat\n", more=True)
            await asyncio.sleep(0.1)
    finally:
        journal(f"ended {request.query['id']}")


@page
async def hold(request: Request) -> None:
    """Say in the journal that it runs, and answer when the gate opens."""
    journal(f"running {request.query['gate']} {os.getpid()}")
    await gate(request.query["gate"])
    await request.answer(b"held\n")


@page
async def work(request: Request) -> None:
    """Note the id, take the time asked for, echo the body."""
    body = await request.body()
    journal(request.query["id"])
    await asyncio.sleep(float(request.query.get("seconds", "0")))
    await request.answer(body)


@page
async def block(request: Request) -> None:
    """Hold the event loop up."""
    time.sleep(float(request.query["seconds"]))
    await request.answer(b"blocked\n")


@page
async def stubborn(request: Request) -> None:
    """Take no notice of a first cancellation."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        journal("not yet")
    await gate("stubborn")


@page
async def state(request: Request) -> None:
    await request.answer(request.scope["state"]["greeting"].encode())


@page
async def after(request: Request) -> None:
    """Something goes on after the answer."""
    await request.answer(b"answered\n")
    await gate(request.query["gate"])
    journal(f"after {request.query['gate']}")


@page
async def loop(request: Request) -> None:
    await request.answer(type(asyncio.get_running_loop()).__module__.encode())


@page
async def printed(request: Request) -> None:
    print("printed:", (await request.body()).decode())
    await request.answer(b"logged\n")


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    journal(f"startup {os.getpid()}")
    fails = Path(os.environ["GATES"], "startup-fails")
    if fails.exists():
        if fails.read_text() == "raise":
            raise LookupError("at startup, on purpose")
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        return
    scope["state"]["greeting"] = "from the lifespan"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    journal(f"shutdown {os.getpid()}")
    await send({"type": "lifespan.shutdown.complete"})


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    request = Request(scope, receive, send)
    found = PAGES.get(scope["path"])
    if found is None:
        await request.answer(b"no such page\n", 404)
    else:
        await found(request)


async def without_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    await application(scope, receive, send)
