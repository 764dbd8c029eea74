"""Run the faults against the gateway, print what must hold beside what was measured, and write the figures as JSON.

    python -m benchmarks.faults [--short] [--results FILE] [NAME …]

In full they take about ten minutes. The exit code is 1 if something that must hold did not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from benchmarks.faults.scenarios import SCENARIOS
from benchmarks.faults.verdicts import Report
from benchmarks.load import RATE, SLOW
from benchmarks.machine import first_line, surroundings
from benchmarks.peers import HERE
from tests.end_to_end.running import GATEWAY


def run(names: Iterable[str], *, short: bool) -> list[Report]:
    """Run faults one after the other, and print each report as it is there."""
    reports = []
    for name in names:
        inject = SCENARIOS[name].short if short else SCENARIOS[name].full
        if inject is None:
            continue
        busy = round(os.getloadavg()[0], 1)  # with what else the machine does: processes that run or want to
        reports.append(inject())
        reports[-1].figures["load_average_before"] = busy
        print("\n".join(reports[-1].lines()) + "\n", flush=True)
    return reports


def main() -> int:
    """Run what the command line names, everything by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description="What faults cost the clients.")
    parser.add_argument("name", nargs="*", choices=[[], *SCENARIOS], help="only these")
    parser.add_argument("--short", action="store_true", help="seconds instead of minutes; figures are not kept")
    parser.add_argument("--results", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    reports = run(arguments.name or SCENARIOS, short=arguments.short)
    results = arguments.results or (None if arguments.short or arguments.name else HERE / "results" / "faults.json")
    if results is not None:
        figures = {"command": "python -m benchmarks.faults", "gateway": first_line(*GATEWAY, "--version")}
        figures |= surroundings() | {"requests_a_second": RATE, "of_which_5_percent_take_s": SLOW}
        faults = [asdict(report) | {"holds": report.holds} for report in reports]
        results.write_text(json.dumps(figures | {"faults": faults}, indent=1) + "\n")
    return 0 if all(report.holds for report in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
