"""Bodies that come in chunks, on the quick way as on the ordinary one: asked, closed and given up in the same order."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.net.driving import whole
from tests.net.test_quick import FIVE, Environ, Side, Start, answering, compare


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


def making(kind: type[Noting], *parts: Any) -> Callable[[Environ, Start], Noting]:
    def application(environ: Environ, start_response: Start) -> Noting:
        start_response("200 OK", FIVE)
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
