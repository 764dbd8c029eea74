"""lighttpd's bin-path: every child that it starts serves, by itself or as a pool, and none is left when it stops."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

import pytest

from tests.end_to_end.browsing import Post, fetch, over_connections
from tests.end_to_end.running import (
    HERE,
    ROOT,
    USER,
    Settings,
    alive,
    children,
    descendants,
    front,
    front_configuration,
    proportional_size,
)
from tests.waiting import free_port, wait_until


def spawned(place: Path, port: int, processes: int | None, flags: str = "") -> str:
    """The bundled configuration with bin-path, for so many processes; None leaves their number to lighttpd.

    lighttpd starts min-procs of them at once, by default four, and more, up to max-procs, when they do not keep up.
    """
    user = f"--user {USER}" if USER else ""
    command = place / "serve"
    command.write_text(
        f"#!/bin/sh\nJOURNAL={place}/journal GATES={place}/gates PYTHONPATH={ROOT} "
        f"exec {sys.executable} -m gateway serve everything:application --app-dir {HERE} {user} {flags}\n"
    )
    command.chmod(0o755)
    configuration = front_configuration("lighttpd", Settings(place), port, bin_path=str(command))
    assert '"max-procs" => 1,' in configuration
    return configuration.replace(
        '"max-procs" => 1,', "" if processes is None else f'"min-procs" => {processes}, "max-procs" => {processes},'
    )


def some_pids(port: int) -> set[int]:
    """The processes that answer twenty requests at the same time."""
    return {int(body) for _, _, body in over_connections(port, [Post("/pid", b"")] * 20, 20)}


@pytest.mark.parametrize(("processes", "expected"), [(5, 5), (None, 4)])
def test_every_child_serves_and_none_is_left(place: Path, processes: int | None, expected: int) -> None:
    port = free_port()
    with front("lighttpd", place, spawned(place, port, processes), port) as lighttpd:
        wait_until(lambda: len(children(lighttpd.pid)) == expected, what="the processes")
        started = children(lighttpd.pid)
        waiting = set(started)

        def all_have_answered() -> bool:
            waiting.difference_update(some_pids(port))
            return not waiting

        wait_until(all_have_answered, 20, "an answer of every child")
        sizes = [proportional_size(pid) for pid in started]
        print(f"max-procs {processes}: PSS of each child {sizes} KiB")
        assert max(sizes) < 40_000
    wait_until(lambda: not any(map(alive, started)), what="the end of the children")


def test_pool_under_bin_path(place: Path) -> None:
    port = free_port()
    with front("lighttpd", place, spawned(place, port, 1, "--max-children 3"), port) as lighttpd:
        assert fetch(port, "/hello").text == "Hello\n"
        (master,) = children(lighttpd.pid)
        pids = some_pids(port)
        started = descendants(lighttpd.pid)  # afterwards: workers may start after the first answer
        assert pids <= set(started)
        assert master not in pids
    wait_until(lambda: not any(map(alive, started)), what="the end of the pool")


def test_running_request_finishes_when_lighttpd_is_asked_to_stop(place: Path) -> None:
    """SIGINT is lighttpd's graceful stop: it goes on to serve what it has taken."""
    port = free_port()
    settings = Settings(place)
    with front("lighttpd", place, spawned(place, port, 1), port) as lighttpd:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(fetch(port, "/hold?gate=stop").text))
        asking.start()
        wait_until(lambda: "running stop" in settings.journal())
        lighttpd.signal(signal.SIGINT)
        settings.open_gate("stop")
        asking.join(15)
        assert answers == ["held\n"]
