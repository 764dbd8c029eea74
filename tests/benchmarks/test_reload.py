"""`python -m benchmarks.reload` measures what is there, and names what is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.reload import CASES, judge, load
from tests.end_to_end.browsing import Timed
from tests.end_to_end.running import ROOT


def test_lost_repeated_and_late_requests_are_counted(tmp_path: Path) -> None:
    case = CASES[1]
    posts = load(case)[:5]
    journal = tmp_path / "journal"
    journal.write_text("".join(f"begin {number} 7\n" for number in ("first", 0, 1, 2, 2, 4)))
    answers = [
        Timed(posts[0], 200, b"0 1", 0.6),  # it asked for 0.6 s
        Timed(posts[1], 502, b"<html>", 0.1),
        Timed(posts[2], 200, b"2 1", 1.5),
        Timed(posts[3], 0, b"broken", 10.0),
        Timed(posts[4], 200, b"4 2", 0.25),
    ]
    outcome = judge(answers, case, journal, master_ended=False)
    assert (outcome.sent, outcome.lost, outcome.lost_but_run, outcome.run_twice) == (5, 2, 1, 1)
    assert (outcome.longest_wait, outcome.median_wait) == (1.5, 0.25)
    assert outcome.statuses == {"502": 1, "0": 1}
    assert not outcome.new_code  # the answer that came last is the old code's


def test_answer_before_the_time_that_was_asked_for_is_wrong(tmp_path: Path) -> None:
    slow, quick = load(CASES[0])[:2]
    (tmp_path / "journal").write_text("begin 0 7\nbegin 1 7\nend 0 7\nend 1 7\n")
    answers = [Timed(slow, 200, b"0 4", 0.2), Timed(quick, 200, b"1 4", 0.01)]
    outcome = judge(answers, CASES[0], tmp_path / "journal", master_ended=False)
    assert (outcome.lost, outcome.new_code) == (1, True)


def test_good_reloads_of_the_gateway_lose_nothing_and_absent_servers_are_named(tmp_path: Path) -> None:
    results = tmp_path / "reload.json"
    bare = os.environ | {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = [sys.executable, "-m", "benchmarks.reload", "--case", "4 s runs", "--results", str(results)]
    for server in ("gateway", "gunicorn"):
        command += ["--server", server]
    said = subprocess.run(command, cwd=ROOT, env=bare, capture_output=True, text=True, check=True, timeout=90).stdout
    figures = json.loads(results.read_text())
    ((name, outcomes),) = figures["cases"].items()
    assert name == "a reload while a request of 4 s runs"
    assert "  gateway  " in said
    assert (outcomes["gateway"]["lost"], outcomes["gateway"]["run_twice"]) == (0, 0)
    assert outcomes["gateway"]["new_code"]
    assert ("gunicorn" in outcomes) != ("not installed, and left out: gunicorn" in said)
