"""Kept connections that move to another worker, so that no request waits behind another's while a worker idles."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.net.kept import KeptQueue
from gateway.net.mover import SHORTEST, Mover
from tests.net.driving import Front, driving, head, stdin, whole
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("way")


@pytest.fixture
def kept() -> Iterator[KeptQueue]:
    queue = KeptQueue.create()
    yield queue
    queue.close()


class Named:
    """An application that answers with its name; its requests with a query wait until it is opened."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["QUERY_STRING"]:
            self.entered.set()
            assert self.opened.wait(20)
        start_response("200 OK", [])
        return [self.name]


def test_what_is_kept_moves_while_a_request_takes_long(tmp_path: Path, kept: KeptQueue) -> None:
    first, second = Named(b"first"), Named(b"second")
    with driving(tmp_path / "1", first, kept=kept), Front(tmp_path / "1") as busy, Front(tmp_path / "1") as other:
        assert [front.ask(keep=True).body for front in (busy, other)] == [b"first"] * 2
        busy.send(whole(keep=True, QUERY_STRING="wait"))
        assert first.entered.wait(10)
        wait_until(lambda: kept.waiting() == 1)
        with driving(tmp_path / "2", second, kept=kept):
            assert other.ask(keep=True).body == b"second"
            first.opened.set()
            assert busy.answer().body == b"first"
            assert busy.ask(keep=True).body == b"first"
            assert other.ask(keep=True).body == b"second"


def test_half_a_request_does_not_move(tmp_path: Path, kept: KeptQueue) -> None:
    first = Named(b"first")
    with driving(tmp_path / "1", first, kept=kept), Front(tmp_path / "1") as busy, Front(tmp_path / "1") as other:
        assert [front.ask(keep=True).body for front in (busy, other)] == [b"first"] * 2
        request = head(keep=True)
        other.send(request[:20])
        with Front(tmp_path / "1") as third:
            assert third.ask(keep=True).body == b"first"
            busy.send(whole(keep=True, QUERY_STRING="wait"))
            assert first.entered.wait(10)
            wait_until(lambda: kept.waiting() == 1)  # the third
            other.send(request[20:] + stdin())
            first.opened.set()
            assert other.answer().body == b"first"
            wait_until(lambda: kept.waiting() == 0)


class Counting(KeptQueue):
    """A queue that counts what is put into it."""

    given = 0

    def give(self, sock: socket.socket, *, kept: bool) -> bool:
        self.given += 1
        return super().give(sock, kept=kept)


def test_of_several_that_are_ready_at_once_one_is_shared(tmp_path: Path) -> None:
    queue = Counting(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    fronts: list[Front] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["QUERY_STRING"]:
            for front in fronts:
                front.send(whole(keep=True))
        start_response("200 OK", [])
        return [b"answer"]

    with driving(tmp_path / "1", application, kept=queue, idle=True), Front(tmp_path / "1") as starter:
        fronts += [Front(tmp_path / "1") for _ in range(3)]
        assert [front.ask(keep=True).body for front in (*fronts, starter)] == [b"answer"] * 4
        before = queue.given
        assert starter.ask(keep=True, QUERY_STRING="all").body == b"answer"
        assert [front.answer().body for front in fronts] == [b"answer"] * 3
        assert queue.given > before
        for front in fronts:
            front.socket.close()
    queue.close()


def test_a_worker_with_one_connection_has_no_thread_for_others(tmp_path: Path, kept: KeptQueue) -> None:
    before = threading.active_count()
    with driving(tmp_path / "1", Named(b"first"), kept=kept), Front(tmp_path / "1") as front:
        for _ in range(3):
            assert front.ask(keep=True).body == b"first"
        assert threading.active_count() == before + 1  # the driver's


def test_a_request_that_ends_in_time_moves_nothing() -> None:
    moved = threading.Event()
    mover = Mover(moved.set)
    for request in range(1_000):
        began = time.monotonic_ns()
        mover.begin(request)
        mover.end()
        if moved.is_set():  # this machine has let another process run meanwhile
            assert time.monotonic_ns() - began >= SHORTEST
            moved.clear()
    mover.begin("long")
    assert moved.wait(10)
    mover.end()


def test_the_timer_rests_without_requests_and_ticks_again_with_them() -> None:
    moved = threading.Event()
    mover = Mover(moved.set)
    mover.begin("one")
    assert mover.armed
    mover.end()
    wait_until(lambda: not mover.armed)
    moved.clear()
    mover.begin("another")
    assert moved.wait(10)
    mover.end()
