"""Bodies that come in chunks, on the quick way as on the ordinary one: asked, closed and given up in the same order."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import itertools
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app.interruption import RequestTimeout
from gateway.net.conversation import Timeouts
from gateway.net.quick import QuickWay
from gateway.net.stream import Stream
from gateway.protocol import records
from tests.net.driving import Front, Running, driving, whole
from tests.net.test_quick import FIVE, PLAIN, Body, Environ, Side, Start, answering, compare
from tests.waiting import wait_until


class Noting:
    """An iterator that prints what is done with it, begins anew with each iter(), and is of no use once it is closed.

    A part that is callable is called for what it returns.
    """

    def __init__(self, environ: Environ, *parts: Any) -> None:
        self.errors = environ["wsgi.errors"]
        self.parts = parts
        self.done: list[str] = []
        self.at = -1

    def __iter__(self) -> Iterator[Any]:
        self.done.append("iter")
        self.at = -1
        return self

    def __next__(self) -> Any:
        self.done.append("next")
        self.at += 1
        if self.at == len(self.parts):
            raise StopIteration
        part = self.parts[self.at]  # IndexError when it is asked once more
        return part() if callable(part) else part

    def close(self) -> None:
        self.done.append("close")
        self.parts = ()
        self.at = 0
        self.errors.write(" ".join(self.done) + "\n")


class Silent(Noting):
    """Its close() is no method, and raises."""

    @property
    def close(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no close")


class Lacking(Noting):
    """It cannot be closed, it says."""

    @property
    def close(self) -> Any:  # type: ignore[override]
        raise AttributeError("close")


class Changing(Noting):
    """What close() does is decided while it is iterated over."""

    def __next__(self) -> Any:
        chunk = super().__next__()
        self.close = self.late  # type: ignore[method-assign]
        return chunk

    def late(self) -> None:
        self.errors.write("closed late\n")


class Unclosable(Noting):
    """What it has is no method."""

    close = None  # type: ignore[assignment]


class Unwilling(Noting):
    """It cannot be iterated over the first time."""

    def __iter__(self) -> Iterator[Any]:
        self.errors.write("asked\n")
        if not self.done:
            self.done.append("failed")
            raise LookupError("not yet")
        return self


class Printing(io.BytesIO):
    """A file that says when it is closed, from where on it can no longer be read."""

    def close(self) -> None:
        print("closed", file=self.errors)
        super().close()

    errors: Any = None


def raising(error: type[BaseException]) -> Callable[[], Any]:
    """A part that raises."""

    def part() -> Any:
        raise error("here")

    return part


def making(kind: type[Noting], *parts: Any, headers: Any = FIVE) -> Callable[[Environ, Start], Noting]:
    def application(environ: Environ, start_response: Start) -> Noting:
        start_response("200 OK", headers)
        return kind(environ, *parts)

    return application


def printing_file(environ: Environ, start_response: Start) -> Any:
    start_response("200 OK", FIVE)
    file = Printing(b"hello")
    file.errors = environ["wsgi.errors"]
    return file


def with_headers_changed(then: Callable[[Environ, Start, list[Any]], Any]) -> Callable[[Environ, Start], Any]:
    """An application whose list of headers becomes another one once start_response has it."""

    def application(environ: Environ, start_response: Start) -> Any:
        headers: list[Any] = [*FIVE]
        write = start_response("200 OK", headers)
        headers[1:] = [("Content-Length", "7"), ("X-More", 1)]
        return then(environ, write, headers)

    return application


def print_and_return(environ: Environ, write: Start, headers: list[Any]) -> list[bytes]:
    environ["wsgi.errors"].write("a line\n")
    return [b"hello"]


PARTS: list[tuple[Any, ...]] = [(b"hello",), (b"he", b"llo"), (b"", b"hello", b""), (b"he",), (), (b"hello", b"!")]
RAISED = (ValueError, GeneratorExit, SystemExit, KeyboardInterrupt, AttributeError, MemoryError)
APPLICATIONS: dict[str, Callable[[Environ, Start], Any]] = {
    f"{kind.__name__}-{n}": making(kind, *parts)
    for kind in (Noting, Silent, Lacking, Changing, Unclosable, Unwilling)
    for n, parts in enumerate(PARTS)
} | {
    f"{error.__name__}-{n}": making(Noting, *parts, raising(error))
    for error in RAISED
    for n, parts in enumerate(PARTS)
} | {
    f"unannounced-{kind.__name__}-{n}": making(kind, *parts, headers=PLAIN)
    for kind in (Noting, Silent, Unwilling)
    for n, parts in enumerate(PARTS)
} | {
    "file": printing_file,
    "headers-list": with_headers_changed(print_and_return),
    "headers-chunks": with_headers_changed(lambda environ, *_: Noting(environ, b"hello", b"!!")),
    "headers-stream": with_headers_changed(lambda environ, *_: iter([b"he", b"llo"])),
    "headers-write": with_headers_changed(lambda environ, write, _: [write(b"he"), b"llo"][1:]),
    "mark": answering("418 Marked", [], []),
}  # fmt: skip


def application(environ: Environ, start_response: Start) -> Any:
    """What the path names."""
    return APPLICATIONS[environ["PATH_INFO"].lstrip("/")](environ, start_response)


@pytest.fixture(scope="module")
def sides(quick_type: type, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """These applications, served in the ordinary way alone, and with the quick way."""
    with contextlib.ExitStack() as stack:
        place = tmp_path_factory.mktemp("s")
        yield (
            Side(stack, place / "ordinary", None, application),
            Side(stack, place / "quick", quick_type, application),
        )


@pytest.mark.parametrize("name", [name for name in APPLICATIONS if name != "mark"])
def test_a_body_is_treated_as_on_the_ordinary_way(sides: tuple[Side, Side], name: str) -> None:
    for method in ("GET", "HEAD"):
        for keep in (False, True):
            compare(sides, whole(keep=keep, REQUEST_METHOD=method, PATH_INFO=f"/{name}"))


LARGE = 65_000  # bytes of a chunk: a socket buffers no more than a few
Serve = Callable[..., tuple[Running, Front]]


@pytest.fixture
def serve(way: str, tmp_path: Path) -> Iterator[Serve]:
    """Serves an application, each way: what does it, and a front-end of it."""
    with contextlib.ExitStack() as stack:

        def begin(application: Callable[[Environ, Start], Any], **options: Any) -> tuple[Running, Front]:
            running = stack.enter_context(driving(tmp_path / "s", application, **options))
            return running, stack.enter_context(Front(tmp_path / "s"))

        yield begin


class Large:
    """An application whose answers are one large chunk, closed with the number of its request."""

    def __init__(self, kind: Callable[[Iterator[bytes], Callable[[], Any]], Any] = Body) -> None:
        self.kind = kind
        self.asked = 0
        self.closed: list[int] = []
        self.errors: Any = None

    def __call__(self, environ: Environ, start_response: Start) -> Any:
        self.asked += 1
        self.errors = environ["wsgi.errors"]
        start_response("200 OK", [("Content-Length", str(LARGE))])
        return self.kind(iter([bytes(LARGE)]), functools.partial(self.closed.append, self.asked))


def ask_until_it_waits(running: Running, front: Front) -> int:
    """Ask, and read nothing, until the driver waits for that; return how many answers there are, with that one."""
    ident = running.thread.ident
    assert ident is not None

    def waits_after(count: int) -> bool:
        while len(running.board.ended) < count:
            if sys._current_frames()[ident].f_code is Stream._wait.__code__:
                return True
        return False

    for count in itertools.count(1):
        front.send(whole(keep=True))
        if waits_after(count):
            break
    return count


def read_answers(front: Front, count: int) -> list[tuple[int, bool]]:
    """How much each of the next answers has of its body, and whether it is complete."""
    answers = []
    with front.socket.makefile("rb") as file:
        for _ in range(count):
            out, kind = b"", records.STDOUT
            while kind != records.END_REQUEST and (header := file.read(8)) and any(header):
                _, kind, _, size, padding, _ = struct.unpack(">BBHHBB", header)
                content = file.read(size + padding)[:size]
                out += content if kind == records.STDOUT else b""
            answers.append((len(out.partition(b"\r\n\r\n")[2]), kind == records.END_REQUEST))
    return answers


def test_an_interruption_while_the_front_end_is_slow_to_take_a_chunk(serve: Serve) -> None:
    application = Large()
    running, front = serve(application)
    count = ask_until_it_waits(running, front)
    assert application.closed == [*range(1, count)]
    interrupt = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert interrupt(ctypes.c_ulong(running.thread.ident or 0), ctypes.py_object(RequestTimeout)) == 1
    *whole_answers, cut = read_answers(front, count)
    assert whole_answers == [(LARGE, True)] * (count - 1)
    assert not cut[1]
    wait_until(lambda: running.board.ended == [(0, 200, None)] * count)
    assert application.closed == [*range(1, count + 1)]
    assert running.log[0] == "GET a.example:8080/hello: ended"


@pytest.mark.parametrize("kind", [Body, lambda chunks, on_close: [*chunks]])
def test_what_is_printed_while_the_last_bytes_wait(serve: Serve, kind: Any) -> None:
    """As a thread of the application does: the connection is of use afterwards."""
    application = Large(kind)
    running, front = serve(application)
    count = ask_until_it_waits(running, front)
    application.errors.write("a line\n")
    assert read_answers(front, count) == [(LARGE, True)] * count
    assert len(front.ask(keep=True).body) == LARGE
    assert running.log == ["a line"]


def test_a_front_end_that_takes_nothing_is_waited_for_once(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(Stream, "wait_until_read", lambda self, seconds: waits.append(seconds))
    application = Large()
    running, front = serve(application, timeouts=Timeouts(head=20, body=20, response=0.2, keepalive=20))
    count = ask_until_it_waits(running, front)
    wait_until(lambda: running.board.ended == [(0, 200, None)] * count)
    front.read()
    assert (waits, application.closed) == ([], [*range(1, count + 1)])


@pytest.mark.parametrize("kind", [list, iter])
def test_what_another_thread_prints_is_for_the_one_that_answers(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, kind: Callable[[list[bytes]], Any]
) -> None:
    """Both would go on with the answer, at the same time."""
    takers: list[int] = []
    go_on = QuickWay.go_on_slowly

    def noting(self: QuickWay, *arguments: Any) -> Any:
        takers.append(threading.get_ident())
        return go_on(self, *arguments)

    monkeypatch.setattr(QuickWay, "go_on_slowly", noting)

    def application(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", FIVE)
        thread = threading.Thread(target=environ["wsgi.errors"].write, args=("a line\n",))
        thread.start()
        thread.join()
        return kind([b"hello"])

    running, front = serve(application)
    for _ in range(3):
        answer = front.ask(keep=True)
        assert (answer.body, answer.error, answer.complete) == (b"hello", b"a line", True)
    assert {*takers} <= {running.thread.ident}
