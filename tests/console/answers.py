"""What a master answers, for pages to be made of: one whose pools have every field, and one that knows few of them."""

from __future__ import annotations

from typing import Any

HOSTILE = "/cart?a=1&b=<script>alert('x')</script>\"\x1b[31m\n"


def worker(**changes: Any) -> dict[str, Any]:
    """A worker that has answered a request, and waits."""
    return {
        "pid": 4711, "thread": 0, "state": "idle", "generation": 2, "requests": 12, "method": "GET",
        "host": "shop.example.com", "uri": "/cart?id=7", "seconds": 3.25, "start_time": 1_795_163_990,
        "start_since": 61, "content_length": 5, "user": "ada", "script": "shop", "request_duration": 31_234,
        "last_request_cpu": 93.456, "last_request_memory": 31_457_280,
    } | changes  # fmt: skip


def pool(name: str = "main", **changes: Any) -> dict[str, Any]:
    """A pool of two workers, one of them busy."""
    return {
        "name": name, "listen": [f"/run/gateway/{name}.sock"], "pm": "dynamic", "max_children": 8, "wanted": 2,
        "max_children_reached": 2, "slow_requests": 1, "up": True, "start_time": 1_795_163_995, "start_since": 93_784,
        "accepted_conn": 120, "listen_queue": 3, "max_listen_queue": 17, "listen_queue_len": 511, "idle_processes": 1,
        "active_processes": 1, "total_processes": 2, "max_active_processes": 8, "generation": 2, "state": "running",
        "failed": [], "reload_error": "", "log_lines_lost": 4, "shed": 5, "gone": 6,
        "requests": [
            {"host": "shop.example.com", "class": "2xx", "count": 100}, {"host": "", "class": "5xx", "count": 20},
        ],
        "run_time": {"buckets": [[0.001, 5], [1, 7], ["+Inf", 2]], "sum": 21.5},
        "queue_wait": {"buckets": [[0.001, 14], ["+Inf", 0]], "sum": 0.25},
        "ended": {"recycled": 3, "crashed": 1, "timeout": 0, "replaced": 2, "idle": 0, "stopped": 0},
        "workers": [worker(), worker(pid=4712, state="busy", uri=HOSTILE, request_duration=2_000_000)],
    } | changes  # fmt: skip


ANSWER: dict[str, Any] = {
    "ok": True, "version": "1.2.3", "pid": 99, "started": 1_795_163_990.5, "stopping": False, "log_lines_lost": 0,
    "pools": [pool(), pool("shop")],
}  # fmt: skip

LEAST: dict[str, Any] = {
    "ok": True,
    "version": "1.2.3",
    "pid": 99,
    "started": 1_795_163_990.5,
    "pools": [
        {
            "name": "main",
            "pm": "static",
            "listen": ["/x.sock"],
            "max_children": 4,
            "workers": [{"pid": 0, "state": "starting", "requests": 0}],
        }
    ],
}
