"""The scoreboard between processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from gateway.process.scoreboard import NOTHING, Scoreboard, Slot
from tests.waiting import wait_until


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard(4)
    yield board
    board.close()


def test_a_new_slot_says_nothing(board: Scoreboard) -> None:
    activity = board.read(2)
    assert (activity.pid, activity.busy, activity.requests) == (0, False, 0)


def test_what_a_worker_writes_is_read(board: Scoreboard) -> None:
    slot = Slot(board.fd, 2)
    slot.busy("POST", "shop.example", "/cart?item=caf\xe9")
    activity = board.read(2)
    assert (activity.pid, activity.busy, activity.requests) == (os.getpid(), True, 0)
    assert (activity.method, activity.host, activity.uri) == ("POST", "shop.example", "/cart?item=caf\xe9")
    assert 0 <= activity.seconds < 5
    slot.idle()
    assert (board.read(2).busy, board.read(2).requests) == (False, 1)
    assert board.read(1).requests == 0


def test_a_uri_longer_than_the_slot_is_cut(board: Scoreboard) -> None:
    slot = Slot(board.fd, 0)
    slot.busy("GET", "a", "/" + "x" * 5_000)
    uri = board.read(0).uri
    assert uri.startswith("/xxx")
    assert len(uri) < 1_024


def test_a_successor_begins_anew(board: Scoreboard) -> None:
    Slot(board.fd, 0).busy("GET", "a", "/")
    Slot(board.fd, 0)
    assert (board.read(0).busy, board.read(0).requests) == (False, 0)


def test_no_worker_can_shrink_it_under_the_master(board: Scoreboard) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(board.fd, 0)


def test_garbage_is_read_without_harm(board: Scoreboard) -> None:
    os.pwrite(board.fd, b"\x01" + b"\xff" * 1_023, 0)
    assert board.read(0) == NOTHING
    os.pwrite(board.fd, b"\x02" + b"\xff" * 1_023, 0)
    assert board.read(0).requests > 0


def test_a_reader_never_sees_half_of_a_change(board: Scoreboard) -> None:
    pid = os.fork()
    if pid == 0:
        slot = Slot(board.fd, 0)
        while True:
            for letter in "ab":
                slot.busy("GET", letter * 200, letter * 200)
    seen = set()

    def both_seen() -> bool:
        activities = (board.read(0) for _ in range(5_000))
        seen.update((activity.host, activity.uri) for activity in activities if activity.busy)
        return len(seen) >= 2

    try:
        wait_until(both_seen)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert seen == {("a" * 200, "a" * 200), ("b" * 200, "b" * 200)}


def test_a_request_is_meant_only_while_it_runs(board: Scoreboard) -> None:
    slot = Slot(board.fd, 1)
    board.mean(1, 0)
    assert not slot.is_meant()
    slot.busy("GET", "a", "/")
    assert slot.is_meant()
    assert board.read(1).uri == "/"
    slot.idle()
    slot.busy("GET", "a", "/")
    assert not slot.is_meant()
    board.mean(1, board.read(1).requests)
    assert slot.is_meant()
    assert not Slot(board.fd, 1).is_meant()


def test_a_count_that_no_worker_can_have_does_no_harm(board: Scoreboard) -> None:
    board.mean(0, 2**64 - 1)
    assert not Slot(board.fd, 0).is_meant()
