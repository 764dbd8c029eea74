"""Reloads under load: each request is run exactly once and answered, whether the new code is good or broken."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from tests.end_to_end.browsing import fetch, while_running, work
from tests.end_to_end.running import ENVIRONMENT, GATEWAY, HERE, Program, Settings, Site, children, serving, site
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


def test_signals_that_come_while_settings_are_read_are_one_more_reload(place: Path) -> None:
    """Settings that come when this test lets them: each reading waits for them once. The master does not."""
    settings = Settings(place, {"max_children": 1})
    with serving(settings) as master:
        text = settings.file.read_bytes()
        settings.file.rename(place / "kept")
        os.mkfifo(settings.file)
        others = set(children(master.pid))
        (worker,) = master.workers()
        master.signal(signal.SIGHUP)
        writing = wait_until(lambda: _opened(settings.file), 20)
        (reader,) = set(children(master.pid)) - others
        for _ in range(5):
            os.killpg(master.pid, signal.SIGHUP)  # all of them, as `systemctl kill` does
            wait_until(lambda: not _is_pending(master.pid, signal.SIGHUP))
        os.kill(worker["pid"], signal.SIGKILL)
        wait_until(lambda: [each for each in master.workers("idle") if each["pid"] != worker["pid"]], 10)
        for again in (True, False):
            os.write(writing, text)
            os.close(writing)
            if again:
                wait_until(lambda: reader not in children(master.pid))
                writing = wait_until(lambda: _opened(settings.file), 20)
        wait_until(lambda: master.status()["pools"][0]["generation"] == 3 and master.ready(), 20)
        assert _opened(settings.file) is None
        settings.file.unlink()
        (place / "kept").rename(settings.file)
        wait_until(master.ready, 20)


def test_a_stop_does_not_wait_for_settings(place: Path) -> None:
    settings = Settings(place, {"max_children": 1})
    with serving(settings) as master:
        settings.file.rename(place / "kept")
        os.mkfifo(settings.file)
        command = [*GATEWAY, "reload", "--control", settings.control]
        with Program(command, place / "reload.log") as asking:
            writing = wait_until(lambda: _opened(settings.file), 20)
            master.signal(signal.SIGTERM)
            assert (master.wait(), asking.wait()) == (0, 1)
            assert "the gateway has stopped" in asking.said
        os.close(writing)


def _opened(fifo: Path) -> int | None:
    """A descriptor to write to, once somebody has opened it for reading."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def _is_pending(pid: int, number: int) -> bool:
    rows = dict(row.split(":\t", 1) for row in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in row)
    return bool((int(rows["SigPnd"], 16) | int(rows["ShdPnd"], 16)) >> (number - 1) & 1)
