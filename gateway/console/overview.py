"""`/status?html`: the master, its pools and their workers as a page for people.

Figures are made words here; the template, which escapes whatever it is given, arranges them.
"""

from __future__ import annotations

import functools
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import web

from gateway.console.fpm import process_fields
from gateway.log import escape
from gateway.metrics import Pools

_TEMPLATE = Path(__file__).with_name("overview.html")
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
_FIGURES = {  # what the page calls a field of a pool's status
    "accepted_conn": "requests taken",
    "slow_requests": "slow requests",
    "max_children_reached": "max_children reached",
    "max_active_processes": "most workers busy",
    "max_listen_queue": "most waiting",
    "shed": "shed",
    "gone": "client gone",
    "log_lines_lost": "log lines lost",
}


@dataclass(frozen=True, slots=True)
class View:
    """What of it is looked at: one pool or all (""), with their workers or without, anew each `refresh` seconds."""

    pool: str
    full: bool
    refresh: int

    def link(self, kind: str = "html", **changes: Any) -> str:
        """The query of the same in the format `kind`, or with something changed."""
        wanted = {"full": self.full, "refresh": self.refresh, "pool": self.pool} | changes
        parts = [kind, "full" * bool(wanted["full"])]
        parts += [f"refresh={wanted['refresh']}"] * bool(wanted["refresh"] and kind == "html")
        parts += [urllib.parse.urlencode({"pool": wanted["pool"]})] * bool(wanted["pool"])
        return "?" + "&".join(filter(None, parts))


def page(answer: Mapping[str, Any], pools: Pools, view: View) -> str:
    """The page that shows some pools of the master's answer."""
    master = {
        "version": answer["version"],
        "pid": answer["pid"],
        "since": _clock(answer["started"]),
        "age": duration(time.time() - answer["started"]),
        "stopping": answer.get("stopping", False),
        "lost": answer.get("log_lines_lost", 0),
        "now": _clock(time.time()),
    }
    return str(_template()(master, [_pool(pool) for pool in pools], view))


@functools.cache
def _template() -> Any:
    return web.template.Template(_TEMPLATE.read_text(encoding="utf-8"), filename=str(_TEMPLATE))


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def duration(seconds: float) -> str:
    """A time in its two largest units: 3 d 4 h, 5 min 6 s, 0 s."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if parts or count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def number(value: float) -> str:
    """A number whose thousands are set apart by narrow spaces."""
    return f"{value:,}".replace(",", "\u202f")


def _pool(pool: Mapping[str, Any]) -> dict[str, Any]:
    active, most = pool.get("active_processes", 0), pool["max_children"]
    waiting, room = pool.get("listen_queue", 0), pool.get("listen_queue_len", 0)
    return {
        "name": pool["name"],
        "state": pool.get("state", ""),
        "serves": pool.get("up", True),
        "about": f"{pool['pm']}, {', '.join(pool['listen'])}",
        "age": duration(pool.get("start_since", 0)),
        "bars": [
            _bar("workers busy", active, most, f"{number(pool.get('idle_processes', 0))} idle"),
            _bar("connections waiting", waiting, room, ""),
        ],
        "figures": [(name, number(pool[field])) for field, name in _FIGURES.items() if field in pool],
        "ended": ", ".join(f"{number(count)} {cause}" for cause, count in pool.get("ended", {}).items() if count),
        "failed": ", ".join(pool.get("failed", ())),
        "refused": escape((pool.get("reload_error") or "").strip().rpartition("\n")[2]),
        "workers": [_worker(worker) for worker in pool["workers"]],
    }


def _bar(name: str, value: int, most: int, beside: str) -> dict[str, Any]:
    share = min(100, round(100 * value / most)) if most else 0
    level = "full" if most and value >= most else "high" if share >= 75 else "fine"
    return {"name": name, "value": number(value), "most": number(most), "share": share, "level": level, "more": beside}


def _worker(worker: Mapping[str, Any]) -> dict[str, Any]:
    fields = process_fields(worker)
    request = f"{worker.get('method') or ''} {worker.get('host') or ''}{worker.get('uri') or ''}".strip()
    return {
        "pid": worker["pid"] or "–",
        "state": fields["state"],
        "requests": number(fields["requests"]),
        "seconds": f"{fields['request duration'] / 1e6:.3f} s" if request else "",
        "cpu": f"{fields['last request cpu']:.0f} %" if fields["last request cpu"] else "",
        "memory": f"{fields['last request memory'] / 1_048_576:.1f} MiB" if fields["last request memory"] else "",
        "request": escape(request),
    }
