"""The application behind the end-to-end tests: a page for every way to read a request and to give an answer, all under
`wsgiref.validate`, which raises where the gateway or the application leaves PEP 3333.

Files named by JOURNAL and GATES in the environment let the tests see what ran, and decide when an answer goes on.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl
from wsgiref.validate import validator

Environ = dict[str, Any]
Page = Callable[[Environ, Any, dict[str, str]], Iterable[bytes]]
PAGES: dict[str, Page] = {}
TEXT = [("Content-Type", "text/plain; charset=utf-8")]


def page(function: Page) -> Page:
    PAGES["/" + function.__name__] = function
    return function


def everything(environ: Environ, start_response: Any) -> Iterable[bytes]:
    function = PAGES.get(environ["PATH_INFO"])
    if function is None:
        start_response("404 Not Found", TEXT)
        return [b"no such page\n"]
    return function(environ, start_response, dict(parse_qsl(environ.get("QUERY_STRING", ""))))


def journal(line: str) -> None:
    """Append one line in one write, so that lines of several workers do not mix."""
    descriptor = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode() + b"\n")
    finally:
        os.close(descriptor)


def wait_for_gate(name: str, seconds: float = 20.0) -> None:
    """Return when the test has made the file `name`."""
    deadline = time.monotonic() + seconds
    while not os.path.exists(os.path.join(os.environ["GATES"], name)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody opened the gate {name}")
        select.select([], [], [], 0.005)


@page
def hello(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return [b"Hello\n"]


@page
def variables(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    shown = {name: value for name, value in environ.items() if isinstance(value, str | bool | int)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(shown | {"pid": os.getpid()}).encode()]


@page
def process(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    files = sorted(str(m.__file__) for m in sys.modules.values() if getattr(m, "__file__", None))
    shown = {
        "pid": os.getpid(), "ppid": os.getppid(), "uids": os.getresuid(), "gids": os.getresgid(),
        "groups": os.getgroups(), "cwd": os.getcwd(), "environ": dict(os.environ), "modules": files,
    }  # fmt: skip
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(shown).encode()]


@page
def pid(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    """Answer after a moment, so that requests at the same time go to different processes."""
    time.sleep(0.05)
    start_response("200 OK", TEXT)
    return [b"%d" % os.getpid()]


@page
def digest(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    digest, length = hashlib.sha256(), 0
    while piece := environ["wsgi.input"].read(65536):
        digest.update(piece)
        length += len(piece)
    start_response("200 OK", TEXT)
    return [f"{length} {digest.hexdigest()}".encode()]


@page
def echo(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(-1)
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))])
    return [body]


@page
def lines(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    """Every way to read lines, one after the other."""
    body = environ["wsgi.input"]
    read = [body.readline(), body.readline(3), *body.readlines(1), *body]
    start_response("200 OK", TEXT)
    return [b"|".join(read)]


@page
def unread(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    start_response("413 Content Too Large", TEXT)
    return [b"not read\n"]


@page
def stream(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterator[bytes]:
    """One line at once, the next when the test has seen the first."""
    start_response("200 OK", [*TEXT, ("X-Accel-Buffering", "no")])  # nginx collects answers unless told so
    yield b"first\n"
    wait_for_gate(query["gate"])
    yield b"last\n"


@page
def write(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    send = start_response("200 OK", TEXT)
    send(b"written, ")
    return [b"returned\n"]


@page
def file(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(bytes(range(256)) * 1024), 8192)
    return wrapped


@page
def headers(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    """The query's headers; `status` is the whole line, default 200 OK, `length` the size of the body, default 0."""
    line, size = query.pop("status", "200 OK"), int(query.pop("length", "0"))
    start_response(line, list(query.items()))
    return [bytes(size)]


@page
def cookies(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    """A header for each `c` of the query."""
    values = [value for _, value in parse_qsl(environ["QUERY_STRING"])]
    start_response("200 OK", [*TEXT, *(("Set-Cookie", value) for value in values)])
    return [b"cookies\n"]


@page
def huge(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    """So many headers of that size."""
    value = "x" * int(query["size"])
    start_response("200 OK", [*TEXT, *((f"X-Huge-{n}", value) for n in range(int(query["headers"])))])
    return [b"huge\n"]


@page
def authorize(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    """Whether somebody may go on: 401 for who does not say who it is, 403 for nobody."""
    user = environ.get("HTTP_X_USER", "")
    start_response(
        "200 OK" if user == "me" else "403 Forbidden" if user else "401 Unauthorized", [*TEXT, ("X-User", user)]
    )
    return [b"of no interest\n"]


@page
def status(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    """An answer without a body."""
    start_response(query["line"], [])
    return []


@page
def replaced(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    try:
        raise LookupError("on purpose")
    except LookupError:
        start_response("500 Replaced", TEXT, sys.exc_info())
    return [b"replaced\n"]


@page
def raise_before(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    raise LookupError("before the first byte, on purpose")


@page
def raise_after(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"begun\n"
    raise LookupError("after the first byte, on purpose")


@page
def errors(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    text = environ["wsgi.input"].read(-1).decode()
    environ["wsgi.errors"].write(f"written: {text}\n")
    environ["wsgi.errors"].flush()
    print("printed:", text)
    start_response("200 OK", TEXT)
    return [b"logged\n"]


class Endless:
    """An answer that goes on until nobody takes it; the journal gets a line for each close()."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return b"more\n" * 2000

    def close(self) -> None:
        journal(f"closed {self.name}")


@page
def endless(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return Endless(query["id"])


@page
def work(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    """Note the id, take the time asked for, echo the body."""
    body = environ["wsgi.input"].read(-1)
    journal(query["id"])
    time.sleep(float(query.get("seconds", "0")))
    start_response("200 OK", TEXT)
    return [body]


@page
def hold(environ: Environ, start_response: Any, query: dict[str, str]) -> Iterable[bytes]:
    """Say in the journal that it runs, and answer when the gate opens."""
    journal(f"running {query['gate']}")
    wait_for_gate(query["gate"])
    start_response("200 OK", TEXT)
    return [b"held\n"]


application = validator(everything)
