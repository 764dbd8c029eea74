"""The master's signals, which only wake its loop: as the numbers that can be read from a socket."""

from __future__ import annotations

import contextlib
import enum
import signal
import socket
from collections.abc import Iterator

CAUGHT = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD,
    signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip


class Order(enum.Enum):
    """What a signal tells the master."""

    STOP = enum.auto()
    DRAIN = enum.auto()
    RELOAD = enum.auto()
    REOPEN_LOGS = enum.auto()
    ADD = enum.auto()  # a worker to each static pool, and
    TAKE = enum.auto()  # one away


_ORDERS = {  # PHP-FPM's
    signal.SIGTERM: Order.STOP, signal.SIGINT: Order.STOP, signal.SIGQUIT: Order.DRAIN, signal.SIGHUP: Order.RELOAD,
    signal.SIGUSR2: Order.RELOAD, signal.SIGUSR1: Order.REOPEN_LOGS, signal.SIGTTIN: Order.ADD,
    signal.SIGTTOU: Order.TAKE,
}  # fmt: skip


def order(number: int) -> Order | None:
    """What the signal of that number tells the master; None for a child's end."""
    return _ORDERS.get(signal.Signals(number))


def catch(resources: contextlib.ExitStack) -> socket.socket:
    """Let every signal of the master write its number to a socket, which is returned."""
    reading, writing = socket.socketpair()
    resources.callback(reading.close)
    resources.callback(writing.close)
    reading.setblocking(False)
    writing.setblocking(False)
    for number in CAUGHT:
        # A handler and not SIG_IGN: that would be inherited through exec.
        resources.callback(signal.signal, number, signal.signal(number, lambda *_: None))
    resources.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False))
    return reading


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let them wait, also over an exec, after which they would end the process until it has caught them again."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_come() -> None:
    """Take those that the program which has executed this one has held back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)


def are_waiting(caught: socket.socket) -> bool:
    """Say whether a signal was caught that nobody has read yet."""
    try:
        return bool(caught.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
