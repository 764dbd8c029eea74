"""What children send is not trusted: nothing of it may end the master."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from gateway.process.handles import BadMessage, WorkerHandle, receive, worker_channel
from gateway.process.scoreboard import Scoreboard


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = worker_channel()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard(1, [""])
    yield board
    board.close()


def test_a_message_and_the_end(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.send(b'{"ready": true}')
    assert receive(ours) == {"ready": True}
    theirs.close()
    assert receive(ours) is None


def test_descriptors_do_not_come_with_a_message() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        before = os.listdir("/proc/self/fd")
        socket.send_fds(theirs, [b'{"failures": []}'], [0, 1, 2])
        assert receive(ours) == {"failures": []}
        assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b"9" * 10_000, b"[" * 50_000, b'{"a":' * 20_000])
def test_what_is_no_message_is_refused(ends: tuple[socket.socket, socket.socket], data: bytes) -> None:
    ours, theirs = ends
    theirs.send(data)
    with pytest.raises(BadMessage):
        receive(ours)


@pytest.mark.parametrize(
    "pid", [None, "1", True, 1.5, [], -1, 0, 1, 2**31, 2**70, pytest.param(os.getpid(), id="its own")]
)
def test_only_a_child_is_believed(ends: tuple[socket.socket, socket.socket], board: Scoreboard, pid: object) -> None:
    worker = WorkerHandle(0, 1, ends[0], board)
    with pytest.raises(BadMessage):
        worker.accept_pid(pid)
    assert worker.pid == 0


LONE = SimpleNamespace(owns=lambda pid: False)


def test_the_kernel_says_who_speaks(ends: tuple[socket.socket, socket.socket], board: Scoreboard) -> None:
    ends[0].setblocking(True)
    worker = WorkerHandle(0, 1, ends[0], board)
    with subprocess.Popen(["sleep", "60"]) as another:
        script = f"import socket; socket.socket(fileno=0).send(b'{{\"pid\": {another.pid}}}'); input()"
        with subprocess.Popen([sys.executable, "-c", script], stdin=ends[1]) as child:
            assert worker.hear(LONE) == {"pid": child.pid}
            assert worker.pid == child.pid
            child.kill()
        another.kill()


def test_who_is_known_already_is_not_believed(ends: tuple[socket.socket, socket.socket], board: Scoreboard) -> None:
    worker = WorkerHandle(0, 1, ends[0], board)
    ends[1].send(b'{"pid": 1}')
    with pytest.raises(BadMessage, match="the process ID of another"):
        worker.hear(SimpleNamespace(owns=lambda pid: pid == os.getpid()))


def test_descriptors_that_a_child_sends_are_not_taken(
    ends: tuple[socket.socket, socket.socket], board: Scoreboard
) -> None:
    worker = WorkerHandle(0, 1, ends[0], board)
    before = os.listdir("/proc/self/fd")
    socket.send_fds(ends[1], [b'{"ready": true}'], [0, 1, 2])
    assert worker.hear(LONE) == {"ready": True}
    assert os.listdir("/proc/self/fd") == before


def test_a_child_is_believed_once(ends: tuple[socket.socket, socket.socket], board: Scoreboard) -> None:
    worker = WorkerHandle(0, 1, ends[0], board)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        worker.accept_pid(child.pid)
        assert worker.pid == child.pid
        with pytest.raises(BadMessage):
            worker.accept_pid(child.pid)
        child.kill()
