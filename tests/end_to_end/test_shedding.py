"""What waited for too long is answered 503, what nobody waits for any more is dropped, and neither is run."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.asking import parameters
from gateway.net import client
from gateway.net.address import UnixAddress
from tests.end_to_end.browsing import Answer, fetch
from tests.end_to_end.running import Master, Settings, Site, descendants, serving, site
from tests.waiting import wait_until

ONE = {"max_children": 1, "queue_timeout": 0.5}


def pool(master: Master) -> Any:
    return master.status()["pools"][0]


def all_of(count: int, ask: Callable[[], Answer]) -> tuple[list[threading.Thread], list[Answer]]:
    """Ask so many times at once."""
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(ask())) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, answers


def let_them_wait(master: Master, ask: Callable[[str], Answer]) -> list[Answer]:
    """Occupy the one worker, let three requests wait for longer than queue_timeout, and then for a free worker."""
    first, runs = all_of(1, lambda: ask("/hold?gate=long"))
    wait_until(lambda: master.workers("busy"))
    waiting, answers = all_of(3, lambda: ask("/hold?gate=waited"))
    wait_until(lambda: pool(master)["listen_queue"] == 3)
    late = time.monotonic() + 0.8
    wait_until(lambda: time.monotonic() > late, what="the end of queue_timeout")
    master.settings.open_gate("long")
    master.settings.open_gate("waited")
    for thread in (*first, *waiting):
        thread.join(15)
    assert [answer.status for answer in runs] == [200]
    return answers


def check(master: Master, answers: list[Answer]) -> None:
    assert [answer.status for answer in answers] == [503] * 3
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    assert master.settings.journal() == ["running long"]
    wait_until(lambda: pool(master)["shed"] == 3)
    wait_until(lambda: "requests waited for longer than queue_timeout (0.5 s), answered 503" in master.said)


def test_by_the_stamp_of_nginx(place: Path) -> None:
    with site("nginx", Settings(place, ONE)) as running:
        check(running.master, let_them_wait(running.master, lambda path: fetch(running.port, path)))
        assert fetch(running.port, "/hello").status == 200
        waits = pool(running.master)["queue_wait"]
        assert sum(count for bound, count in waits["buckets"] if bound == "+Inf" or bound > 0.5) == 3


def test_by_what_the_master_has_seen(place: Path) -> None:
    """Nothing tells the age of a connection on a Unix socket but the samples of what was accepted and what waits."""
    with serving(Settings(place, ONE)) as master:

        def ask(path: str) -> Answer:
            params = parameters(f"http://a.example{path}", "GET", 0, ())
            with client.request(UnixAddress(str(master.settings.socket)), params, timeout=20) as answer:
                return Answer(
                    answer.status, {name.lower(): value for name, value in answer.headers}, b"".join(answer.body)
                )

        check(master, let_them_wait(master, ask))
        assert ask("/hello").status == 200
        assert pool(master)["shed"] == 3


def descriptors(running: Site) -> int:
    """How many the front-end has open."""
    pids = [running.program.pid, *descendants(running.program.pid)]
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)


def test_a_request_whose_client_has_left_is_not_run(place: Path) -> None:
    """nginx closes its connection then; lighttpd 1.4.69 does not look at its client while it waits for an answer."""
    with site("nginx", Settings(place, {"max_children": 1})) as running:
        first, _ = all_of(1, lambda: fetch(running.port, "/hold?gate=first"))
        wait_until(lambda: running.master.workers("busy"))
        before = descriptors(running)
        with socket.create_connection(("127.0.0.1", running.port)) as impatient:
            impatient.sendall(b"GET /hold?gate=left HTTP/1.1\r\nHost: a.example\r\n\r\n")
            wait_until(lambda: pool(running.master)["listen_queue"] == 1)
        running.settings.open_gate("left")
        wait_until(lambda: descriptors(running) <= before, what="the front-end's end of both connections")
        running.settings.open_gate("first")
        for thread in first:
            thread.join(15)
        wait_until(lambda: pool(running.master)["gone"] == 1)
        assert running.settings.journal() == ["running first"]
        assert fetch(running.port, "/hello").status == 200
