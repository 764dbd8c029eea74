"""Files that the front-end sends: which it is told to, and what the answer then says."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.app.files import Files
from gateway.app.wsgi import FileWrapper
from tests.app.memory import Served

TEXT = [("Content-Type", "text/plain")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files" / "more").mkdir(parents=True)
    (tmp_path / "files" / "more" / "caf\xe9 1%.txt").write_bytes(b"content")
    (tmp_path / "outside.txt").write_bytes(b"outside")
    return tmp_path


def test_nothing_is_sent_by_nobody() -> None:
    assert not Files({}, ())


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (lambda root: Files({f"{root}/files/": "/p/"}, ()), "X-Accel-Redirect: /p/more/caf%C3%A9%201%25.txt\r\n"),
        (lambda root: Files({}, (f"{root}/files",)), None),
    ],
)  # fmt: skip
def test_a_file_below_a_folder(folder: Path, files: Callable[[Path], Files], line: str | None) -> None:
    """Of X-Sendfile it is not clear who decodes a percent sign."""
    made = files(folder)
    assert made
    with open(folder / "files/more/caf\xe9 1%.txt", "rb") as file:
        assert made.header(file) == (line and (line, 7))


def test_a_path_for_x_sendfile_is_not_encoded(folder: Path) -> None:
    path = folder / "files" / "caf\xe9 1.txt"
    path.write_bytes(b"content")
    with open(path, "rb") as file:
        assert Files({}, (str(folder),)).header(file) == (f"X-Sendfile: {folder}/files/caf\xc3\xa9 1.txt\r\n", 7)


def test_whatever_else_is_the_worker_s_to_send(folder: Path) -> None:
    files = Files({str(folder / "files"): "/protected"}, (str(folder / "none"),))
    inside = folder / "files" / "more" / "caf\xe9 1%.txt"
    with open(folder / "outside.txt", "rb") as file:
        assert files.header(file) is None
    with open(inside, "rb") as file:
        file.read(1)
        assert files.header(file) is None  # not at its beginning
    with open(inside, "rb") as file:
        inside.rename(folder / "files" / "renamed")
        assert files.header(file) is None  # not where its name says
    (folder / "files" / "link").symlink_to(folder / "outside.txt")
    with open(folder / "files" / "link", "rb") as file:
        assert files.header(file) is None  # not below it
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb") as stream:
        assert files.header(stream) is None
    assert files.header(io.BytesIO(b"memory")) is None
    fd = os.open(folder / "files" / "renamed", os.O_RDONLY)
    with open(fd, "rb") as file:
        assert files.header(file) is None  # a number is no name


def answer(files: Files | None, application: Callable[..., Any], **params: str) -> tuple[bytes, bytes]:
    served = Served(application, files=files)
    served.ask(**params)
    return served.exchange.head, served.exchange.body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_head_alone_is_sent_and_the_file_closed(folder: Path, method: str) -> None:
    opened: list[Any] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        opened.append(open(folder / "outside.txt", "rb"))  # noqa: SIM115 # the body's close() is what is tested
        start_response("200 OK", [*TEXT, ("Content-Length", "7")])
        return environ["wsgi.file_wrapper"](opened[0], 8192)

    head, body = answer(Files({str(folder): "/all"}, ()), application, REQUEST_METHOD=method)
    assert head == b"Status: 200 OK\r\nContent-Type: text/plain\r\nX-Accel-Redirect: /all/outside.txt"
    assert body == b""
    assert opened[0].closed


@pytest.mark.parametrize(
    ("status", "headers"), [("404 Not Found", []), ("200 OK", [("Content-Length", "3")]), ("206 Part", [])]
)
def test_what_is_not_the_whole_file_is_sent_as_usual(folder: Path, status: str, headers: list[tuple[str, str]]) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response(status, headers)
        return environ["wsgi.file_wrapper"](open(folder / "outside.txt", "rb"))

    head, body = answer(Files({str(folder): "/all"}, ()), application)
    assert b"X-Accel" not in head
    assert body == (b"out" if headers else b"outside")


def test_without_folders_files_are_sent_as_usual(folder: Path) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        assert environ["wsgi.file_wrapper"] is FileWrapper
        start_response("200 OK", TEXT)
        return environ["wsgi.file_wrapper"](open(folder / "outside.txt", "rb"))

    assert answer(Files({}, ()), application)[1] == b"outside"


def test_a_file_after_the_first_bytes_is_sent_as_usual(folder: Path) -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        start_response("200 OK", TEXT)(b"first, ")
        return environ["wsgi.file_wrapper"](open(folder / "outside.txt", "rb"))

    assert answer(Files({str(folder): "/all"}, ()), application)[1] == b"first, outside"
