"""The access log on real files, pipes and devices: whole lines, no wait, and each lost line counted."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.app.exchange import Result
from gateway.net.accesslog import access_log, open_log
from gateway.settings import Pool

PARAMS = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/ping", "QUERY_STRING": ""}


class Log:
    """An access log, and how many of its lines were lost."""

    def __init__(self, fd: int, access_format: str = "%m %r %s", **settings: Any) -> None:
        self.lost = 0
        self.log = access_log(fd, Pool(access_format=access_format, **settings), "main", self.lose)

    def lose(self) -> None:
        self.lost += 1

    def write(self, status: int = 200, **params: str) -> None:
        self.log.write(self.log.begin(), PARAMS | params, Result(status, True), complete=True)


def test_a_line_for_each_request(tmp_path: Path) -> None:
    written = Log(open_log(str(tmp_path / "log")))
    written.write()
    written.write(404, REQUEST_URI="/none")
    written.log.close()
    assert (tmp_path / "log").read_text() == "GET /ping 200\nGET /none 404\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o640 & ~_umask()
    assert written.lost == 0


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_time_and_cpu_are_measured(tmp_path: Path) -> None:
    written = Log(open_log(str(tmp_path / "log")), "%{micro}d %C")
    began = written.log.begin()
    sum(range(300_000))
    written.log.write(began, PARAMS, Result(200, True), complete=True)
    written.log.close()
    duration, share = (tmp_path / "log").read_text().split()
    assert int(duration) > 100
    assert float(share) >= 0


@pytest.mark.parametrize(
    ("status", "params", "logged"),
    [
        (200, {}, False),
        (204, {"REQUEST_METHOD": "HEAD"}, False),
        (200, {"CONTENT_LENGTH": "0"}, False),
        (503, {}, True),
        (304, {}, True),
        (200, {"REQUEST_METHOD": "POST"}, True),
        (200, {"CONTENT_LENGTH": "3"}, True),
        (200, {"REQUEST_URI": "/ping?x"}, True),
        (200, {"REQUEST_URI": "/pings"}, True),
    ],
)
def test_what_is_suppressed(tmp_path: Path, status: int, params: dict[str, str], logged: bool) -> None:
    written = Log(open_log(str(tmp_path / "log")), access_suppress_path=("/ping", "/health"))
    written.write(status, **params)
    written.log.close()
    assert bool((tmp_path / "log").read_text()) is logged


@pytest.mark.parametrize(
    ("method", "status", "complete"), [("HEAD", 200, True), ("GET", 304, True), ("GET", 200, False)]
)
def test_a_front_end_that_needs_only_the_head_may_leave(
    tmp_path: Path, method: str, status: int, complete: bool
) -> None:
    written = Log(open_log(str(tmp_path / "log")), "json")
    params = PARAMS | {"REQUEST_METHOD": method}
    written.log.write(written.log.begin(), params, Result(status, True), complete=False)
    written.log.close()
    assert json.loads((tmp_path / "log").read_text())["complete"] is complete


def test_a_full_disk_loses_lines_and_counts_them() -> None:
    written = Log(open_log("/dev/full"))
    written.write()
    written.write()
    written.log.close()
    assert written.lost == 2


def test_a_pipe_that_nobody_reads_fills_and_stops_nothing(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    written = Log(open_log(str(pipe)))
    while not written.lost:
        written.write()
    written.write()
    assert written.lost == 2
    with pipe.open("rb", buffering=0) as reader:
        content = reader.read(1 << 20)
        written.write(404)
        assert reader.read(1 << 20) == b"GET /ping 404\n"
    assert set(content.splitlines()) == {b"GET /ping 200"}
    written.log.close()


def test_a_pipe_is_given_whole_lines_alone(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    written = Log(open_log(str(pipe)), "json")
    written.write(REQUEST_URI="/" + "x" * 10_000)
    with pipe.open("rb", buffering=0) as reader:
        assert json.loads(reader.read(1 << 20))["uri"] == "/" + "x" * 255
    written.log.close()


def test_a_file_is_given_long_lines_as_they_are(tmp_path: Path) -> None:
    written = Log(open_log(str(tmp_path / "log")), "%r")
    written.write(REQUEST_URI="/" + "x" * 10_000)
    written.log.close()
    assert len((tmp_path / "log").read_text()) == 10_002


def test_after_a_line_that_was_cut_the_next_has_a_line_of_its_own(tmp_path: Path) -> None:
    code = (
        "import resource\n"
        "from tests.net.test_accesslog import Log, open_log\n"
        f"log = Log(open_log({str(tmp_path / 'log')!r}))\n"
        "log.write()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))\n"
        "log.write()\n"
        "log.write()\n"
        "assert log.lost == 2, log.lost\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "log.write(404)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent.parent, timeout=30)
    assert (tmp_path / "log").read_text() == "GET /ping 200\nGET /p\nGET /ping 404\n"


def test_reopened_it_goes_on_in_the_other_file(tmp_path: Path) -> None:
    written = Log(open_log(str(tmp_path / "first")))
    written.write(200)
    written.log.reopen(open_log(str(tmp_path / "second")))
    written.write(201)
    written.log.close()
    assert [(tmp_path / name).read_text() for name in ("first", "second")] == ["GET /ping 200\n", "GET /ping 201\n"]


def test_a_shared_socket_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        written = Log(os.dup(theirs.fileno()))
        while not written.lost:
            written.write()
        assert theirs.gettimeout() is None  # it blocks still, for those who share it
        assert ours.recv(14) == b"GET /ping 200\n"
        written.log.close()


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_standard_error_can_be_the_access_log(kind: str) -> None:
    code = "from tests.net.test_accesslog import Log, open_log\nlog = Log(open_log('stderr'))\nlog.write()\n"
    if kind == "pipe":
        reading, writing = os.pipe()
    else:
        reading, writing = (end.detach() for end in socket.socketpair())
    root = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, stderr=writing, timeout=30)
    assert os.read(reading, 100) == b"GET /ping 200\n"
    assert os.get_blocking(writing)
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("threads", [1, 4])
def test_lines_of_several_threads_are_whole(tmp_path: Path, threads: int) -> None:
    written = Log(open_log(str(tmp_path / "log")), threads=threads)

    def write(number: int) -> None:
        for _ in range(200):
            written.write(200 + number)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(threads)]
    for writer in writers:
        writer.start()
    for _ in range(20):
        written.log.reopen(open_log(str(tmp_path / "log")))
    for writer in writers:
        writer.join()
    written.log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(lines) == sorted(f"GET /ping {200 + number}" for number in range(threads) for _ in range(200))


def test_with_several_threads_the_cpu_time_is_the_threads_own(tmp_path: Path) -> None:
    written = Log(open_log(str(tmp_path / "log")), "%C", threads=2)
    began = written.log.begin()
    other = threading.Thread(target=lambda: sum(range(10_000_000)))
    other.start()
    other.join()
    written.log.write(began, PARAMS, Result(200, True), complete=True)
    written.log.close()
    assert float((tmp_path / "log").read_text()) < 50
