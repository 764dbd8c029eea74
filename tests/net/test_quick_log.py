"""The access log of requests that go the quick way: the lines of the ordinary one, and what is lost is counted."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gateway.net.accesslog import AccessLog, access_log, open_log
from gateway.settings import Pool
from tests.net.driving import Front, Running, choose_way, listening
from tests.net.test_quick import application

ROOT = Path(__file__).parent.parent.parent
FORMATS = {
    "default": Pool().access_format,
    "fpm": '%R - %u %t "%m %r%Q%q" %s %f %{milli}d %{kilo}M %C%%',
    "all": "%l %n %{HTTP_X}e %{Content-Type}o %p %P %T %d %{micro}d µs",
    "json": "json",
}
_VARYING = re.compile(r"\d\d/\w+/\d{4}:[\d:]+|\d+\.\d+|(?<=\.\d{3} )\d+(?= .*%)|\d+(?= µs)")  # times and memory


def comparable(line: str) -> Any:
    """A line without what differs from one request to the next."""
    if line.startswith("{"):
        return {name: value for name, value in json.loads(line).items() if name not in ("time", "seconds")}
    return _VARYING.sub("*", line)


class Serving:
    """A driver with an access log at `path`, and how many lines of it were lost."""

    def __init__(self, place: Path, path: Path | str, **settings: Any) -> None:
        self.lost = 0
        self.log = access_log(open_log(str(path)), Pool(**settings), "main", self._lose)
        self.socket = place / "socket"
        self._listener = listening(self.socket)
        self._running = Running([self._listener], application, access=self.log)
        self.asked = 0

    def ask(self, path: str = "/", method: str = "GET", **params: str) -> None:
        """Send a request and wait until it is over."""
        with Front(self.socket) as front:
            uri = {"REQUEST_URI": path, "PATH_INFO": path.partition("?")[0]}
            answer = front.ask(REQUEST_METHOD=method, **{**uri, **params})
            assert answer.complete
            assert front.socket.recv(1) == b""  # it is closed after its line is written
        self.asked += 1

    def close(self) -> None:
        self._running.close()
        self._listener.close()
        self.log.close()
        self.socket.unlink()

    def _lose(self) -> None:
        self.lost += 1


@pytest.fixture
def serving(extension: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Serving]]:
    """Make servings, with the quick way unless it is not wanted."""
    with contextlib.ExitStack() as stack:

        def make(path: Path | str, *, quickly: bool = True, **settings: Any) -> Serving:
            choose_way(monkeypatch, extension if quickly else None)
            made = Serving(tmp_path, path, **settings)
            stack.callback(made.close)
            made.ask("/first")
            return made

        yield make


@pytest.fixture
def in_python(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of which Python writes the lines meanwhile."""
    written: list[str] = []
    write = AccessLog.write

    def noting(self: AccessLog, began: Any, params: Any, *rest: Any, **named: Any) -> None:
        written.append(params.get("REQUEST_URI"))
        write(self, began, params, *rest, **named)

    monkeypatch.setattr(AccessLog, "write", noting)
    return written


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_lines_as_in_the_ordinary_way(
    quick_type: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    written = []
    for way in ("ordinary", "quick"):
        choose_way(monkeypatch, quick_type if way == "quick" else None)
        served = Serving(tmp_path, tmp_path / way, access_format=FORMATS[name])
        for _ in range(2):
            served.ask("/mirror?a=1&b", QUERY_STRING="a=1&b", REMOTE_USER="ann", SCRIPT_FILENAME="/srv/a.fcgi")
            for path in ("/status-3", "/status-1", "/start_late", "/changing_its_environ", "/prints", "/raising"):
                served.ask(path)
            for path in ("/chunks-0", "/chunks-2", "/chunks-3"):
                served.ask(path)
            served.ask("/headers-7", method="HEAD")
            for value in ("", 'a "b" \\', "\x7f", "caf\xe9", "x" * 5_000):
                served.ask("/hello", HTTP_X=value, REMOTE_USER=value)
        served.close()
        written.append([comparable(line) for line in lines(tmp_path / way)])
    assert written[1] == written[0]
    assert len(written[0]) == 2 * 16


@pytest.mark.parametrize("name", FORMATS)
def test_plain_lines_are_written_without_python(
    serving: Callable[..., Serving], tmp_path: Path, in_python: list[str], name: str
) -> None:
    served = serving(tmp_path / "log", access_format=FORMATS[name])
    for _ in range(3):
        served.ask("/a?b", QUERY_STRING="b", SCRIPT_FILENAME="/srv/a.fcgi", HTTP_X='a "quote"')
        served.ask("/chunks-0")
    assert in_python == []
    served.ask("/a", HTTP_X="caf\xe9", REMOTE_USER="caf\xe9")
    served.ask("/raising")
    assert in_python == ["/a", "/raising"]
    assert len(lines(tmp_path / "log")) == served.asked


def test_time_and_cpu_are_measured(serving: Callable[..., Serving], tmp_path: Path, in_python: list[str]) -> None:
    served = serving(tmp_path / "log", access_format="%{micro}d %{%s}t %{%s}T %C")
    served.ask()
    assert in_python == []
    ordinary, fast = ([float(field) for field in line.split()] for line in lines(tmp_path / "log"))
    assert 0 <= fast[1] - ordinary[1] <= fast[2] - ordinary[1] < 60
    assert 0 < fast[0] < 60_000_000
    assert fast[3] >= 0


def test_what_the_pool_does_not_want_is_not_logged(
    serving: Callable[..., Serving], tmp_path: Path, in_python: list[str]
) -> None:
    served = serving(tmp_path / "log", access_format="%m %r %s", access_suppress_path=("/ping", "/mark"))
    for path in ("/ping", "/mark", "/hello"):
        served.ask(path)
    served.ask("/ping", method="POST", CONTENT_LENGTH="")
    assert lines(tmp_path / "log") == ["GET /first 200", "GET /mark 418", "GET /hello 200", "POST /ping 200"]
    assert in_python == ["/ping", "/mark", "/ping"]


def test_a_full_disk_stops_nothing(serving: Callable[..., Serving]) -> None:
    served = serving("/dev/full")
    for _ in range(3):
        served.ask()
    assert served.lost == served.asked


def test_a_pipe_that_nobody_reads_stops_nothing(
    serving: Callable[..., Serving], tmp_path: Path, in_python: list[str]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    served = serving(tmp_path / "pipe", access_format="%r%{HTTP_X}e")
    while not served.lost:
        served.ask("/a", HTTP_X="x" * 3_000)
    served.ask("/lost", HTTP_X="x" * 3_000)
    assert served.lost == 2
    assert in_python == ["/a", "/lost"]
    with (tmp_path / "pipe").open("rb", buffering=0) as reader:
        assert set(reader.read(1 << 20).split(b"\n")) == {b"/first-", b"/a" + b"x" * 3_000, b""}
        served.ask("/found", HTTP_X="y")
        assert reader.read(1 << 20) == b"/foundy\n"
    assert in_python == ["/a", "/lost"]


def test_reopened_it_goes_on_in_the_other_file(serving: Callable[..., Serving], tmp_path: Path) -> None:
    served = serving(tmp_path / "first", access_format="%r")
    served.ask("/one")
    served.log.reopen(open_log(str(tmp_path / "second")))
    served.ask("/two")
    assert lines(tmp_path / "first") == ["/first", "/one"]
    assert lines(tmp_path / "second") == ["/two"]


def test_a_log_that_might_wait_is_left_to_python(
    serving: Callable[..., Serving], tmp_path: Path, in_python: list[str]
) -> None:
    served = serving(tmp_path / "first", access_format="%r")
    reading, writing = os.pipe()
    served.log.reopen(writing)  # which waits, as whoever shares it may need it to
    served.ask("/two")
    served.log.reopen(open_log(str(tmp_path / "third")))
    served.ask("/three")
    assert os.read(reading, 100) == b"/two\n"
    assert lines(tmp_path / "third") == ["/three"]
    assert in_python == ["/two"]
    os.close(reading)


def test_after_a_line_that_was_cut_the_next_has_a_line_of_its_own(compiled: ModuleType, tmp_path: Path) -> None:
    code = f"""
import resource
from pathlib import Path
from gateway.net import quick
from tests.compiling import load
from tests.net.test_quick_log import Serving

quick.Quick = load("gateway.net._quick", Path({compiled.__file__!r})).Quick
served = Serving(Path({str(tmp_path)!r}), Path({str(tmp_path / "log")!r}), access_format="%m %r")
served.ask("/first")
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
served.ask("/cut")
served.ask("/lost")
assert served.lost == 2, served.lost
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
served.ask("/by-python")
served.ask("/by-c")
served.close()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=30)
    assert lines(tmp_path / "log") == ["GET /first", "GET /", "GET /by-python", "GET /by-c"]
