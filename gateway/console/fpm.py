"""What the master says of a pool, in the words and formats of PHP-FPM's status page (8.2; `memory peak` of 8.4 where
it is known): text, JSON, XML.

Durations of requests are in microseconds, ages in seconds, the CPU in percent, memory in bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape as escape_markup

from gateway.log import escape

Fields = dict[str, Any]  # by PHP-FPM's names; "processes" holds a list of others

_POOL_NUMBERS = (
    "start time", "start since", "accepted conn", "listen queue", "max listen queue", "listen queue len",
    "idle processes", "active processes", "total processes", "max active processes", "max children reached",
    "slow requests",
)  # fmt: skip
STATES = {"starting": "Starting", "idle": "Idle", "busy": "Running"}  # any other is on its way out
_LEAVING = "Finishing"
_CLOCK = "%d/%b/%Y:%H:%M:%S %z"
_SEPARATOR = "\n************************\n"
_SPELT_IN_TEXT = {"request uri": "request URI"}


def pool_fields(pool: Mapping[str, Any], *, full: bool) -> Fields:
    """The fields of a pool of the master's answer, in PHP-FPM's order; with `full` those of each worker."""
    fields = {"pool": pool["name"], "process manager": pool["pm"]}
    fields |= {name: pool.get(name.replace(" ", "_"), 0) for name in _POOL_NUMBERS}
    if "memory_peak" in pool:
        fields["memory peak"] = pool["memory_peak"]
    if full:
        fields["processes"] = [process_fields(worker) for worker in pool["workers"]]
    return fields


def process_fields(worker: Mapping[str, Any]) -> Fields:
    """The fields of a worker, or of one of its threads; what the master does not say is 0 or "-"."""
    idle = worker["state"] == "idle"
    return {
        "pid": worker["pid"],
        "state": STATES.get(worker["state"], _LEAVING),
        "start time": worker.get("start_time", 0),
        "start since": worker.get("start_since", 0),
        "requests": worker["requests"],
        "request duration": _duration(worker),
        "request method": worker.get("method") or "-",
        "request uri": worker.get("uri") or "-",
        "content length": worker.get("content_length", 0),
        "user": worker.get("user") or "-",
        "script": worker.get("script") or "-",
        "last request cpu": round(worker.get("last_request_cpu", 0.0), 2) if idle else 0.0,
        "last request memory": worker.get("last_request_memory", 0) if idle else 0,
    }


def _duration(worker: Mapping[str, Any]) -> int:
    running = round(worker.get("seconds", 0.0) * 1e6) if worker["state"] == "busy" else 0
    return int(worker.get("request_duration", running))


def as_json(pools: Iterable[Fields], *, single: bool) -> str:
    """One object of PHP-FPM's shape, or `{"pools": [such objects]}`."""
    pools = list(pools)
    return json.dumps(pools[0] if single else {"pools": pools})


def as_xml(pools: Iterable[Fields], *, single: bool) -> str:
    """One <status> of PHP-FPM's shape, or several in <pools>."""
    parts = [_xml("status", fields) for fields in pools]
    body = parts[0] if single else f"<pools>\n{''.join(parts)}</pools>\n"
    return f'<?xml version="1.0" encoding="UTF-8" ?>\n{body}'


def _xml(name: str, fields: Fields) -> str:
    lines = "".join(_element(key.replace(" ", "-"), value) for key, value in fields.items())
    return f"<{name}>\n{lines}</{name}>\n"


def _element(name: str, value: Any) -> str:
    if isinstance(value, list):
        return f"<{name}>\n{''.join(_xml('process', process) for process in value)}</{name}>\n"
    # XML 1.0 §2.2 has no way to write most control characters.
    return f"<{name}>{escape_markup(escape(_shown(value)))}</{name}>\n"


def as_text(pools: Iterable[Fields]) -> str:
    """PHP-FPM's lines, pool after pool, with an empty line before each but the first."""
    return "\n".join("".join(_text(fields)) for fields in pools)


def _text(fields: Fields) -> Iterator[str]:
    yield from _lines({name: value for name, value in fields.items() if name != "processes"})
    for process in fields.get("processes", ()):
        yield _SEPARATOR
        yield from _lines(process)


def _lines(fields: Fields) -> Iterator[str]:
    for name, value in fields.items():
        # In text, times are for people.
        shown = time.strftime(_CLOCK, time.localtime(value)) if name == "start time" else escape(_shown(value))
        yield f"{_SPELT_IN_TEXT.get(name, name) + ':':<22}{shown}\n"


def _shown(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)
