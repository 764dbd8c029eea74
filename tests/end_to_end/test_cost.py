"""What a request costs a worker in system calls and bytecodes: unlike times, the same on every machine."""

from __future__ import annotations

import os
import re
import signal
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.bench.peers import APPLICATIONS
from benchmarks.bytecodes import MODES, REQUESTS, answers, measure
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, Master, Program, Settings, children, short_place

pytestmark = pytest.mark.alone  # it measures, or has to be fast

APART = 0.01  # seconds between requests, so that the worker is idle when the next one comes

SYSTEM_CALLS = {
    "kept": ("recvfrom", "sendto", "write", "epoll_wait"),
    "closed": ("accept4", "poll", "recvfrom", "sendto", "write", "close", "epoll_wait"),
}  # the `write` is that of the access log

# At most, without the C twin, of CPython 3.11; other versions have other bytecodes, and get a quarter more.
BYTECODES = {"kept": 1_375, "closed": 1_475}
IN_C = 60  # for the path and its mount
_MORE = 1.0 if sys.version_info[:2] == (3, 11) else 1.25

Traces = dict[tuple[str, float], str]


class TracedMaster(Master):
    """`gateway serve` under strace, with a file for each process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        traced = ["strace", "-ff", "-o", settings.place / "trace", *GATEWAY, "serve", settings.file]
        Program.__init__(self, traced, settings.place / "gateway.log", cwd=settings.place, env=ENVIRONMENT)

    def stop(self) -> None:
        """End the master, and strace with it: strace itself would not end before what it traces."""
        for pid in children(self.pid):
            os.kill(pid, signal.SIGTERM)
        self.wait()


@pytest.fixture(scope="module")
def traces() -> Iterator[Traces]:
    """What strace says of a worker, for requests on kept and closed connections, apart and at once."""
    with short_place() as place:
        watched = {
            "access_log": str(place / "access.log"),
            "request_slowlog_timeout": 30,
            "request_terminate_timeout": 60,
        }
        pool = {"max_children": 1, "app_dir": str(APPLICATIONS), **watched}
        settings = Settings(place, pool, [{"name": "hello", "app": "hello:application"}])
        master = TracedMaster(settings)
        try:
            [worker] = master.wait_ready(60).workers("idle")
            trace = place / f"trace.{worker['pid']}"
            yield {
                (mode, pause): traced(trace, settings.socket, mode, pause) for mode in MODES for pause in (APART, 0.0)
            }
        finally:
            master.stop()


def traced(trace: Path, path: Path, mode: str, pause: float) -> str:
    """What is added to the trace while requests are served."""
    before = len(trace.read_text())
    assert set(answers(path, mode, pause)) == {b"Hello, world!"}
    return trace.read_text()[before:]


def cycles(trace: str, first: str) -> list[tuple[str, ...]]:
    """The system calls of each request but the last, from a successful `first` to the next such."""
    found: list[list[str]] = []
    for name, result in re.findall(r"^(\w+)\(.* = (-?\d+)", trace, re.MULTILINE):
        if name == first and int(result) > 0:
            found.append([])
        if found:
            found[-1].append(name)
    assert len(found) == REQUESTS
    return [tuple(names) for names in found[:-1]]


@pytest.mark.parametrize("pause", [APART, 0.0])
@pytest.mark.parametrize("mode", MODES)
def test_hello_takes_these_system_calls(traces: Traces, mode: str, pause: float) -> None:
    expected = SYSTEM_CALLS[mode]
    assert statistics.mode(cycles(traces[mode, pause], expected[0])) == expected


@pytest.mark.parametrize("mode", MODES)
def test_hello_takes_hardly_any_with_what_is_in_c(mode: str) -> None:
    counts = measure(mode, pure="")
    assert sum(counts.values()) - counts["application counting.py"] <= IN_C * _MORE, counts


@pytest.mark.parametrize("mode", MODES)
def test_hello_takes_so_many_bytecodes(mode: str) -> None:
    counts = measure(mode)
    assert counts["application counting.py"] > 0
    assert counts["Requests.serve pureserve.py"] > 0
    assert sum(counts.values()) <= BYTECODES[mode] * _MORE, counts
