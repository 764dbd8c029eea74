"""Run rows, print their tables, and write the figures and a plot of them.

python -m benchmarks.bench [ROW …] [--contender NAME] [--repeats N] [--seconds S] [--mebibytes M] [--results FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import engine
from benchmarks.bench.plot import svg
from benchmarks.bench.report import figures, table
from benchmarks.bench.rows import ROWS, WORKERS, Row, Sample, WrongAnswers
from benchmarks.bench.stage import Scale, Stage, staged
from benchmarks.bench.wrk import generator
from benchmarks.machine import first_line
from benchmarks.peers import HERE
from tests.end_to_end.running import short_place

ENGINE = "engine"  # a row that is a program of its own, for it needs no servers
ALL = "all"
NAMES = (*(row.name for row in ROWS), ENGINE)
MAIN = ("hello", "lighttpd", "asgi", "pure", "headers", "slow", "memory", "start", ENGINE)  # about 5 minutes


def present(row: Row, chosen: Sequence[str]) -> Row:
    """The row with those of its contenders that are wanted (any, if none is named) and installed."""
    contenders = [each for each in row.contenders if each.peer.program and (not chosen or each.name in chosen)]
    names = [contender.name for contender in contenders]
    return replace(row, contenders=contenders, ours=[name for name in row.ours if name in names])


def missing(rows: Sequence[Row]) -> list[str]:
    """Who is not installed, with what would have to be."""
    absent = {each.peer.name: each.peer.wanted for row in rows for each in row.contenders if not each.peer.program}
    return [f"{name}: {wanted}" for name, wanted in absent.items()]


def take_turns(row: Row, stage: Stage) -> dict[str, list[Sample]]:
    """A B C A B C …; before it, unless each is alone, one turn of each that is not counted."""
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in row.contenders}
    if not row.alone:
        for contender in row.contenders:
            stage.start(contender)
        for contender in row.contenders:
            stage.wait(contender)
            row.measure(stage, contender)
    for _ in range(stage.scale.repeats or row.repeats):
        for contender in row.contenders:
            samples[contender.name].append(row.measure(stage, contender))
            if row.alone:
                stage.stop(contender)
    return samples


def run(row: Row, scale: Scale) -> dict[str, Any]:
    """Measure and print one row; return its figures."""
    with short_place() as place, staged(row.front, place, row.contenders, scale) as stage:
        samples = take_turns(row, stage)
    print(f"\n{table(row, samples)}", flush=True)
    return figures(row, samples, stage.commands)


def surroundings(rows: Sequence[Row]) -> dict[str, Any]:
    """What the figures depend on."""
    peers = {each.peer.name: each.peer for row in rows for each in row.contenders}
    return {
        "command": "make bench",
        "date": time.strftime("%Y-%m-%d"),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "fronts": {"nginx": first_line("nginx", "-v"), "lighttpd": first_line("lighttpd", "-v")},
        "servers": {name: peer.version() for name, peer in peers.items()},
        "load": generator(),
        "workers": WORKERS,
    }


def commands(rows: dict[str, Any]) -> list[str]:
    """How the servers were started, each command once."""
    return list(dict.fromkeys(line for row in rows.values() for line in row["commands"].values()))


def folded(line: str) -> str:
    """At most 80 columns wide."""
    return textwrap.fill(line, 80, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="What a request costs the gateway and its peers.")
    parser.add_argument("row", nargs="*", help=f"{', '.join(NAMES)}, or all; default: {', '.join(MAIN)}")
    parser.add_argument("--contender", action="append", default=[], help="only this one (repeatable)")
    parser.add_argument("--repeats", type=int, default=0, help="turns of each contender; default: as the row says")
    parser.add_argument("--seconds", type=int, default=1, help="of each turn's load (default: 1)")
    parser.add_argument("--mebibytes", type=int, default=1024, help="of a large body (default: 1024)")
    parser.add_argument("--results", type=Path, help="folder for bench.json and bench.svg; none for single rows")
    arguments = parser.parse_args()
    if unknown := set(arguments.row) - {*NAMES, ALL}:
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)} and all")
    if not arguments.row or ALL in arguments.row:
        arguments.results = arguments.results or HERE / "results"
        arguments.row = NAMES if arguments.row else MAIN
    return arguments


def write(folder: Path, results: dict[str, Any]) -> None:
    """Write the figures and the plot."""
    folder.mkdir(exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (folder / "bench.svg").write_text(svg(results["rows"]))


def run_all(rows: Sequence[Row], scale: Scale) -> tuple[dict[str, Any], dict[str, str]]:
    """The figures of each row, and why there are none of some: who fails quickly would look fast."""
    found: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for row in rows:
        try:
            found[row.name] = run(row, scale)
        except (AssertionError, WrongAnswers, ValueError, OSError) as error:  # the first: it does not start
            failed[row.name] = str(error)
            print(f"\n{row.name}: failed: {error}", flush=True)
    return found, failed


def main() -> int:
    """Compare, print tables, and write the figures; 1 if a row failed."""
    arguments = parse()
    chosen = [row for row in ROWS if row.name in arguments.row]
    absent = missing(chosen)
    for line in absent:
        print(f"not installed, and left out: {line}")
    rows = [here for row in chosen if (here := present(row, arguments.contender)).contenders]
    found, failed = run_all(rows, Scale(arguments.seconds, arguments.mebibytes, arguments.repeats))
    results = surroundings(rows) | {"not_installed": absent, "failed": failed, "rows": found}
    versions = dict.fromkeys(results["servers"].values())
    print("", *(folded(line) for line in (*versions, *commands(found))), sep="\n")
    if ENGINE in arguments.row:
        print("\nengine: from the bytes of a request to the application's call", flush=True)
        engine.main([])
    if arguments.results:
        write(arguments.results, results)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
