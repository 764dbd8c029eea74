"""What a request costs a worker in system calls and bytecodes: unlike times, the same on every machine."""

from __future__ import annotations

import contextlib
import itertools
import re
import socket
import statistics
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.protocol.client import Ended, ResponseReader, Stdout
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, ROOT, Master, Program, Settings, serving, short_place

HELLO = (ROOT / "benchmarks" / "hello.fcgi").read_bytes()  # as nginx sends it, FCGI_KEEP_CONN not set
_FLAGS = 10  # where its flags are (FastCGI 1.0 §5.1)
KEPT_HELLO = HELLO[:_FLAGS] + b"\1" + HELLO[_FLAGS + 1 :]
REQUESTS = 40
APART = 0.01  # seconds between requests, so that the worker is idle when the next one comes

KEPT = ["recvfrom", "sendto", "epoll_wait"]
CLOSED = ["accept4", "getsockname", "recvfrom", "sendto", "close", "epoll_wait"]
LOOK = "poll"  # whether the client is still there, for a request that may have waited

# At most, without the C twin, for CPython 3.11; other versions have other bytecodes, and get a quarter more.
BYTECODES = {"kept": 3_700, "closed": 4_080}
_MORE = 1.0 if sys.version_info[:2] == (3, 11) else 1.25


def answer(sock: socket.socket, request: bytes) -> bytes:
    """Send a request and read its answer."""
    sock.sendall(request)
    reader = ResponseReader("fastcgi")
    said = b""
    while not reader.ended:
        events = reader.receive_data(sock.recv(65_536))
        said += b"".join(event.data for event in events if type(event) is Stdout)
        assert all(type(event) in (Stdout, Ended) for event in events), events
    return said.partition(b"\r\n\r\n")[2]


def connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(path))
    return sock


def answers(path: Path, mode: str, pause: float) -> Iterator[bytes]:
    """The answers to requests by one connection, or a connection for each."""
    pausing = threading.Event()
    with contextlib.ExitStack() as kept:
        sock = kept.enter_context(connect(path)) if mode == "kept" else None
        for _ in range(REQUESTS):
            if sock is not None:
                yield answer(sock, KEPT_HELLO)
            else:
                with connect(path) as own:
                    yield answer(own, HELLO)
            pausing.wait(pause)


class TracedMaster(Master):
    """`gateway serve` under strace, with a file for each process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        traced = ["strace", "-ff", "-o", settings.place / "trace", *GATEWAY, "serve", settings.file]
        Program.__init__(self, traced, settings.place / "gateway.log", cwd=settings.place, env=ENVIRONMENT)


Traces = dict[tuple[str, float], str]


@pytest.fixture(scope="module")
def traces() -> Iterator[Traces]:
    """What strace says of a worker, for requests on kept and closed connections, apart and at once."""
    with short_place() as place:
        settings = Settings(place, {"max_children": 1}, [{"name": "counted", "app": "counted:application"}])
        master = TracedMaster(settings)
        try:
            [worker] = master.wait_ready(60).workers("idle")
            trace = place / f"trace.{worker['pid']}"
            yield {
                (mode, pause): traced(trace, settings.socket, mode, pause)
                for mode in ("kept", "closed")
                for pause in (APART, 0.0)
            }
        finally:
            master.stop()


def traced(trace: Path, path: Path, mode: str, pause: float) -> str:
    """What is added to the trace while requests are served."""
    before = len(trace.read_text())
    assert len(list(answers(path, mode, pause))) == REQUESTS
    return trace.read_text()[before:]


def cycles(trace: str, first: str) -> list[list[str]]:
    """The system calls of each request but the last, from a successful `first` to the next such."""
    found: list[list[str]] = []
    for name, result in re.findall(r"^(\w+)\(.* = (-?\d+)", trace, re.MULTILINE):
        if name == first and int(result) > 0:
            found.append([])
        if found:
            found[-1].append(name)
    assert len(found) == REQUESTS
    return found[:-1]


@pytest.mark.parametrize(("mode", "expected"), [("kept", KEPT), ("closed", CLOSED)])
def test_hello_takes_these_system_calls(traces: Traces, mode: str, expected: list[str]) -> None:
    found = cycles(traces[mode, APART], expected[0])
    assert statistics.mode(map(tuple, found)) == tuple(expected)


@pytest.mark.parametrize(("mode", "expected"), [("kept", KEPT), ("closed", CLOSED)])
def test_hello_that_may_have_waited_takes_one_look_more(traces: Traces, mode: str, expected: list[str]) -> None:
    found = cycles(traces[mode, 0.0], expected[0])
    assert statistics.mode(tuple(name for name in cycle if name != LOOK) for cycle in found) == tuple(expected)
    assert max(cycle.count(LOOK) for cycle in found) <= 1


def bytecodes(place: Path, mode: str) -> int:
    """How many of them are run from one call of the application to the next."""
    pool = {"max_children": 1, "on_worker_start": "counted:begin", "env": {"GATEWAY_PURE": "1"}}
    settings = Settings(place, pool, [{"name": "counted", "app": "counted:application"}])
    with serving(settings):
        counts = [int(body) for body in answers(settings.socket, mode, 0.0)]
    return statistics.median_low(later - earlier for earlier, later in itertools.pairwise(counts))


@pytest.mark.parametrize("mode", ["kept", "closed"])
def test_hello_takes_so_many_bytecodes(place: Path, mode: str) -> None:
    assert 0 < bytecodes(place, mode) <= BYTECODES[mode] * _MORE
