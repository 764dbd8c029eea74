"""A worker with several threads: each runs a driver of its own, and the main thread passes on to them what it is told.

The main thread is also the one that takes signals: it ends requests that run too long (`requestthread`).
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
from collections.abc import Callable, Sequence
from types import FrameType

from gateway.app.dispatch import Dispatcher
from gateway.net.orders import GO_ON, LEAVE, STOP, Control
from gateway.process.requestthread import DriverFactory, MeantBoard, RequestThread


class Foreman:
    """Lets drivers serve in threads until they have been told to leave, and have left."""

    def __init__(
        self,
        control: Control,
        boards: Sequence[MeantBoard],
        dispatcher: Dispatcher,
        make_driver: DriverFactory,
        on_leaving: Callable[[], None],
    ) -> None:
        """`on_leaving` is called when the worker leaves for a request that it has ended."""
        self._control = control
        self._on_leaving = on_leaving
        self._leaving = False
        self._asked = False  # to end the requests that are meant
        self._takes_signals = False
        self._waking, self._wake = socket.socketpair()
        self._waking.setblocking(False)
        self._wake.setblocking(False)
        self._threads = [RequestThread(board, dispatcher, make_driver, self._wake_up) for board in boards]
        for thread in self._threads:
            thread.watch()

    def take_signals(self) -> None:
        """Be woken by signals, in a process whose signals wake nobody else.

        The kernel may give one to any thread, and one that waits in C, for its application, tells the main one nothing.
        """
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        self._takes_signals = True

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle `interrupting.INTERRUPT`."""
        self._asked = True
        self._wake_up()

    def run(self) -> int:
        """Serve; return how many threads are left behind, in applications that have not returned.

        Raises what a driver has died of.
        """
        for thread in self._threads:
            thread.start()
        try:
            self._pass_on_orders()
        finally:
            self._close()
        return sum(thread.left_behind for thread in self._threads)

    def _pass_on_orders(self) -> None:
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        poll.register(self._waking.fileno(), select.POLLIN)
        while not self._all_ended():
            for fd, _ in poll.poll():
                if fd == self._waking.fileno():
                    self._waking.recv(1024)
                elif (order := self._control.recv(64)) != GO_ON:
                    poll.unregister(fd)
                    self._tell(order or STOP)
            self._look()
        self._look()

    def _all_ended(self) -> bool:
        return all(thread.ended for thread in self._threads)

    def _close(self) -> None:
        """Free what it held, unless threads go on that still need it."""
        if self._all_ended():
            if self._takes_signals:
                signal.set_wakeup_fd(-1)
            for thread in self._threads:
                thread.close()
            self._waking.close()
            self._wake.close()

    def _look(self) -> None:
        for thread in self._threads:
            if thread.failure is not None:
                raise thread.failure
        if self._asked:
            self._asked = False
            for thread in self._threads:
                if thread.end_request():
                    self._leave()

    def _leave(self) -> None:
        """Leave, for what a request that was ended was in the middle of may have stayed half done."""
        if not self._leaving:
            self._leaving = True
            self._on_leaving()
            self._tell(LEAVE)

    def _tell(self, order: bytes) -> None:
        for thread in self._threads:
            thread.tell(order)

    def _wake_up(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it will wake up in any case
            self._wake.send(b"\0")
