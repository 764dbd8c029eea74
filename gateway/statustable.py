"""What a master answers to `status`, as lines for a terminal of 80 columns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from gateway.log import escape

_WIDTH = 80
_COLUMNS = "{pid:>9}  {state:<8} {generation:>4} {requests:>9} {seconds:>8}  {request}"
_HEADINGS = {name: name.upper() for name in ("pid", "state", "requests", "seconds", "request")} | {"generation": "GEN"}


def lines(answer: dict[str, Any]) -> Iterator[str]:
    """The master, then each pool with its workers; text that came from clients is escaped."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(answer["started"]))
    stopping = ", stopping" if answer.get("stopping") else ""
    yield f"gateway {answer['version']}, process {answer['pid']}, since {since}{stopping}"
    for pool in answer["pools"]:
        yield ""
        yield from _pool(pool)


def _pool(pool: dict[str, Any]) -> Iterator[str]:
    workers = pool["workers"]
    state = f", {pool['state']}" if pool.get("state") else ""
    size = f"{pool['pm']}, max_children {pool['max_children']}"
    yield f"pool {pool['name']}{state}: {in_use(pool)}; {size}"
    if "program" in pool:
        yield f"  runs {escape(pool['program'])}"[:_WIDTH]
    yield f"  listens on {', '.join(pool['listen'])}"
    if pool.get("reload_error"):
        yield f"  the last reload failed: {escape(pool['reload_error'].strip().splitlines()[-1])}"[:_WIDTH]
    if pool.get("failed"):
        yield f"  could not be loaded, answered 503: {', '.join(pool['failed'])}"
    if pool.get("log_lines_lost"):
        yield f"  lines of logs that could not be written: {pool['log_lines_lost']}"
    yield _COLUMNS.format_map(_HEADINGS)
    for worker in workers:
        yield _worker(worker)


def in_use(pool: dict[str, Any]) -> str:
    """How many workers run a request; of a foreign program (`gateway-spawn`) nobody knows that, but how many run."""
    workers = pool["workers"]  # a row for each thread
    if "program" in pool:
        return f"{sum(worker['state'] == 'ready' for worker in workers)} of {pool['wanted']} processes run"
    busy = {worker["pid"] for worker in workers if worker["state"] == "busy"}
    return f"{len(busy)} of {len({worker['pid'] for worker in workers})} workers busy"


def _worker(worker: dict[str, Any]) -> str:
    seconds = worker.get("seconds")
    request = f"{worker.get('method') or ''} {worker.get('host') or ''}{worker.get('uri') or ''}".strip()
    columns = {"requests": ""} | worker
    columns |= {"seconds": "" if seconds is None else f"{seconds:.1f}", "request": escape(request)}
    return _COLUMNS.format_map(columns)[:_WIDTH].rstrip()
