"""Stopping: QUIT lets requests finish, TERM and INT are fast, and nothing of a master is left behind."""

from __future__ import annotations

import http.client
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import GATEWAY, Master, Program, Settings, Site, alive, descendants, serving, site
from tests.waiting import wait_until


def stop_by_command(running: Site) -> Program:
    return Program([*GATEWAY, "stop", running.settings.file], running.settings.place / "stop.log")


@pytest.mark.parametrize(
    "ask", [lambda running: running.master.signal(signal.SIGQUIT), stop_by_command], ids=["SIGQUIT", "gateway stop"]
)
def test_graceful_stop_finishes_the_running_request(place: Path, ask: Callable[[Site], Program | None]) -> None:
    with site("nginx", Settings(place)) as running:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(fetch(running.port, "/hold?gate=quit").text))
        asking.start()
        wait_until(lambda: "running quit" in running.settings.journal())
        asked = ask(running)
        wait_until(lambda: len(running.master.workers("idle")) == 0 or running.master.process.poll() is not None)
        assert running.master.process.poll() is None
        running.settings.open_gate("quit")
        asking.join(15)
        assert answers == ["held\n"]
        assert running.master.wait() == 0
        assert asked is None or asked.wait() == 0, asked.said


@pytest.mark.alone  # it has to be fast
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_fast_stop_does_not_wait_for_requests(place: Path, number: signal.Signals) -> None:
    with site("nginx", Settings(place)) as running:
        statuses: list[int] = []

        def ask() -> None:
            try:
                statuses.append(fetch(running.port, "/hold?gate=never").status)
            except (http.client.HTTPException, OSError):
                statuses.append(0)

        asking = threading.Thread(target=ask)
        asking.start()
        wait_until(lambda: "running never" in running.settings.journal())
        running.master.signal(number)
        assert running.master.wait(3) == 0
        asking.join(15)
        assert statuses != [200]


def test_quit_that_lasts_too_long_is_cut(place: Path) -> None:
    with site("nginx", Settings(place, {"process_control_timeout": 0.5})) as running:
        asking = threading.Thread(target=lambda: fetch(running.port, "/hold?gate=never"))
        asking.start()
        wait_until(lambda: "running never" in running.settings.journal())
        (worker,) = running.master.workers("busy")
        running.master.signal(signal.SIGQUIT)
        assert running.master.wait() == 0
        asking.join(15)
        killed = f"worker {worker['pid']} killed, for it was not done in time during GET 127.0.0.1"
        assert killed in running.master.said  # nobody dies without a word


def delayed(place: Path) -> Settings:
    """A master that goes on serving for a minute after it was told to stop gracefully."""
    return Settings(place, more={"gateway": {"drain_delay": "1m"}})


def test_who_asks_learns_of_a_graceful_stop_while_it_still_serves(place: Path) -> None:
    with site("nginx", delayed(place)) as running:
        assert running.master.status()["stopping"] is False
        running.master.signal(signal.SIGQUIT)
        wait_until(lambda: running.master.status()["stopping"])
        assert len(running.master.workers("idle")) == 4
        assert fetch(running.port, "/hello").status == 200
        shown = Program([*GATEWAY, "status", running.settings.file], place / "status.log")
        assert shown.wait() == 0
        assert shown.said.splitlines()[0].endswith(", stopping")
        running.master.signal(signal.SIGQUIT)
        assert running.master.wait() == 0


def test_drain_delay_ends_by_itself(place: Path) -> None:
    settings = Settings(place, more={"gateway": {"drain_delay": "500ms"}})
    with serving(settings) as master:
        began = time.monotonic()
        assert stop_by_command(Site("", 0, settings, master, master)).wait() == 0
        assert time.monotonic() - began >= 0.5
        assert master.wait() == 0


def test_fast_stop_waits_for_no_delay(place: Path) -> None:
    with serving(delayed(place)) as master:
        master.signal(signal.SIGQUIT)
        wait_until(lambda: master.status()["stopping"])
        master.signal(signal.SIGTERM)
        assert master.wait() == 0


IMPORTING = """
import os, time
open(os.environ["JOURNAL"], "a").write("importing\\n")
time.sleep(60)
"""


def importing(place: Path, **pool: float) -> Master:
    """A master whose application hangs while it is imported."""
    (place / "slow.py").write_text(IMPORTING)
    settings = Settings(place, {"app_dir": str(place), **pool}, [{"name": "slow", "app": "slow:application"}])
    master = Master(settings)
    master.wait_for(settings.journal)
    return master


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_during_the_start_is_no_mistake_in_the_settings(place: Path, number: signal.Signals) -> None:
    with importing(place) as master:
        master.signal(number)
        assert master.wait() == 0
        assert "nothing to serve" not in master.said


def test_a_reload_during_the_start_is_waited_for(place: Path) -> None:
    with importing(place, start_timeout=3) as master:
        (place / "slow.py").write_text("def application(environ, start_response): ...\n")
        master.signal(signal.SIGHUP)
        master.wait_ready()
        assert "TimeoutError: not done within start_timeout (3 s)" in master.said


def test_stop_removes_everything(place: Path) -> None:
    settings = Settings(place)
    with serving(settings) as master:
        started = descendants(master.pid)
        assert settings.pid_file.read_text().strip() == str(master.pid)
        assert settings.socket.is_socket()
        master.signal(signal.SIGTERM)
        assert master.wait() == 0
    assert not any(map(alive, started))
    assert sorted(path.name for path in place.iterdir()) == ["gates", "gateway.log", "settings.json"]


def test_second_signal_does_no_harm(place: Path) -> None:
    with serving(Settings(place)) as master:
        for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            if master.process.poll() is None:
                os.kill(master.pid, number)
        assert master.wait() == 0
