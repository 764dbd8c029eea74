"""What reloads, broken code and dying workers cost the clients of PHP-FPM, uWSGI, gunicorn and the gateway.

Each server in turn gets the load of `benchmarks.load` through one nginx.

    python -m benchmarks.reload [--server NAME] [--case NAME] [--results FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import random
import signal
import statistics
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.load import (
    PATIENCE,
    RATE,
    SLOW,
    Journal,
    asked_seconds,
    is_right,
    lost,
    p99,
    post,
    usual_load,
    waits,
)
from benchmarks.peers import BACKLOG, HERE, PEERS, WORKERS, Peer, nginx
from tests.end_to_end.browsing import Post, Timed, fetch, timed
from tests.end_to_end.running import Program, short_place

_KILL_EVERY = 0.1  # seconds

Disturb = Callable[[Peer, Program], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Case:
    """A load of so many seconds, and what happens to the server meanwhile."""

    name: str
    seconds: int
    disturb: Disturb
    version: int  # of the code that is to serve at the end
    slow_request: float = 0.0  # seconds that one more request takes, sent after one second


@dataclass(frozen=True)
class Outcome:
    """What the clients of one server saw in one case. Waits in seconds."""

    sent: int
    lost: int
    lost_but_run: int
    run_twice: int
    longest_wait: float
    p99_wait: float
    median_wait: float
    new_code: bool  # whether the last right answer came from the code that is to serve at the end
    master_ended: bool
    statuses: dict[str, int]  # of lost requests; "0" for a connection that broke or an answer that did not come


async def reload_three_times(peer: Peer, master: Program) -> None:
    """Deploy and reload good code, every three seconds."""
    for version in (2, 3, 4):
        await asyncio.sleep(2 if version == 2 else 3)
        peer.deploy(version)
        await peer.reload(master)


async def reload_once(peer: Peer, master: Program) -> None:
    """Deploy and reload good code while the slow request runs."""
    await asyncio.sleep(1.5)
    peer.deploy(2)
    await peer.reload(master)


async def break_and_repair(peer: Peer, master: Program) -> None:
    """Deploy and reload a syntax error, and four seconds later what should have been deployed."""
    await asyncio.sleep(2)
    peer.deploy(2, broken=True)
    await peer.reload(master)
    await asyncio.sleep(4)
    peer.deploy(2)
    await peer.reload(master)


async def kill_workers(peer: Peer, master: Program) -> None:
    """Kill one worker, whether it is busy or not, every 100 ms for six seconds."""
    choice = random.Random(1)
    await asyncio.sleep(1)
    clock = asyncio.get_running_loop().time
    start = clock()
    for number in range(60):
        await asyncio.sleep(max(0.0, start + number * _KILL_EVERY - clock()))
        if workers := await asyncio.to_thread(peer.workers, master):
            with suppress(ProcessLookupError):  # it may have ended since
                os.kill(choice.choice(sorted(workers)), signal.SIGKILL)


CASES = [
    Case("three reloads of good code", 12, reload_three_times, 4),
    Case("a reload while a request of 4 s runs", 8, reload_once, 2, slow_request=4.0),
    Case("a deploy with a syntax error, repaired after 4 s", 10, break_and_repair, 2),
    Case("a worker killed every 100 ms for 6 s", 8, kill_workers, 1),
]


def load(case: Case) -> list[Post]:
    """The requests of a case, in the order of their sending."""
    posts = usual_load(case.seconds)
    if case.slow_request:
        posts.append(post(len(posts), case.slow_request, 1.0))
    return sorted(posts, key=lambda post: post.at)


def judge(answers: list[Timed], case: Case, journal: Path, *, master_ended: bool) -> Outcome:
    """Count what was lost and how long was waited. The wait of the slow request itself is not counted."""
    runs = Journal.read(journal).runs
    missing = lost(answers)
    right = sorted((answer for answer in answers if is_right(answer)), key=lambda a: a.post.at + a.seconds)
    waited = waits(answer for answer in answers if asked_seconds(answer.post) <= SLOW)
    return Outcome(
        sent=len(answers),
        lost=len(missing),
        lost_but_run=sum(1 for answer in missing if runs[answer.post.body]),
        run_twice=sum(1 for answer in answers if runs[answer.post.body] > 1),
        longest_wait=round(waited[-1], 3),
        p99_wait=round(p99(waited), 3),
        median_wait=round(statistics.median(waited), 4),
        new_code=right[-1].body.split()[1] == b"%d" % case.version,
        master_ended=master_ended,
        statuses={str(status): count for status, count in collections.Counter(a.status for a in missing).items()},
    )


def serves(peer: Peer, master: Program) -> bool:
    """Whether all its workers are there, and one of them answers."""
    if len(peer.workers(master)) != WORKERS:
        return False
    with suppress(OSError):
        return fetch(peer.port, "/?id=first&seconds=0", "POST", body=b"").text == "first 1"
    return False


async def run_disturbed(case: Case, peer: Peer, master: Program) -> list[Timed]:
    """Send the load while the server is disturbed."""
    disturbing = asyncio.create_task(case.disturb(peer, master))
    answers = await timed(peer.port, load(case), PATIENCE)
    await disturbing
    return answers


def measure(case: Case, peer: Peer) -> Outcome:
    """Play one case against one server."""
    master = peer.start()
    try:
        master.wait_for(lambda: serves(peer, master), 20)
        answers = asyncio.run(run_disturbed(case, peer, master))
        return judge(answers, case, peer.journal, master_ended=master.process.poll() is not None)
    finally:
        master.stop()


def row(name: str, outcome: Outcome) -> str:
    """One line of the table."""
    remarks = [f"{count} x {status}" for status, count in outcome.statuses.items() if status != "0"]
    remarks += [f"{outcome.statuses['0']} without an answer"] if "0" in outcome.statuses else []
    if outcome.master_ended:
        remarks.append("the master has ended")
    elif not outcome.new_code:
        remarks.append("the old code serves")
    waits = f"{outcome.longest_wait * 1000:10.0f} {outcome.p99_wait * 1000:8.0f}"
    return f"  {name:39} {outcome.lost:5} {outcome.lost_but_run:8} {outcome.run_twice:6} {waits}  {', '.join(remarks)}"


def compare(cases: Sequence[Case], peers: Sequence[Peer]) -> dict[str, dict[str, Any]]:
    """Play every case against every server, and print the table as it grows."""
    outcomes: dict[str, dict[str, Any]] = {}
    for case in cases:
        print(f"\n{case.name}; {len(load(case))} requests")
        print(f"  {'':39}       of these    run   longest      p99")
        print(f"  {'':39}  lost      run  twice   wait ms  wait ms")
        outcomes[case.name] = {}
        for peer in peers:
            outcome = measure(case, peer)
            outcomes[case.name][peer.name] = asdict(outcome)
            print(row(peer.name, outcome), flush=True)
    return outcomes


def surroundings(peers: Sequence[Peer]) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "command": "python -m benchmarks.reload",
        **machine.surroundings(),
        "servers": {peer.name: peer.version() for peer in peers},
        "workers": WORKERS,
        "listen_queue": BACKLOG,
        "requests_a_second": RATE,
    }


def main() -> None:
    """Compare, print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description="What reloads, broken code and dying workers cost the clients.")
    parser.add_argument("--server", action="append", help="only this one (repeatable)")
    parser.add_argument("--case", action="append", help="only cases whose names contain this (repeatable)")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "reload.json", help="file for the figures")
    arguments = parser.parse_args()
    chosen = [kind for kind in PEERS if not arguments.server or kind.name in arguments.server]
    cases = [case for case in CASES if not arguments.case or any(part in case.name for part in arguments.case)]
    missing = [f"{kind.name}: {kind.wanted}" for kind in chosen if not kind.program]
    for line in missing:
        print(f"not installed, and left out: {line}")
    with short_place() as place:
        peers = [kind(place, number) for number, kind in enumerate(chosen) if kind.program]
        with nginx(place, peers):
            outcomes = compare(cases, peers)
        figures = surroundings(peers) | {"not_installed": missing, "cases": outcomes}
    arguments.results.parent.mkdir(exist_ok=True)
    arguments.results.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
