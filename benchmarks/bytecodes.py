"""What a request costs a worker in bytecodes, by function: the same on every machine and under any load.

A pool of one worker runs the application `counting`: each answer has what the request before it took.

    python -m benchmarks.bytecodes [FUNCTIONS]
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench.peers import APPLICATIONS
from gateway.protocol.client import Ended, ResponseReader, Stdout
from tests.end_to_end.running import Settings, serving, short_place

HELLO = Path(__file__).with_name("hello.fcgi").read_bytes()  # as nginx sends it for connections that it does not keep
_FLAGS = 10  # where the request's flags are (FastCGI 1.0 §5.1)
MODES = ("kept", "closed")
REQUESTS = 40


def _request(mode: str, number: int) -> bytes:
    """A request whose path and client's port are others than those of the one before."""
    hello = HELLO.replace(b"/hello", b"/h%04d" % number).replace(b"52490", b"%d" % (50_000 + number))
    return hello[:_FLAGS] + (b"\1" if mode == "kept" else b"\0") + hello[_FLAGS + 1 :]


def _answer(sock: socket.socket, request: bytes) -> bytes:
    sock.sendall(request)
    reader = ResponseReader("fastcgi")
    said = b""
    while not reader.ended:
        events = reader.receive_data(sock.recv(65_536))
        said += b"".join(event.data for event in events if type(event) is Stdout)
        if any(type(event) not in (Stdout, Ended) for event in events):
            raise ConnectionError(f"instead of an answer came {events}")
    return said.partition(b"\r\n\r\n")[2]


def _connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(str(path))
    return sock


def answers(path: Path, mode: str, pause: float = 0.0) -> Iterator[bytes]:
    """The bodies of REQUESTS answers, by one connection that is kept or one for each. Raises ConnectionError."""
    pausing = threading.Event()
    with contextlib.ExitStack() as kept:
        sock = kept.enter_context(_connect(path)) if mode == "kept" else None
        for number in range(REQUESTS):
            request = _request(mode, number)
            if sock is not None:
                yield _answer(sock, request)
            else:
                with _connect(path) as own:
                    yield _answer(own, request)
            pausing.wait(pause)


def settings(place: Path, pure: str) -> Settings:
    """A pool of one worker that counts, without what is in C if `pure` is "1"."""
    pool = {
        "max_children": 1,
        "app_dir": str(APPLICATIONS),
        "on_worker_start": "counting:begin",
        "env": {"GATEWAY_PURE": pure},
    }
    return Settings(place, pool, [{"name": "counting", "app": "counting:application"}])


def measure(mode: str, pure: str = "1") -> dict[str, int]:
    """The median of the bytecodes of a request in each function, the most first."""
    with short_place() as place:
        counting = settings(place, pure)
        with serving(counting):
            bodies = list(answers(counting.socket, mode))[1:]
    counts: dict[str, list[int]] = {}
    for body in bodies:
        for line in body.decode().splitlines():
            count, _, name = line.partition(" ")
            counts.setdefault(name, []).append(int(count))
    usual = {name: statistics.median_low([0] * (len(bodies) - len(found)) + found) for name, found in counts.items()}
    return dict(sorted(usual.items(), key=lambda item: -item[1]))


def main(arguments: list[str]) -> None:
    """Print the total and the functions with the most."""
    shown = int(arguments[0]) if arguments else 30
    for mode in MODES:
        counts = measure(mode)
        print(f"{mode}: {sum(counts.values())} bytecodes of CPython {sys.version.split()[0]}")
        for name, count in list(counts.items())[:shown]:
            print(f"  {count:6} {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
