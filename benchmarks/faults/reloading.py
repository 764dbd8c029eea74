"""Reloads: of broken code, many in a row, storms of signals, and one while a slow request runs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from benchmarks.faults.stage import (
    WORKERS,
    Watch,
    descriptors,
    left_over,
    masters,
    pace,
    pool,
    prepare,
    serving,
    size,
    stage,
)
from benchmarks.faults.verdicts import Report, compare
from benchmarks.load import RATE, asked_seconds, lost, milliseconds, post, under_load, usual_load, waits
from gateway.net import control
from tests.end_to_end.browsing import fetch
from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    Master,
    Settings,
    Site,
    descendants,
    proportional_size,
    short_place,
)
from tests.waiting import wait_until

_BROKEN = {
    "a SyntaxError": ("def broken(:\n", "SyntaxError"),
    "an ImportError": ("import module_that_is_not_there\n", "ModuleNotFoundError"),
    "sys.exit": ("raise SystemExit(3)\n", "SystemExit"),
    "a hang": ("time.sleep(60)\n", "time.sleep(60)"),
}


def deploy(settings: Settings, version: int, more: str = "") -> None:
    """Put a version of the application in place, at once; `more` is code at its end."""
    source = settings.place / "application.py"
    lines = source.read_text().splitlines(keepends=True)
    good = lines[: lines.index("    return [body]\n") + 1]
    good = [f"VERSION = {version}\n" if line.startswith("VERSION =") else line for line in good]
    new = settings.place / "new"
    new.write_text("".join(good) + more)
    new.rename(source)


def reload_command(settings: Settings) -> subprocess.CompletedProcess[str]:
    """Run `gateway reload`."""
    command = [*GATEWAY, "reload", str(settings.file)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False)


def reload(master: Master) -> dict[str, object]:
    """Ask the master as that command does, without the cost of starting it; return its answer."""
    return control.call(str(master.settings.control), {"command": "reload"}, 60)


def refuse_four(running: Site) -> dict[str, tuple[int, bool, bool]]:
    """Deploy and reload each kind of broken code: exit code, whether the cause was shown and the old serve."""
    seen = {}
    before = serving(running.master)
    for name, (code, cause) in _BROKEN.items():
        deploy(running.settings, 2, code)
        done = reload_command(running.settings)
        seen[name] = done.returncode, cause in done.stderr, serving(running.master) == before
    deploy(running.settings, 3)
    seen["good code"] = reload_command(running.settings).returncode, True, not serving(running.master) & before
    return seen


def broken_reloads(start_timeout: float) -> Report:
    """L39: reload with a broken application."""
    report = Report("L39", "reloads of broken code under load, then a good one")
    with stage({"start_timeout": start_timeout}) as running:
        answers, seen = under_load(running.port, usual_load(start_timeout + 3), partial(refuse_four, running))
        version = fetch(running.port, "/?id=last&seconds=0").text
    report.figures = {"sent": len(answers), "wait_ms": milliseconds(waits(answers))}
    report.none("lost", len(lost(answers)))
    for name in _BROKEN:
        code, shown, old = seen[name]
        report.true(f"{name}: `gateway reload` exits non-zero", code != 0, f"exit {code}")
        report.true(f"{name}: with its traceback", shown)
        report.true(f"{name}: the old processes serve", old)
    code, _, new = seen["good code"]
    report.true("then good code: the reload succeeds", code == 0 and new and version == "last 3", f"exit {code}")
    return report


def reload_often(running: Site, seconds: float, times: int) -> list[bool]:
    """Reload new code so many times, evenly."""
    done = []
    start = time.monotonic()
    for number in range(times):
        pace(start + (number + 0.5) * seconds / times - time.monotonic())
        deploy(running.settings, number + 2)
        done.append(bool(reload(running.master)["ok"]))
    return done


def many_reloads(seconds: float, times: int, baseline: float) -> Report:
    """L40: reloads in a row; the load alone before is the baseline."""
    report = Report("L40", f"{times} reloads in {seconds:g} s")
    with stage() as running:
        master = running.master
        alone, _ = under_load(running.port, usual_load(baseline), lambda: None)
        files, memory, own = descriptors(master.pid), size(master), proportional_size(master.pid)
        first = int(baseline * RATE)
        posts = usual_load(seconds, first=first)
        answers, done = under_load(running.port, posts, partial(reload_often, running, seconds, times))
        wait_until(master.ready, 20, "one generation")
        with suppress(AssertionError):  # what the last of the old workers held is closed when it has been reaped
            wait_until(lambda: descriptors(master.pid) <= files, 5)
        after, memory_after, own_after = descriptors(master.pid), size(master), proportional_size(master.pid)
        generations = {worker["generation"] for worker in master.workers()}
        report.figures = {
            "sent": len(answers), "wait_ms": milliseconds(waits(answers)), "wait_before_ms": milliseconds(waits(alone)),
            "memory_kib": [memory, memory_after], "memory_of_the_master_kib": [own, own_after],
            "descriptors_of_the_master": [files, after],
        }  # fmt: skip
        report.none("lost", len(lost(answers)))
        report.none("reloads refused", done.count(False))
        compare(report, answers, alone, 2)
        report.true("one generation left, and whole", generations == {times + 1} and len(master.workers()) == WORKERS)
        report.at_most("descriptors more than at the start", after - files, 0)
        report.at_most("memory as at the start", memory_after / memory, 1.1, " x")
        report.at_most("the master's as at the start", own_after / own, 1.1, " x")
    return report


@dataclass
class Storm:
    """What was seen while signals came."""

    statuses: list[tuple[int, int]] = field(default_factory=list)  # the master's pid, serving workers

    def look(self, master: Master) -> None:
        """Ask the master."""
        status = control.call(str(master.settings.control), {"command": "status"}, 5)
        self.statuses.append((status["pid"], len(serving(master))))


def storm(running: Site, signals: int, storms: int) -> Storm:
    """Send bursts of SIGHUP, 0 to 25 ms apart, and SIGHUP to a worker."""
    seen, choice = Storm(), random.Random(2)
    with Watch(partial(seen.look, running.master)):
        for _ in range(storms):
            for _ in range(signals):
                running.master.signal(signal.SIGHUP)
                pace(choice.uniform(0, 0.025))
            wait_until(running.master.ready, 20, "the end of the reloads")
        for pid in serving(running.master):
            os.kill(pid, signal.SIGHUP)
    return seen


def signal_storms(storms: int, repeats: int) -> Report:
    """L41: 25 reload signals at once, to a worker, during the start, and TERM during a reload."""
    report = Report("L41", f"{storms} x 25 reload signals 0 to 25 ms apart; at a start; TERM meanwhile")
    with stage() as running:
        master = running.master
        answers, seen = under_load(running.port, usual_load(2.5 * storms), partial(storm, running, 25, storms))
        wait_until(master.ready, 20, "a whole pool")
        report.figures = {"sent": len(answers), "wait_ms": milliseconds(waits(answers))}
        report.figures["generations"] = pool(master)["generation"]
        report.none("lost", len(lost(answers)))
        report.true("the master is the same", {pid for pid, _ in seen.statuses} == {master.pid})
        report.at_most("masters", masters(master), 1)
        report.at_least("fewest workers at any time", min(count for _, count in seen.statuses), 1)
        report.true("the pool is whole afterwards", len(serving(master)) == WORKERS == len(master.workers()))
    starts = [reload_at_start() for _ in range(repeats)]
    report.true("signals during the start: it serves", all(starts), f"{sum(starts)} of {repeats}")
    stops = [terminate_during_reload(0.02 * number) for number in range(repeats)]
    ends = [code for code, _ in stops]
    report.true("TERM during a reload: exit code 0", set(ends) == {0}, f"{ends.count(0)} of {repeats}")
    report.none("processes left after TERM", sum(left for _, left in stops))
    return report


def reload_at_start() -> bool:
    """Send three SIGHUP as soon as the process ID is known, while the application is being imported."""
    with short_place() as place:
        settings = prepare(place, {"max_children": 2})
        deploy(settings, 1, "time.sleep(0.3)\n")
        master = Master(settings)
        try:
            master.wait_for(settings.pid_file.exists)
            for _ in range(3):
                master.signal(signal.SIGHUP)
                pace(0.1)
            master.wait_ready()
            return len(serving(master)) == 2 and masters(master) == 1
        finally:
            master.stop()


def terminate_during_reload(after: float) -> tuple[int, int]:
    """Send SIGHUP and, so many seconds later, SIGTERM; return the exit code and how many processes are left."""
    with short_place() as place:
        master = Master(prepare(place, {"max_children": 4}))
        try:
            master.wait_ready()
            started = descendants(master.pid)
            master.signal(signal.SIGHUP)
            pace(after)
            started += [pid for pid in descendants(master.pid) if pid not in started]
            master.signal(signal.SIGTERM)
            return master.wait(), left_over(started)
        finally:
            master.stop()


def reload_beside_a_slow_request(slow: float) -> Report:
    """A reload while one request of some seconds runs: it finishes, and the others do not wait for it."""
    report = Report("4s", f"a reload while a request of {slow:g} s runs")
    with stage() as running:
        posts = usual_load(slow + 1)
        posts.append(post(len(posts), slow, 0.5))
        posts.sort(key=lambda post: post.at)

        def reload_once() -> dict[str, object]:
            pace(0.7)
            return reload(running.master)

        answers, done = under_load(running.port, posts, reload_once)
    others = waits(answer for answer in answers if asked_seconds(answer.post) < slow)
    report.figures = {"sent": len(answers), "wait_ms": milliseconds(others)}
    report.none("lost", len(lost(answers)))
    report.true("the reload succeeds", bool(done["ok"]))
    report.at_most("longest wait of the others", others[-1] * 1000, 100, " ms")
    return report
