"""Many requests at once on one FastCGI connection: HAProxy with `option mpxs-conns` before an ASGI pool."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import HERE, Master, Program, Settings, listens, serving
from tests.waiting import free_port, wait_until

ASGI = [{"name": "asynchronous", "app": "asynchronous:application"}]
BUFFER = 16_384  # bytes: HAProxy's tune.bufsize


@dataclass
class Balanced:
    """A pool of one worker behind HAProxy."""

    port: int
    settings: Settings
    master: Master


@pytest.fixture
def haproxy(place: Path) -> Iterator[Balanced]:
    settings = Settings(place, {"max_children": 1, "listen_mode": "0666"}, ASGI)
    port = free_port()
    file = place / "haproxy.cfg"
    text = (HERE / "haproxy.cfg").read_text().replace("PORT", str(port)).replace("SOCKET", str(settings.socket))
    file.write_text(text)
    with serving(settings) as master:
        program = Program(["haproxy", "-db", "-f", file], place / "haproxy.log", cwd=place)
        try:
            program.wait_for(lambda: listens(port))
            yield Balanced(port, settings, master)
        finally:
            program.stop()


def connections(path: Path) -> int:
    """How many connections to a Unix socket there are (proc(5), /proc/net/unix): each is there by its accepted end.

    That is called as the listener was when it was made, before it was moved to its place.
    """
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    return sum(row[5] == "03" and row[-1].startswith(f"{path.parent}/.") for row in rows)


def test_requests_share_a_connection(haproxy: Balanced) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = [pool.submit(fetch, haproxy.port, "/hold?gate=g") for _ in range(20)]
        wait_until(lambda: sum("running" in line for line in haproxy.settings.journal()) == 20)
        assert connections(haproxy.settings.socket) == 1
        assert fetch(haproxy.port, "/hello").text == "Hello\n"
        haproxy.settings.open_gate("g")
        assert {answer.result().text for answer in answers} == {"held\n"}


def begin(client: http.client.HTTPConnection, path: str, body: bytes) -> None:
    """Send a head, and as much of the body as HAProxy waits for before it passes anything on."""
    client.putrequest("POST", path)
    client.putheader("Content-Length", str(len(body)))
    client.endheaders(body[:BUFFER])


def finish(client: http.client.HTTPConnection, body: bytes) -> tuple[int, bytes]:
    client.send(body[BUFFER:])
    answer = client.getresponse()
    return answer.status, answer.read()


def test_bodies_that_are_mixed_on_a_connection(haproxy: Balanced) -> None:
    """Each head comes alone, for HAProxy 2.6.12 answers 500, or leaves headers out, where its buffer is full of bodies
    (docs/howto/asgi.md); then come the bodies, all at once.
    """
    journal = haproxy.settings.journal
    with contextlib.ExitStack() as closing, ThreadPoolExecutor(10) as pool:
        clients = [http.client.HTTPConnection("127.0.0.1", haproxy.port, timeout=30) for _ in range(10)]
        for client in clients:
            closing.callback(client.close)
        for turn in range(7):
            bodies = [os.urandom((turn + n) % 7 * 30_000) for n in range(10)]
            for number, (client, body) in enumerate(zip(clients, bodies, strict=True), 10 * turn):
                begin(client, f"/echo?id={number}", body)
                wait_until(lambda line=f"running {number}": line in journal())
            answers = zip(bodies, pool.map(finish, clients, bodies), strict=True)
            assert [(status, len(got)) for body, (status, got) in answers if (status, got) != (200, body)] == []
    assert connections(haproxy.settings.socket) == 1


def test_body_that_nobody_reads_holds_nobody_up(haproxy: Balanced) -> None:
    """It goes to a file of the worker, for what comes behind it on the connection has to be read."""
    body = os.urandom(5_000_000)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(fetch, haproxy.port, "/digest_later?gate=g", "POST", body=body)
        wait_until(lambda: "running g" in haproxy.settings.journal())
        for _ in range(50):
            assert fetch(haproxy.port, "/hello").text == "Hello\n"
        haproxy.settings.open_gate("g")
        assert answer.result().text == hashlib.sha256(body).hexdigest()
    assert connections(haproxy.settings.socket) == 1


def test_client_that_leaves_costs_no_other_request(haproxy: Balanced) -> None:
    """HAProxy 2.6 sends no ABORT_REQUEST: what comes for such a client it throws away."""
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(fetch, haproxy.port, "/hold?gate=g")
        wait_until(lambda: "running g" in " ".join(haproxy.settings.journal()))
        with socket.create_connection(("127.0.0.1", haproxy.port), timeout=15) as client:
            client.sendall(b"GET /download?size=50000000 HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(4096)
        for _ in range(50):
            assert fetch(haproxy.port, "/hello").text == "Hello\n"
        haproxy.settings.open_gate("g")
        assert other.result().text == "held\n"


def test_exception_after_the_first_byte_is_a_visible_truncation(haproxy: Balanced) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", haproxy.port, timeout=15)
    connection.request("GET", "/raise_after")
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        connection.getresponse().read()
    connection.close()


def test_exception_after_the_first_byte_costs_no_other_request(haproxy: Balanced) -> None:
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(fetch, haproxy.port, "/hold?gate=g")
        wait_until(lambda: "running g" in " ".join(haproxy.settings.journal()))
        assert fetch(haproxy.port, "/raise_after").text == "begun\n"
        haproxy.settings.open_gate("g")
        assert other.result().text == "held\n"
    assert connections(haproxy.settings.socket) == 1


@contextlib.contextmanager
def slow_reader(port: int, path: str, rate: int) -> Iterator[list[int]]:
    """Reads so many bytes a second of a large answer; gives how many it has."""
    got = [0]
    over = threading.Event()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())

    def read() -> None:
        while not over.wait(0.05):  # the rate
            if select.select([client], [], [], 0)[0]:
                got[0] += len(client.recv(rate // 20))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield got
    finally:
        over.set()
        thread.join()
        client.close()


@pytest.mark.alone
def test_slow_reader_holds_nobody_up(haproxy: Balanced) -> None:
    """Beside one that reads 200 kB a second, on the same connection, others have their answers at once."""
    with slow_reader(haproxy.port, "/download?size=50000000", 200_000) as got:
        wait_until(lambda: got[0] > 200_000, 20)
        times = []
        for _ in range(200):
            began = time.monotonic()
            assert fetch(haproxy.port, "/hello").text == "Hello\n"
            times.append(time.monotonic() - began)
        before = got[0]
        wait_until(lambda: got[0] > before + 100_000, 20)
        assert connections(haproxy.settings.socket) == 1
    times.sort()
    print(f"median {times[100]:.4f} s, 99 % {times[198]:.4f} s, longest {times[-1]:.4f} s")
    assert times[100] < 0.05
    assert times[-1] < 3
