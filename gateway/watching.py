"""`gateway status --watch`: what a master answers to `status`, each second anew, as a table or a line for each pool."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gateway.log import escape
from gateway.statustable import in_use

_EVERY = 1.0  # seconds
_MOST_REQUESTS = 12  # shown at once, those that have run longest

Answer = dict[str, Any]
Pause = Callable[[], bool]


def watch(ask: Callable[[], Answer]) -> int:
    """Show what `ask` answers until q or Ctrl-C; return the exit code. Where standard output is no terminal: lines."""
    try:
        with _pauses() as go_on:
            if sys.stdout.isatty():
                _show(ask, go_on)
            else:
                _print(ask, go_on)
    except KeyboardInterrupt:
        return 0
    return 0


@contextmanager
def _pauses() -> Iterator[Pause]:
    """Give what waits until it is time to ask again; false when q was pressed or the terminal has gone."""
    if not sys.stdin.isatty():
        yield _wait
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard)  # a key counts at once, and Ctrl-C is still a signal
    try:
        yield lambda: _wait_for_key(keyboard)
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _wait() -> bool:
    time.sleep(_EVERY)
    return True


def _wait_for_key(keyboard: int) -> bool:
    end = time.monotonic() + _EVERY
    while (left := end - time.monotonic()) > 0:
        if select.select([keyboard], [], [], left)[0]:
            keys = os.read(keyboard, 64)
            if not keys or b"q" in keys.lower():
                return False
    return True


def _show(ask: Callable[[], Answer], go_on: Pause) -> None:
    rates = _Rates()
    with Live(console=Console(), screen=True, auto_refresh=False) as live:
        while True:
            live.update(_screen(ask(), rates), refresh=True)
            if not go_on():
                return


def _print(ask: Callable[[], Answer], go_on: Pause) -> None:
    rates = _Rates()
    while True:
        now = time.strftime("%H:%M:%S")
        for pool in ask()["pools"]:
            rate = "" if (of_pool := rates.of(pool)) is None else f", {of_pool:.1f} requests/s"
            print(f"{now} {pool['name']}: {in_use(pool)}, {pool['listen_queue']} waiting{rate}")
        sys.stdout.flush()
        if not go_on():
            return


class _Rates:
    """Requests a second of each pool, since it was last asked for."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, int]] = {}

    def of(self, pool: Answer) -> float | None:
        """None where nobody counts them: in a foreign program (`gateway-spawn`)."""
        if "accepted_conn" not in pool:
            return None
        now, count = time.monotonic(), pool["accepted_conn"]
        then, before = self._last.get(pool["name"], (now, count))
        self._last[pool["name"]] = now, count
        return max(0, count - before) / (now - then) if now > then else 0.0


def _screen(answer: Answer, rates: _Rates) -> Group:
    title = Text(f"gateway {answer['version']}, process {answer['pid']}, {time.strftime('%H:%M:%S')}; q ends")
    return Group(title, Text(), _pools(answer["pools"], rates), Text(), _requests(answer["pools"]))


def _pools(pools: list[Answer], rates: _Rates) -> Table:
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("POOL", no_wrap=True, ratio=1)
    for heading in ("BUSY", "IDLE", "ALL", "MAX", "QUEUE", "REQUESTS", "PER S"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("STATE", no_wrap=True)
    for pool in pools:
        fields = ("active_processes", "idle_processes", "total_processes", "max_children", "listen_queue")
        numbers = [str(pool.get(field, "")) for field in (*fields, "accepted_conn")]
        rate = "" if (of_pool := rates.of(pool)) is None else f"{of_pool:.1f}"
        down = "failing" if "program" in pool else "stand-in"
        table.add_row(Text(pool["name"]), *numbers, rate, pool["state"] if pool["up"] else down)
    return table


def _requests(pools: list[Answer]) -> Table:
    """The requests that run now, the longest first; text that came from clients is escaped."""
    table = Table(box=None, pad_edge=False, expand=True)
    for heading in ("PID", "SECONDS"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("REQUEST", no_wrap=True, overflow="ellipsis", ratio=1)
    busy = [worker for pool in pools for worker in pool["workers"] if worker["state"] == "busy"]
    for worker in sorted(busy, key=lambda worker: -worker["seconds"])[:_MOST_REQUESTS]:
        request = f"{worker['method']} {worker['host']}{worker['uri']}"
        table.add_row(str(worker["pid"]), f"{worker['seconds']:.1f}", Text(escape(request)))
    return table
