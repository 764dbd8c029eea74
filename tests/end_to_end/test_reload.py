"""Reloads under load: each request is run exactly once and answered, whether the new code is good or broken."""

from __future__ import annotations

import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch, while_running, work
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, HERE, Settings, Site, serving, site
from tests.waiting import wait_until

RATE = 200  # requests a second


@pytest.fixture
def settings(place: Path) -> Settings:
    """A pool whose application is a copy that a test may break."""
    shutil.copy(HERE / "everything.py", place / "everything.py")
    return Settings(place, {"app_dir": str(place), "max_children": 16})


def reloads(running: Site) -> tuple[list[int], str]:
    """Several reloads, the last one of a broken application: their exit codes, and what the last one said."""
    codes = []
    for _ in range(4):
        threading.Event().wait(0.7)  # the rhythm of the reloads
        codes.append(run_reload(running.settings).returncode)
    source = running.settings.place / "everything.py"
    source.write_text(source.read_text() + "\nraise RuntimeError('broken on purpose')\n")
    refused = run_reload(running.settings)
    return [*codes, refused.returncode], refused.stderr + refused.stdout


def test_reloads_lose_and_repeat_nothing(settings: Settings, front_name: str) -> None:
    with site(front_name, settings) as running:
        answers, (codes, said) = while_running(running.port, work(RATE, 0.6), lambda: reloads(running))
        assert codes == [0, 0, 0, 0, 1]
        assert "RuntimeError: broken on purpose" in said
        wrong = [(post.path, status, body[:80]) for post, status, body in answers if (status, body) != (200, post.body)]
        assert wrong == []
        assert sorted(settings.journal(), key=int) == [str(n) for n in range(len(answers))]
        assert fetch(running.port, "/hello").status == 200
        wait_until(running.master.ready, what="one generation left")
        assert len(running.master.workers()) == 16


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2])
def test_signal_loads_new_code(settings: Settings, number: signal.Signals) -> None:
    with serving(settings) as master:
        before = {worker["pid"] for worker in master.workers()}
        master.signal(number)
        wait_until(lambda: master.ready() and not before & {worker["pid"] for worker in master.workers()}, 20)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        ("raise SystemExit(3)", "SystemExit"),
        ("def broken(:", "SyntaxError"),
        ("import module_that_is_not_there", "ModuleNotFoundError"),
        ("del application", "application"),
        ("time.sleep(60)", "    time.sleep(60)\n"),
    ],
)
def test_broken_code_is_refused_and_the_next_good_reload_works(settings: Settings, broken: str, complaint: str) -> None:
    source = settings.place / "everything.py"
    good = source.read_text()
    if "sleep" in broken:
        settings.pool["start_timeout"] = 5  # which is how long it takes
        settings.write()
    with serving(settings) as master:
        before = sorted(worker["pid"] for worker in master.workers())
        source.write_text(f"{good}\n{broken}\n")
        refused = run_reload(settings)
        assert (refused.returncode, complaint in refused.stderr + refused.stdout) == (1, True), refused
        assert sorted(worker["pid"] for worker in master.workers()) == before
        source.write_text(good)
        assert run_reload(settings).returncode == 0
        assert not set(before) & {worker["pid"] for worker in master.workers("idle")}


def run_reload(settings: Settings) -> subprocess.CompletedProcess[str]:
    command = [*GATEWAY, "reload", str(settings.file)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60)


def test_request_that_runs_during_a_reload_finishes(settings: Settings, front_name: str) -> None:
    with site(front_name, settings) as running:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(fetch(running.port, "/hold?gate=reload").text))
        asking.start()
        wait_until(lambda: "running reload" in settings.journal())
        assert run_reload(settings).returncode == 0
        assert answers == []
        settings.open_gate("reload")
        asking.join(15)
        assert answers == ["held\n"]
