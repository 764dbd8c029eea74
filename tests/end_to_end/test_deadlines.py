"""Requests that take too long: noted with their stacks, ended with 504, and at last killed with their worker."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.process.interrupting import INTERRUPT
from tests.end_to_end.browsing import Post, at_pace, fetch
from tests.end_to_end.running import Settings, Site, alive, site
from tests.waiting import wait_until

pytestmark = pytest.mark.waiting

OVERDUE = [{"name": "overdue", "app": "overdue:application"}]


@pytest.fixture
def slow_site(place: Path) -> Iterator[Site]:
    """Two workers; a request is slow after 0.3 s and ended after 1 s."""
    pool = {
        "max_children": 2, "slowlog": str(place / "slow.log"),
        "request_slowlog_timeout": 0.3, "request_terminate_timeout": 1.0,
        "access_log": str(place / "access.log"), "access_format": "%p %P %s %m %{REQUEST_URI}e %q",
    }  # fmt: skip
    with site("nginx", Settings(place, pool, OVERDUE)) as running:
        yield running


@pytest.fixture
def browser() -> Iterator[ThreadPoolExecutor]:
    """What sends requests while the test looks on."""
    with ThreadPoolExecutor(4) as executor:
        yield executor


def slow_log(running: Site) -> str:
    return (running.settings.place / "slow.log").read_text()


def pool_status(running: Site) -> dict[str, Any]:
    (pool,) = running.master.status()["pools"]
    shown: dict[str, Any] = pool
    return shown


def busy_worker(running: Site) -> int:
    (worker,) = wait_until(lambda: running.master.workers("busy"))
    pid: int = worker["pid"]
    return pid


def time_to_replace(running: Site, victim: int) -> float:
    """Seconds from the end of a worker until there are as many as before."""
    wait_until(lambda: not alive(victim), 5, "the end of the worker")
    began = time.monotonic()
    wait_until(lambda: len(running.master.workers("idle")) == 2, 5, "a new worker")
    return time.monotonic() - began


@pytest.mark.parametrize("way", ["sleep", "spin", "match"])
def test_python_code_is_interrupted(slow_site: Site, browser: ThreadPoolExecutor, way: str) -> None:
    asking = browser.submit(fetch, slow_site.port, f"/{way}?id=1")
    victim = busy_worker(slow_site)
    answer = asking.result(15)
    assert (answer.status, answer.text) == (504, "Gateway Timeout\n")
    assert time_to_replace(slow_site, victim) < 0.2
    assert fetch(slow_site.port, "/").status == 200
    wait_until(lambda: "RequestTimeout: it has run" in slow_site.master.said, what="the end of the traceback")
    said = slow_site.master.said
    assert said.count(f"GET 127.0.0.1:{slow_site.port}/{way}?id=1: ended") == 1
    assert "RequestTimeout: it has run for longer than request_terminate_timeout (1 s)" in said
    assert re.search(rf"overdue\.py\", line \d+, in {way}", said)
    assert f"worker {victim}" not in said  # that it left is no news


def test_the_slow_log_has_the_request_and_the_stacks(slow_site: Site, browser: ThreadPoolExecutor) -> None:
    asking = browser.submit(fetch, slow_site.port, "/swallow?id=%0a")
    victim = busy_worker(slow_site)
    asking.result(15)
    log = slow_log(slow_site)
    header = rf"\d\d:\d\d:\d\d pool main: worker {victim}: slow: GET 127\.0\.0\.1/swallow\?id=%0a after 0\.[3-6] s\n"
    assert len(re.findall(header, log)) == log.count("slow:") == 1
    assert re.search(r'overdue\.py", line \d+ in swallow\n', log)
    assert pool_status(slow_site)["slow_requests"] == 1


def test_every_one_of_many_slow_requests_is_noted_with_its_own_stack(slow_site: Site) -> None:
    with ThreadPoolExecutor(2) as executor:
        asking = [executor.submit(fetch, slow_site.port, f"/{way}") for way in ("sleep", "spin")]
        assert [one.result(15).status for one in asking] == [504, 504]
    entries = slow_log(slow_site).split("\n\n")
    assert len(entries) == 2
    for entry in entries:
        way = re.search(r"GET 127\.0\.0\.1/(\w+) after", entry)
        assert way is not None
        assert f"in {way[1]}\n" in entry
    assert pool_status(slow_site)["slow_requests"] == 2


def test_the_slow_log_is_the_error_log_unless_named(place: Path, browser: ThreadPoolExecutor) -> None:
    pool = {"max_children": 1, "request_slowlog_timeout": 0.2}
    with site("nginx", Settings(place, pool, OVERDUE)) as running:
        browser.submit(fetch, running.port, "/sleep")
        running.master.wait_for(lambda: "slow: GET" in running.master.said and " in sleep" in running.master.said)
        assert running.master.workers("busy")  # and goes on
        running.program.stop()


def test_the_slow_log_is_opened_anew(slow_site: Site) -> None:
    assert fetch(slow_site.port, "/sleep?id=1").status == 504
    log = slow_site.settings.place / "slow.log"
    log.rename(log.with_suffix(".1"))
    slow_site.master.signal(signal.SIGUSR1)
    wait_until(log.exists)
    assert fetch(slow_site.port, "/sleep?id=2").status == 504
    for number, text in ((1, log.with_suffix(".1").read_text()), (2, slow_log(slow_site))):
        assert re.findall(r"/sleep\?id=(\d)", text) == [str(number)]
        assert " in sleep\n" in text


def test_a_slow_log_that_cannot_be_opened_costs_no_service(place: Path) -> None:
    pool = {"slowlog": str(place / "none" / "slow.log"), "request_slowlog_timeout": 0.2}
    with site("nginx", Settings(place, pool, OVERDUE)) as running:
        assert fetch(running.port, "/").status == 200
        wait_until(lambda: "slow.log: No such file or directory" in running.master.said)


def test_what_an_application_swallows_is_504_all_the_same(slow_site: Site) -> None:
    assert fetch(slow_site.port, "/swallow").status == 504
    wait_until(lambda: "swallowed RequestTimeout" in slow_site.master.said)


def test_a_body_is_closed_and_cut_visibly(slow_site: Site) -> None:
    assert [fetch(slow_site.port, path).status for path in ("/unbegun", "/empty")] == [504, 504]
    with pytest.raises(http.client.IncompleteRead):
        fetch(slow_site.port, "/begun")
    wait_until(lambda: slow_site.settings.journal() == ["closed after b''", "closed after b'begun\\n'"])


def lines_of(running: Site, victim: int, uri: str) -> list[str]:
    """What the access log says of a request, without the process IDs, which must be right."""
    lines = wait_until(lambda: [row for row in access_log(running) if f" {uri} " in f"{row} "])
    assert {line.split()[:2] == [str(victim), str(running.master.pid)] for line in lines} == {True}
    return [" ".join(line.split()[2:]) for line in lines]


def access_log(running: Site) -> list[str]:
    return (running.settings.place / "access.log").read_text().splitlines()


def kill_of(running: Site, victim: int, path: str) -> str:
    """The line about a worker that was killed."""
    (line,) = wait_until(
        lambda: [line for line in running.master.said.splitlines() if f"worker {victim}" in line and "killed" in line]
    )
    assert f"could not end GET 127.0.0.1{path} after " in line
    return line


def test_c_code_that_holds_the_gil_is_killed(slow_site: Site, browser: ThreadPoolExecutor) -> None:
    asking = browser.submit(fetch, slow_site.port, "/gil")
    victim = busy_worker(slow_site)
    assert asking.result(15).status == 502
    assert time_to_replace(slow_site, victim) < 0.2
    assert re.search(r" after (1\.[89]|2\.0) s$", kill_of(slow_site, victim, "/gil"))
    assert " in hold_the_gil\n" in slow_log(slow_site)
    assert lines_of(slow_site, victim, "/gil") == ["504 GET /gil"]


def test_a_request_that_ends_with_504_has_one_line(slow_site: Site, browser: ThreadPoolExecutor) -> None:
    asking = browser.submit(fetch, slow_site.port, "/sleep?id=1")
    victim = busy_worker(slow_site)
    wait_until(lambda: {row["state"] for row in slow_site.master.workers() if row["pid"] == victim} <= {"leaving"})
    asking.result(15)
    wait_until(lambda: not alive(victim))
    assert lines_of(slow_site, victim, "/sleep?id=1") == ["504 GET /sleep?id=1 id=1"]


def test_a_request_that_dies_with_its_worker_has_a_line_all_the_same(
    slow_site: Site, browser: ThreadPoolExecutor
) -> None:
    asking = browser.submit(fetch, slow_site.port, "/sleep?id=1")
    victim = busy_worker(slow_site)
    os.kill(victim, signal.SIGKILL)
    assert asking.result(15).status == 502
    assert lines_of(slow_site, victim, "/sleep?id=1") == ["502 GET /sleep?id=1 id=1"]


def test_a_stopped_process_is_killed(slow_site: Site, browser: ThreadPoolExecutor) -> None:
    asking = browser.submit(fetch, slow_site.port, "/sleep")
    victim = busy_worker(slow_site)
    os.kill(victim, signal.SIGSTOP)
    assert asking.result(15).status == 502
    assert time_to_replace(slow_site, victim) < 0.2
    kill_of(slow_site, victim, "/sleep")


@pytest.mark.parametrize("way", ["sleep", "gil"])
def test_the_requests_of_other_workers_lose_nothing(slow_site: Site, browser: ThreadPoolExecutor, way: str) -> None:
    browser.submit(fetch, slow_site.port, f"/{way}")
    victim = busy_worker(slow_site)
    posts = [Post("/", b"", n / 100) for n in range(300)]
    answers = asyncio.run(at_pace(slow_site.port, posts))
    assert {status for _, status, _ in answers} == {200}
    assert not alive(victim)


def test_requests_in_time_are_left_alone(place: Path) -> None:
    pool = {"max_children": 2, "request_slowlog_timeout": 0.2, "request_terminate_timeout": 0.4}
    with site("nginx", Settings(place, pool, OVERDUE)) as running:
        before = {worker["pid"] for worker in running.master.workers()}
        answers = asyncio.run(at_pace(running.port, [Post("/", b"", n / 300) for n in range(450)]))
        assert {status for _, status, _ in answers} == {200}
        assert {worker["pid"] for worker in running.master.workers()} == before
        assert pool_status(running)["slow_requests"] == 0


def test_a_graceful_stop_keeps_the_deadline(slow_site: Site, browser: ThreadPoolExecutor) -> None:
    asking = browser.submit(fetch, slow_site.port, "/sleep")
    busy_worker(slow_site)
    slow_site.master.signal(signal.SIGQUIT)
    assert asking.result(15).status == 504
    assert slow_site.master.wait() == 0


def test_signals_that_mean_no_request_do_nothing(slow_site: Site) -> None:
    before = {worker["pid"] for worker in slow_site.master.workers()}
    stop = threading.Event()

    def disturb() -> None:
        while not stop.wait(0.001):
            for pid in before:
                os.kill(pid, INTERRUPT)

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    try:
        assert {fetch(slow_site.port, "/").status for _ in range(100)} == {200}
    finally:
        stop.set()
        disturbing.join()
    assert {worker["pid"] for worker in slow_site.master.workers()} == before
