"""The load of most rows: wrk, or where that is missing the benchmark's own generator, which takes more CPU itself."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.bench.generator import Load, drive
from benchmarks.peers import find

WRK = find("wrk")
_WHOLE = re.compile(r"(\d+) requests in")
_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
_OTHER_STATUS = re.compile(r"Non-2xx or 3xx responses: (\d+)")
_SOCKET_ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")


@dataclass(frozen=True)
class Served:
    """What came of a load."""

    requests: int
    rate: float  # requests a second
    errors: int


def generator() -> str:
    """Who makes the load."""
    return "wrk" if WRK else "benchmarks.bench.generator, for wrk is not installed"


def load(port: int, *, connections: int, seconds: int, headers: Mapping[str, str]) -> Served:
    """Send GET / to 127.0.0.1:`port` by so many kept connections, each as soon as it has its answer."""
    if not WRK:
        outcome = drive(port, Load(connections, seconds, headers))
        requests = len(outcome.quick)
        return Served(requests, requests / outcome.seconds, outcome.errors)
    command = [WRK, "-t1", f"-c{connections}", f"-d{seconds}s"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    said = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True, timeout=seconds + 30
    )
    return read(said.stdout)


def read(text: str) -> Served:
    """Understand what wrk prints."""
    whole, rate = _WHOLE.search(text), _RATE.search(text)
    if whole is None or rate is None:
        raise ValueError(f"wrk said: {text}")
    other, broken = _OTHER_STATUS.search(text), _SOCKET_ERRORS.search(text)
    errors = sum(map(int, (*(other.groups() if other else ()), *(broken.groups() if broken else ()))))
    return Served(int(whole[1]), float(rate[1]), errors)
