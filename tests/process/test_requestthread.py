"""Drivers in threads: requests that are ended from outside, threads that are left behind, and what becomes of both."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.app.dispatch import Dispatcher, Site
from gateway.app.errors import ErrorStream
from gateway.app.interruption import RequestTimeout
from gateway.net.blocking import Driver
from gateway.net.conversation import Handler
from gateway.net.gate import Gate
from gateway.net.orders import GO_ON, LEAVE, Control
from gateway.process.foreman import Foreman
from gateway.process.requestthread import RequestThread
from gateway.protocol.fastcgi import FastCGIConnection
from gateway.settings import Binding
from tests.net.driving import ABORT, PATIENT, Board, Front, head, hello, listening, whole
from tests.waiting import wait_until

TEXT = [("Content-Type", "text/plain")]
ROOT = Path(__file__).parents[2]


class MeantBoard(Board):
    """A board that shows the request which runs as one that is to be ended."""

    def is_meant(self) -> bool:
        return len(self.begun) > len(self.ended)


class Stuck:
    """An application that returns once it is let go, but for /hello; `write` decides on whether it has begun then."""

    def __init__(self, *, write: bool = False) -> None:
        self.running, self.let_go = threading.Event(), threading.Event()
        self.write = write
        self.caught: list[type[BaseException]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/hello":
            return hello(environ, start_response)
        if self.write:
            start_response("200 OK", TEXT)(b"begun")
        self.running.set()
        try:
            self.let_go.wait(20)
        except BaseException as error:
            self.caught.append(type(error))
        if not self.write:
            start_response("200 OK", TEXT)
        return [b"too late"]


def spin(environ: dict[str, Any], start_response: Any) -> Any:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def dispatcher_of(application: Callable[..., Any]) -> Dispatcher:
    log: list[str] = []
    return Dispatcher([(Binding(), Site("it", application))], errors=ErrorStream(log.append), log=log.append)


def factory(listener: socket.socket, dispatcher: Dispatcher) -> Callable[..., Driver]:
    def make(control: Control, board: Board, handler: Handler) -> Driver:
        new_connection = lambda: FastCGIConnection(dispatcher.base)  # noqa: E731
        return Driver([listener], control, new_connection, handler, timeouts=PATIENT, board=board, gate=Gate())

    return make


class Serving:
    """A request thread that serves, and its board."""

    def __init__(self, thread: RequestThread, board: MeantBoard, ended: threading.Event) -> None:
        self.thread, self.board, self.ended = thread, board, ended

    def end_request(self) -> None:
        """Do as the foreman does, whom the master asks again and again."""
        wait_until(lambda: self.thread.end_request() or not self.board.is_meant())

    def give_up(self) -> None:
        """Ask until the thread has been left behind."""
        wait_until(lambda: self.thread.end_request() and self.thread.left_behind)


@contextmanager
def serving(path: Path, application: Callable[..., Any], board: MeantBoard | None = None) -> Iterator[Serving]:
    ended, board = threading.Event(), board or MeantBoard()
    with listening(path) as listener:
        dispatcher = dispatcher_of(application)
        thread = RequestThread(board, dispatcher, factory(listener, dispatcher), ended.set)
        thread.watch()
        thread.start()
        yield Serving(thread, board, ended)
        thread.tell(LEAVE)
        assert ended.wait(20)
        assert (thread.ended, thread.failure) == (True, None)
        thread.close()


def test_python_code_is_interrupted_and_the_thread_goes_on(path: Path) -> None:
    with serving(path, spin) as running, Front(path) as front:
        for number in (1, 2):
            front.send(whole(keep=True))
            wait_until(lambda number=number: len(running.board.begun) == number)  # type: ignore[misc]
            running.end_request()
            assert front.answer().status == b"Status: 504 Gateway Timeout"
        assert running.thread.left_behind == 0
    assert [status for _, status, _ in running.board.ended] == [504, 504]


def test_nothing_is_done_while_no_request_is_meant(path: Path) -> None:
    with serving(path, hello) as running, Front(path) as front:
        assert not running.thread.end_request()
        assert front.ask().body == b"hello"
        assert not running.thread.end_request()


@pytest.fixture
def untraced() -> Iterator[None]:
    """No coverage: while an exception waits for a thread, traced ones of CPython 3.11 stand still at the next call."""
    ours, theirs = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    yield
    threading.settrace(theirs)
    sys.settrace(ours)


@pytest.mark.usefixtures("untraced")
def test_a_thread_that_does_not_return_is_left_behind(path: Path) -> None:
    stuck = Stuck()
    with serving(path, stuck) as running, Front(path) as front, Front(path) as other:
        other.send(head(keep=True)[:20])  # waits in the same driver for its head
        front.send(whole(keep=True, PATH_INFO="/stuck", REQUEST_URI="/stuck"))
        assert stuck.running.wait(10)
        before = time.monotonic()
        running.give_up()
        assert time.monotonic() - before > 0.9
        answer = front.answer()
        assert (answer.status, answer.complete) == (b"Status: 504 Gateway Timeout", True)
        wait_until(lambda: front.is_closed)
        other.send(whole(keep=True)[20:])
        assert other.answer().body == b"hello"
        stuck.let_go.set()
        wait_until(lambda: stuck.caught == [RequestTimeout])
        assert other.ask(keep=True).body == b"hello"
    assert running.thread.left_behind == 1
    assert [status for _, status, _ in running.board.ended] == [504, 200, 200]


@pytest.mark.usefixtures("untraced")
def test_an_answer_that_has_begun_is_cut_visibly(path: Path) -> None:
    stuck = Stuck(write=True)
    with serving(path, stuck) as running, Front(path) as front:
        front.send(whole(PATH_INFO="/stuck", REQUEST_URI="/stuck"))
        assert stuck.running.wait(10)
        running.give_up()
        answer = front.read()
        assert b"begun" in answer
        assert answer.endswith(bytes(8))
        stuck.let_go.set()
        wait_until(lambda: stuck.caught)
    assert ABORT not in answer


class SlowBoard(MeantBoard):
    """A board that a request cannot leave: it shows it as running while its answer is on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def end(self, label: int, status: int, waited: float | None) -> None:
        self.let_go.wait(20)
        super().end(label, status, waited)


def test_whoever_is_slow_to_take_the_answer_is_hung_up_on(path: Path) -> None:
    board = SlowBoard()
    with serving(path, hello, board) as running, Front(path) as front:
        assert front.ask(keep=True).body == b"hello"
        wait_until(lambda: running.thread.end_request() or front.is_closed)
        board.let_go.set()
    assert running.thread.left_behind == 0


def test_an_interruption_that_comes_when_the_application_has_returned_cuts_the_answer(path: Path) -> None:
    dispatcher = dispatcher_of(hello)
    handle = dispatcher.handle

    class Late(Dispatcher):
        """Lets RequestTimeout come outside what would catch it."""

        def handle(self, head: Any, exchange: Any) -> Any:
            handle(head, exchange)
            raise RequestTimeout

    dispatcher.__class__ = Late
    with listening(path) as listener:
        board, ended = MeantBoard(), threading.Event()
        thread = RequestThread(board, dispatcher, factory(listener, dispatcher), ended.set)
        thread.watch()
        thread.start()
        with Front(path) as front:
            front.send(whole())
            assert front.read().endswith(bytes(8))
        thread.tell(LEAVE)
        assert ended.wait(20)
        assert thread.failure is None
        thread.close()
    assert [status for _, status, _ in board.ended] == [504]


class BrokenDriver:
    """A driver that dies of a bug."""

    def watch(self) -> None:
        pass

    def run(self) -> None:
        raise LookupError("a bug")


def test_a_foreman_passes_on_what_a_driver_dies_of() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        foreman = Foreman(theirs, [MeantBoard()], dispatcher_of(hello), lambda *_: BrokenDriver(), lambda: None)
        with pytest.raises(LookupError, match="a bug"):
            foreman.run()


def test_a_foreman_tells_every_thread_and_ends_with_the_last(path: Path) -> None:
    dispatcher = dispatcher_of(hello)
    ours, theirs = socket.socketpair()
    left: list[int] = []
    with listening(path) as listener, ours, theirs:
        make = factory(listener, dispatcher)
        foreman = Foreman(theirs, [MeantBoard() for _ in range(3)], dispatcher, make, lambda: None)
        serving = threading.Thread(target=lambda: left.append(foreman.run()))
        serving.start()
        ours.send(GO_ON)
        with Front(path) as front:
            assert front.ask().body == b"hello"
        ours.close()
        serving.join(20)
        assert left == [0]


INTERRUPTED = """
import signal, socket, sys, threading
from pathlib import Path
from gateway.process.foreman import Foreman
from gateway.process.interrupting import INTERRUPT
from tests.process.test_requestthread import Front, MeantBoard, dispatcher_of, factory, listening, spin

def application(environ, start_response):
    signal.pthread_kill(threading.get_ident(), INTERRUPT)
    spin(environ, start_response)

def ask():
    with Front(Path(sys.argv[1])) as front:
        print(front.ask().status.decode())

ours, theirs = socket.socketpair()
with listening(Path(sys.argv[1])) as listener:
    dispatcher = dispatcher_of(application)
    foreman = Foreman(theirs, [MeantBoard()], dispatcher, factory(listener, dispatcher), lambda: None)
    signal.signal(INTERRUPT, foreman.on_signal)
    foreman.take_signals()
    asking = threading.Thread(target=ask)
    asking.start()
    foreman.run()
    asking.join()
    print(signal.set_wakeup_fd(-1))
"""


def test_a_foreman_hears_of_a_signal_that_another_thread_was_given(path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    status, wakeup_fd = done.stdout.splitlines()
    assert status.startswith("Status: 504")
    assert wakeup_fd == "-1"


@pytest.mark.parametrize(("outcome", "code"), [("return 1", 0), ("raise LookupError('a bug')", 1)])
def test_a_worker_waits_for_no_thread_that_is_left_behind_or_that_nobody_tells(outcome: str, code: int) -> None:
    script = (
        "import atexit, threading\n"
        "from gateway.process import worker\n"
        "class Foreman:\n"
        f"    def run(self):\n        {outcome}\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "atexit.register(lambda: print('at exit'))\n"
        "worker.run_threads(Foreman())\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert ended.returncode == code
    assert ("LookupError: a bug" in ended.stderr, ended.stdout) == (bool(code), "" if code else "at exit\n")
