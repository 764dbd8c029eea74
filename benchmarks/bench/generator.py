"""An HTTP client with many kept connections that tells quick requests from slow ones, and stands in for wrk.

Its load is closed (each connection sends its next request when it has the answer to the last) or paced (so many a
second, over all connections); in a paced one a request's time begins when it was due, also where it went out later.
"""

from __future__ import annotations

import heapq
import random
import selectors
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

_PATIENCE = 10.0  # seconds without any answer after which what is under way counts as failed


@dataclass(frozen=True)
class Load:
    """What is sent: by so many connections, for so long. `slow_share` of the requests ask for /slow."""

    connections: int
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)
    slow_share: float = 0.0
    rate: float = 0.0  # requests a second; 0 for a closed load


@dataclass
class Outcome:
    """Seconds that each answered request took, and how many got another answer than 200, or none."""

    quick: list[float] = field(default_factory=list)
    slow: list[float] = field(default_factory=list)
    errors: int = 0
    seconds: float = 0.0


class _Client:
    """One connection, and its request that is under way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self.is_slow = False
        self.received = b""

    def answer(self) -> int | None:
        """The status of the answer, 0 for a broken connection; None while it is incomplete."""
        try:
            data = self.socket.recv(65_536)
        except OSError:
            data = b""
        if not data:
            return 0
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return None
        _, _, after = head.lower().partition(b"content-length:")
        if len(body) < int(after.split(b"\r\n")[0]):
            return None
        self.received = b""
        return int(head.split(b" ", 2)[1])


class _Run:
    """One load on its way."""

    def __init__(self, port: int, load: Load) -> None:
        self._port = port
        self._load = load
        self._selector = selectors.DefaultSelector()
        self._choice = random.Random(1)
        self._quick, self._slow = (_request(path, load.headers) for path in ("/", "/slow"))
        self._waiting: list[tuple[float, int, _Client]] = []  # by when their next request is due
        self._busy = 0
        self._started = time.perf_counter()
        self.outcome = Outcome()

    def go(self) -> Outcome:
        """Send and receive until the time is over and nothing is under way."""
        for number in range(self._load.connections):
            pause = number / self._load.rate if self._load.rate else 0.0
            self._connect(self._started + pause, number)
        end = self._started + self._load.seconds
        while self._busy or (self._waiting and time.perf_counter() < end):
            self._send_due(end)
            ready = self._selector.select(self._patience(end))
            if not ready and self._busy and not self._waiting:
                self.outcome.errors += self._busy
                break
            for key, _ in ready:
                self._receive(key.data)
        self.outcome.seconds = time.perf_counter() - self._started
        self._close()
        return self.outcome

    def _connect(self, due: float, number: int) -> None:
        client = _Client(self._port)
        self._selector.register(client.socket, selectors.EVENT_READ, client)
        heapq.heappush(self._waiting, (due, number, client))

    def _patience(self, end: float) -> float:
        if not self._waiting:
            return _PATIENCE
        return max(0.0, min(self._waiting[0][0], end) - time.perf_counter())

    def _send_due(self, end: float) -> None:
        now = time.perf_counter()
        if now >= end:
            self._waiting.clear()
        while self._waiting and self._waiting[0][0] <= now:
            due, _, client = heapq.heappop(self._waiting)
            client.due = due if self._load.rate else now
            client.is_slow = self._choice.random() < self._load.slow_share
            client.socket.sendall(self._slow if client.is_slow else self._quick)
            self._busy += 1

    def _receive(self, client: _Client) -> None:
        status = client.answer()
        if status is None:
            return
        now = time.perf_counter()
        self._busy -= 1
        pause = self._load.connections / self._load.rate if self._load.rate else 0.0
        due = client.due + pause if self._load.rate else now
        if status == 200:
            (self.outcome.slow if client.is_slow else self.outcome.quick).append(now - client.due)
            heapq.heappush(self._waiting, (due, id(client), client))
            return
        self.outcome.errors += 1
        self._selector.unregister(client.socket)
        client.socket.close()
        self._connect(due, id(client))

    def _close(self) -> None:
        for key in list(self._selector.get_map().values()):
            key.data.socket.close()
        self._selector.close()


def _request(path: str, headers: Mapping[str, str]) -> bytes:
    fields = {"Host": "localhost"} | dict(headers)
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def drive(port: int, load: Load) -> Outcome:
    """Put the load on 127.0.0.1:`port`."""
    return _Run(port, load).go()
