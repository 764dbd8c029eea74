"""A driver in a thread of its own, beside others in a worker, and how a request that takes too long is ended in it.

RequestTimeout is raised in the thread from outside, which its Python code notices and C code that waits does not. Where
that has not ended the request within a second, another thread goes on with the driver, answers 504, and leaves the
first one behind: whatever that still does, it finds its front-end gone and its thread over.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from socket import AF_UNIX, MSG_DONTWAIT, SOCK_SEQPACKET, socketpair
from typing import Protocol

from gateway import log
from gateway.app.dispatch import Dispatcher
from gateway.app.exchange import Result
from gateway.app.interruption import Interruption, RequestTimeout
from gateway.app.tracebacks import stack_of
from gateway.app.wsgi import request_line
from gateway.net.blocking import Driver
from gateway.net.conversation import Board, Conversation, Handler
from gateway.net.orders import Control
from gateway.process.interrupting import is_between_steps
from gateway.protocol.events import RequestHead

_PATIENCE = 1.0  # seconds from the first time that a request was to be ended until its thread is left behind


class MeantBoard(Board, Protocol):
    """Where a thread shows what it does (`scoreboard.Row`)."""

    def is_meant(self) -> bool:
        """The request that runs is to be ended."""


DriverFactory = Callable[[Control, MeantBoard, Handler], Driver]


class _Turn:
    """One request in its thread, from its head to the end of what the application does.

    The lock is for the moment when the application has returned while another thread is about to end the request.
    """

    def __init__(self, head: RequestHead, exchange: Conversation) -> None:
        self.thread = threading.get_ident()
        self.exchange = exchange
        self.asked = 0.0  # time.monotonic() when it was to be ended for the first time
        self._head: RequestHead | None = head
        self._postponed = False
        self._superseded = False
        self._lock = threading.Lock()
        self._current = exchange.interruption = Interruption()

    def end(self) -> None:
        """The application has returned. Raises RequestTimeout where another thread has gone on in place of this one."""
        over = False
        while not over:
            try:
                with self._lock:
                    self._head = None
                over = _with_nothing_pending()
            except RequestTimeout:  # it comes too late for the application, and nobody else is to get it
                continue
        if self._superseded:
            raise RequestTimeout

    def interrupt(self) -> bool:
        """Raise RequestTimeout in it, if the application runs; say whether that was done."""
        if not self._postponed and is_between_steps(sys._current_frames()[self.thread]):
            self._postponed = True
            return False
        with self._lock:
            if self._head is None or not self._current.allowed or self._current.raised is not None:
                return False
            self._current.raised = RequestTimeout()
            _raise_in(self.thread)
        return True

    def supersede(self) -> bool:
        """Leave the thread behind, if the application has not returned; say whether that was done."""
        with self._lock:
            if self._head is None:
                return False
            head, self._head, self._superseded = self._head, None, True
            self._current.raised = RequestTimeout()
            _raise_in(self.thread)  # again: whatever it has swallowed, it is not to go on for long
            stack = stack_of(sys._current_frames()[self.thread])
            log.lines(f"{request_line(head.params)}: ended: {RequestTimeout.reason}\n{stack}", log.Level.WARNING)
        return True


class RequestThread:
    """A driver, the thread that it runs in, and the request that runs."""

    def __init__(
        self, board: MeantBoard, dispatcher: Dispatcher, make_driver: DriverFactory, on_end: Callable[[], None]
    ) -> None:
        """`on_end` is called in the thread as its last."""
        self.ended = False
        self.failure: BaseException | None = None  # what the driver has died of
        self.left_behind = 0  # threads that may never end
        self._board = board
        self._dispatcher = dispatcher
        self._on_end = on_end
        self._control, self._theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        self._driver = make_driver(self._theirs, board, self)
        self._turn: _Turn | None = None
        self._thread: threading.Thread | None = None

    # -- from outside --------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """See `Driver.watch`."""
        self._driver.watch()

    def start(self) -> None:
        """Begin to serve."""
        self._begin(self._driver.run)

    def tell(self, order: bytes) -> None:
        """Tell the driver what the worker was told."""
        self._control.send(order, MSG_DONTWAIT)

    def close(self) -> None:
        """Free what it held, once it has ended."""
        if self._thread is not None:
            self._thread.join()
        self._control.close()
        self._theirs.close()

    def end_request(self) -> bool:
        """Take the next step against the request that runs, if it is meant; say whether the worker is to be left for
        it. To be called again and again until that request is over.
        """
        turn = self._turn
        if turn is None or not self._board.is_meant():
            return False
        now = time.monotonic()
        turn.asked = turn.asked or now
        if now < turn.asked + _PATIENCE:
            return turn.interrupt()
        if turn.supersede():
            turn.asked = now - _PATIENCE / 2  # what is left of the time goes to the other thread's answer
            self.left_behind += 1
            self._begin(self._driver.go_on)
            return True
        turn.exchange.hang_up()  # the answer is made, and somebody is slow to take it
        return False

    # -- in the thread -------------------------------------------------------------------------------------------------

    def handle(self, head: RequestHead, exchange: Conversation) -> Result:
        """See `net.blocking.Handler`. Raises RequestTimeout in a thread that is left behind, which ends by it."""
        turn = self._turn = _Turn(head, exchange)
        try:
            result = self._dispatcher.handle(head, exchange)
            turn.end()
        except RequestTimeout:  # it was raised when the application had just returned, outside what would catch it
            turn.end()
            result = Result(504, complete=False)
        return result

    def refuse(self, status: int, reason: str, exchange: Conversation) -> Result:
        """See `net.blocking.Handler`."""
        return self._dispatcher.refuse(status, reason, exchange)

    def _begin(self, serve: Callable[[], None]) -> None:
        # No daemon: threads that an application starts would inherit that, and be cut off when the worker leaves.
        self._thread = threading.Thread(target=self._run, args=(serve,), name="requests")
        self._thread.start()

    def _run(self, serve: Callable[[], None]) -> None:
        self._dispatcher.errors.enter()
        failure = None
        try:
            serve()
        except BaseException as error:
            failure = error
        if threading.current_thread() is self._thread:  # else it was left behind, and is no longer what this is about
            self.failure = failure
            self.ended = True
            self._on_end()


def _raise_in(thread: int) -> None:
    """Let a thread raise RequestTimeout as soon as it runs Python code.

    It has to: until then, and for ever where it is taken back, every thread of CPython 3.11 looks for it at each step,
    and one that is traced (sys.settrace) does not get beyond that: there the master kills in the end.
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(RequestTimeout))


def _with_nothing_pending() -> bool:
    """True: to begin a function is to raise what another thread has asked for."""
    return True
