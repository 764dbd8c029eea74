"""Requests that take too long in a worker with several threads: the others lose nothing where that can be had."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.browsing import Post, at_pace, fetch, while_running
from tests.end_to_end.running import Settings, Site, alive, site
from tests.net.driving import Front, head, stdin
from tests.waiting import wait_until

pytestmark = pytest.mark.waiting

OVERDUE = [{"name": "overdue", "app": "overdue:application"}]


@pytest.fixture
def slow_site(place: Path) -> Iterator[Site]:
    """One worker with four threads; a request is slow after 0.5 s and ended after 1 s."""
    pool = {
        "max_children": 1, "threads": 4, "slowlog": str(place / "slow.log"),
        "request_slowlog_timeout": 0.5, "request_terminate_timeout": 1.0,
        "access_log": str(place / "access.log"), "access_format": "json",
    }  # fmt: skip
    with site("nginx", Settings(place, pool, OVERDUE)) as running:
        yield running


@pytest.fixture
def browser() -> Iterator[ThreadPoolExecutor]:
    """What sends requests while the test looks on."""
    with ThreadPoolExecutor(4) as executor:
        yield executor


def access(running: Site) -> list[dict[str, Any]]:
    """What the access log says of all requests but the short ones."""
    lines = (running.settings.place / "access.log").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["uri"] not in ("/", "/nap")]


def busy_worker(running: Site) -> int:
    rows = wait_until(lambda: running.master.workers("busy"))
    pid: int = rows[0]["pid"]
    return pid


def naps() -> Iterator[Post]:
    """Short requests, two at once."""
    return (Post("/nap", b"", n / 10) for n in itertools.count())


@pytest.mark.parametrize("way", ["spin", "sleep", "swallow", "persist"])
def test_a_request_is_ended_and_the_others_lose_nothing(slow_site: Site, browser: ThreadPoolExecutor, way: str) -> None:
    asking = browser.submit(fetch, slow_site.port, f"/{way}?id=1")
    victim = busy_worker(slow_site)
    answers, answer = while_running(slow_site.port, naps(), lambda: asking.result(15), more=10)
    assert (answer.status, answer.text) == (504, "Gateway Timeout\n")
    assert {status for _, status, _ in answers} == {200}
    pids = {int(body) for _, _, body in answers}
    assert victim in pids
    assert len(pids) == 2
    wait_until(lambda: not alive(victim), 5, "the end of the worker")
    said = slow_site.master.said
    assert f"GET 127.0.0.1:{slow_site.port}/{way}?id=1: ended" in said
    assert "it has run for longer than request_terminate_timeout (1 s)" in said
    assert re.search(rf"overdue\.py\", line \d+, in {way}", said)
    assert f"worker {victim}" not in said  # that it left is no news
    (entry,) = access(slow_site)
    assert (entry["status"], entry["pid"], entry["complete"], entry["uri"]) == (504, victim, True, f"/{way}?id=1")
    (pool,) = slow_site.master.status()["pools"]
    assert pool["ended"]["timeout"] == 1


def test_the_slow_log_has_the_stacks_of_all_threads(slow_site: Site, browser: ThreadPoolExecutor) -> None:
    asking = [browser.submit(fetch, slow_site.port, f"/{way}") for way in ("sleep", "spin")]
    assert [one.result(15).status for one in asking] == [504, 504]
    _, *entries = (slow_site.settings.place / "slow.log").read_text().split(" slow: ")
    assert sorted(entry.partition(" after ")[0] for entry in entries) == ["GET 127.0.0.1/sleep", "GET 127.0.0.1/spin"]
    for entry in entries:
        assert " in sleep\n" in entry
        assert " in spin\n" in entry


def test_a_worker_is_replaced_at_once_and_leaves_when_its_other_requests_are_over(
    slow_site: Site, browser: ThreadPoolExecutor
) -> None:
    asking = [browser.submit(fetch, slow_site.port, "/spin")]
    victim = busy_worker(slow_site)
    wait_until(lambda: slow_site.master.workers("busy")[0]["seconds"] > 0.4)
    asking.append(browser.submit(fetch, slow_site.port, "/sleep"))  # that keeps it for longer
    wait_until(lambda: {row["state"] for row in slow_site.master.workers() if row["pid"] == victim} == {"leaving"})
    assert alive(victim)
    assert [one.result(15).status for one in asking] == [504, 504]
    wait_until(lambda: not alive(victim), 5)
    wait_until(lambda: len(slow_site.master.workers("idle")) == 4)


@pytest.mark.parametrize("way", ["unbegun", "begun"])
def test_what_has_begun_is_cut_visibly(slow_site: Site, way: str) -> None:
    if way == "begun":
        with pytest.raises(http.client.IncompleteRead):
            fetch(slow_site.port, "/begun")
    else:
        assert fetch(slow_site.port, "/unbegun").status == 504


def test_a_request_that_waits_for_its_body_is_ended(slow_site: Site) -> None:
    with Front(slow_site.settings.socket) as front:
        front.send(head(REQUEST_METHOD="POST", CONTENT_LENGTH="10", PATH_INFO="/read", REQUEST_URI="/read"))
        front.send(stdin(b"part")[:-8])
        assert b"504 Gateway Timeout" in front.answer().status


def test_who_wakes_up_late_finds_the_front_end_gone(slow_site: Site, browser: ThreadPoolExecutor) -> None:
    asking = [browser.submit(fetch, slow_site.port, "/oversleep")]
    victim = busy_worker(slow_site)
    wait_until(lambda: slow_site.master.workers("busy")[0]["seconds"] > 0.8)
    asking.append(browser.submit(fetch, slow_site.port, "/sleep"))  # keeps the worker until the first has woken up
    answers, statuses = while_running(
        slow_site.port, naps(), lambda: [one.result(15).status for one in asking], more=10
    )
    assert statuses == [504, 504]
    assert {status for _, status, _ in answers} == {200}
    wait_until(lambda: not alive(victim), 10)
    assert slow_site.settings.journal() == ["woke up"]
    assert [(entry["uri"], entry["status"]) for entry in access(slow_site)] == [("/oversleep", 504), ("/sleep", 504)]


def test_requests_that_end_just_then_are_answered_either_way(place: Path) -> None:
    pool = {"max_children": 2, "threads": 4, "request_terminate_timeout": 0.2}
    with site("nginx", Settings(place, pool, OVERDUE)) as running:
        posts = [Post(("/nap", "/short")[n % 2], b"", n / 20) for n in range(100)]
        answers = asyncio.run(at_pace(running.port, posts))
        assert {status for _, status, _ in answers} <= {200, 504}
        (status,) = running.master.status()["pools"]
        assert status["ended"]["crashed"] == 0
        assert "killed" not in running.master.said


@pytest.mark.parametrize("way", ["match", "gil"])
def test_code_that_holds_the_gil_is_killed_with_its_worker(
    slow_site: Site, browser: ThreadPoolExecutor, way: str
) -> None:
    other = browser.submit(fetch, slow_site.port, "/nap?id=2")
    asking = browser.submit(fetch, slow_site.port, f"/{way}?id=1")
    victim = busy_worker(slow_site)
    assert asking.result(15).status == 502
    assert other.result(15).status in (200, 502)
    wait_until(lambda: not alive(victim), 5)
    assert fetch(slow_site.port, "/").status == 200
    (line,) = [line for line in slow_site.master.said.splitlines() if f"worker {victim} killed" in line]
    assert re.search(rf"could not end .*GET 127\.0\.0\.1/{way}\?id=1 after [23]\.\d s", line)
    entries = {entry["uri"]: entry for entry in wait_until(lambda: access(slow_site))}
    entry = entries[f"/{way}?id=1"]
    assert (entry["status"], entry["pid"], entry["complete"], entry["method"]) == (504, victim, False, "GET")
    assert (entry["host"], entry["application"], entry["remote_addr"]) == ("127.0.0.1", "overdue", "127.0.0.1")
    assert 2.5 < entry["seconds"] < 5


def test_a_stopped_process_is_killed(slow_site: Site, browser: ThreadPoolExecutor) -> None:
    asking = [browser.submit(fetch, slow_site.port, f"/sleep?id={n}") for n in range(3)]
    wait_until(lambda: len(slow_site.master.workers("busy")) == 3)
    victim = busy_worker(slow_site)
    os.kill(victim, signal.SIGSTOP)
    assert [one.result(15).status for one in asking] == [502] * 3
    wait_until(lambda: not alive(victim), 5)
    wait_until(lambda: sorted(entry["uri"] for entry in access(slow_site)) == [f"/sleep?id={n}" for n in range(3)])
    assert {(entry["status"], entry["pid"]) for entry in access(slow_site)} == {(504, victim)}


def test_a_graceful_stop_keeps_the_deadline(slow_site: Site, browser: ThreadPoolExecutor) -> None:
    asking = browser.submit(fetch, slow_site.port, "/sleep")
    busy_worker(slow_site)
    slow_site.master.signal(signal.SIGQUIT)
    assert asking.result(15).status == 504
    assert slow_site.master.wait() == 0


def test_requests_in_time_are_left_alone(place: Path) -> None:
    pool = {"max_children": 1, "threads": 4, "request_terminate_timeout": 0.4}
    with site("nginx", Settings(place, pool, OVERDUE)) as running:
        before = {worker["pid"] for worker in running.master.workers()}
        answers = asyncio.run(at_pace(running.port, [Post("/", b"", n / 200) for n in range(300)]))
        assert {status for _, status, _ in answers} == {200}
        assert {worker["pid"] for worker in running.master.workers()} == before
