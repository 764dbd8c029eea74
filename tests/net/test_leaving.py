"""The driver told to leave or to stop, its connections handed on, and a process without descriptors."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.net.kept import KeptQueue
from gateway.net.orders import GO_ON, LEAVE
from tests.net.driving import Front, Running, driving, echo, hello, listening, stdin, unread, whole
from tests.net.driving import head as head_of
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("way")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def kept() -> Iterator[KeptQueue]:
    queue = KeptQueue.create()
    yield queue
    queue.close()


class Gate:
    """An application whose request to /wait stays until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        if environ["QUERY_STRING"] == "wait":
            self.entered.set()
            self.opened.wait(20)
        return echo(environ, start_response)


def test_no_request_is_lost_while_drivers_take_turns(path: Path, kept: KeptQueue) -> None:
    """Four threads of a front-end post on eight kept connections without a pause while ten drivers follow another."""
    enough = threading.Event()
    answered, wrong = [], []

    def post(seed: int) -> None:
        chance = random.Random(seed)
        with Front(path) as one, Front(path) as two:
            while not enough.is_set():
                data = chance.randbytes(chance.choice((1, 1_000, 200_000)))
                for front in (one, two):
                    try:
                        answer = front.ask(data, keep=True)
                        good = answer.complete and hashlib.sha256(answer.body).digest() == hashlib.sha256(data).digest()
                    except OSError:
                        good = False
                    (answered if good else wrong).append(seed)
                if wrong:
                    return

    with listening(path) as listener:
        current = Running([listener], echo, kept=kept)
        posting = [threading.Thread(target=post, args=(seed,)) for seed in range(4)]
        for thread in posting:
            thread.start()
        try:
            for _ in range(10):
                count = len(answered)
                wait_until(lambda count=count: len(answered) > count + 40 or wrong)
                following = Running([listener], echo, kept=kept)
                current.tell(LEAVE)
                current.join()
                current.close()
                current = following
        finally:
            enough.set()
            for thread in posting:
                thread.join(30)
            current.close()
    assert wrong == []
    assert {*answered} == {0, 1, 2, 3}


def test_leaving_hands_on_what_waits_for_its_next_request(path: Path, kept: KeptQueue) -> None:
    with driving(path, kept=kept) as running, Front(path) as front, Front(path) as fresh:
        assert front.ask(keep=True).complete
        running.tell(LEAVE)
        running.join()
        for one in (front, fresh):
            with wait_until(kept.take)[0].socket as sock:
                assert not sock.get_inheritable()
                assert one.is_open()


def test_leaving_finishes_its_request_then_hands_its_connection_on(path: Path, kept: KeptQueue) -> None:
    gate = Gate()
    with driving(path, gate, kept=kept) as running, Front(path) as front:
        front.send(whole(b"data", keep=True, QUERY_STRING="wait"))
        assert gate.entered.wait(10)
        running.tell(LEAVE)
        gate.opened.set()
        assert front.answer().body == b"data"
        running.join()
        with wait_until(kept.take)[0].socket:
            assert front.is_open()


@pytest.mark.alone  # it has to be fast
def test_leaving_discards_a_body_before_it_hands_the_connection_on(path: Path, kept: KeptQueue) -> None:
    with driving(path, hello, kept=kept) as running, Front(path) as front:
        front.send(head_of(keep=True, REQUEST_METHOD="POST", CONTENT_LENGTH="4"))
        assert front.answer().complete
        running.tell(LEAVE)
        wait_until(lambda: running.unread == 0)
        front.send(stdin(b"body"))
        running.join(1.5)  # and not when the connection's time is over
        with wait_until(kept.take)[0].socket:
            assert front.is_open()


def test_leaving_without_others_closes_what_is_kept(path: Path) -> None:
    with driving(path) as running, Front(path) as front:
        assert front.ask(keep=True).complete
        running.tell(LEAVE)
        running.join()
        assert front.read() == b""


def test_stop_closes_finishes_and_empties_the_queue(path: Path, kept: KeptQueue) -> None:
    gate = Gate()
    with driving(path, gate, kept=kept) as running, Front(path) as idle, Front(path) as busy:
        assert idle.ask(keep=True).complete
        busy.send(whole(b"busy", keep=True, QUERY_STRING="wait"))
        assert gate.entered.wait(10)
        queued = [Front(path) for _ in range(20)]
        for number, front in enumerate(queued):
            front.send(whole(str(number).encode(), keep=True))
        running.tell(b"stop")
        gate.opened.set()
        assert busy.answer().body == b"busy"
        for number, front in enumerate(queued):
            assert front.answer().body == str(number).encode()
        running.join()
        for front in (idle, busy, *queued):
            assert front.read() == b""
            front.socket.close()
        assert kept.take() is None


def test_stop_waits_for_a_head_under_way(path: Path) -> None:
    with driving(path) as running, Front(path) as front:
        front.send(whole()[:50])
        wait_until(lambda: unread(front.socket) == 0)
        running.tell(b"stop")
        wait_until(lambda: running.unread == 0)
        front.send(whole()[50:])
        assert front.answer().body == b"hello"
        running.join()


def test_end_of_the_channel_is_a_stop(path: Path) -> None:
    with driving(path) as running:
        running.control.close()
        running.join()


def test_message_for_nobody_changes_nothing(path: Path) -> None:
    with driving(path) as running, Front(path) as front:
        running.tell(GO_ON)
        assert front.ask().complete
        running.tell(b"stop")
        running.join()


STARVING = """
import resource, socket
from gateway.net.conversation import Timeouts
from tests.net.driving import Running
from tests.app.memory import answering
listener = socket.socket(fileno=0)
running = Running([listener], answering([b"hello"]), timeouts=Timeouts(60, 60, 60, 60))
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
print("ready", flush=True)
running.thread.join()
"""


@pytest.mark.alone  # it measures
def test_process_without_descriptors_waits_without_a_busy_loop_and_recovers(path: Path) -> None:
    with listening(path) as listener:
        child = subprocess.Popen(
            [sys.executable, "-c", STARVING],
            stdin=listener,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert child.stdout is not None
        assert child.stderr is not None
        with child:
            assert child.stdout.readline() == b"ready\n"
            silent = [Front(path) for _ in range(30)]
            with Front(path) as front:
                front.send(whole())
                lines = [child.stderr.readline() for _ in range(5)]
                before = cpu_seconds(child.pid)
                lines += [child.stderr.readline() for _ in range(5)]
                assert cpu_seconds(child.pid) - before < 0.2  # in half a second
                assert all(b"cannot accept: Too many open files" in line for line in lines)
                for one in silent:
                    one.socket.close()
                assert front.answer().body == b"hello"
            child.kill()


LEAKING = """
import os, resource, socket
from tests.net.driving import Running
held = []
def application(environ, start_response):
    if environ["PATH_INFO"] == "/free":
        for fd in held:
            os.close(fd)
    try:
        while environ["PATH_INFO"] == "/leak":
            held.append(os.dup(2))
    except OSError:
        pass
    start_response("200 OK", [])
    return [b"hello"]
listener = socket.socket(fileno=0)
running = Running([listener], application)
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
print("ready", flush=True)
running.thread.join()
"""


@pytest.mark.parametrize("pure", ["", "1"])
def test_application_that_holds_all_descriptors_leaves_its_worker_alive(path: Path, pure: str) -> None:
    with listening(path) as listener:
        child = subprocess.Popen(
            [sys.executable, "-c", LEAKING],
            stdin=listener,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "GATEWAY_PURE": pure},
        )
        assert child.stdout is not None
        assert child.stderr is not None
        with child, Front(path) as kept:
            assert child.stdout.readline() == b"ready\n"
            for name in ("/first", "/leak"):
                assert kept.ask(keep=True, PATH_INFO=name).body == b"hello"
            with Front(path) as front:
                front.send(whole())
                assert b"cannot accept: Too many open files" in child.stderr.readline()
                assert kept.ask(keep=True, PATH_INFO="/free").body == b"hello"
                assert front.answer().body == b"hello"
            child.kill()


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
