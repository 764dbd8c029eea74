"""`/status?openmetrics`: the metrics of PHP-FPM's status page under its names, for dashboards that are made of them.

Where PHP-FPM's own cannot be used they differ: each pool is a label instead of a text, counters end in _total, what can
fall is a gauge, `max_children` is there, and `full` adds a set for each worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.console.fpm import process_fields
from gateway.metrics import Declared, Pools, of_pools

_POOL_COUNTERS: Declared = {
    "accepted_conn": ("phpfpm_accepted_connections", "Requests that the pool has taken"),
    "max_children_reached": ("phpfpm_max_children_reached", "Times that max_children was too few"),
    "slow_requests": ("phpfpm_slow_requests", "Requests over request_slowlog_timeout"),
}
_POOL_GAUGES: Declared = {
    "up": ("phpfpm_up", "Whether workers of the pool can serve"),
    "start_since": ("phpfpm_start_since", "Seconds since the pool was started"),
    "listen_queue": ("phpfpm_listen_queue", "Connections that wait for a worker"),
    "max_listen_queue": ("phpfpm_max_listen_queue", "Most connections that were seen waiting"),
    "listen_queue_len": ("phpfpm_listen_queue_length", "Connections that may wait"),
    "idle_processes": ("phpfpm_idle_processes", "Workers that wait for a request"),
    "active_processes": ("phpfpm_active_processes", "Workers that run a request"),
    "total_processes": ("phpfpm_total_processes", "Workers"),
    "max_active_processes": ("phpfpm_max_active_processes", "Most workers that were seen running a request"),
    "max_children": ("phpfpm_max_children", "Workers that the pool may have"),
    "memory_peak": ("phpfpm_memory_peak", "Most memory that a worker has had, in bytes"),
}
_PROCESS_GAUGES = {  # field of PHP-FPM's -> name, text, and how many make one of its unit
    "start since": ("start_since_seconds", "Age of the worker", 1.0),
    "request duration": ("request_duration_seconds", "How long its request runs, or its last one ran", 1e6),
    "content length": ("content_length_bytes", "Length of its request's body", 1.0),
    "last request cpu": ("last_request_cpu_percent", "CPU that its last request took, while it is idle", 1.0),
    "last request memory": ("last_request_memory_bytes", "Memory after its last request, while it is idle", 1.0),
}
_OF_A_PROCESS = ["pool", "pid", "thread"]


def families(pools: Pools, *, full: bool) -> Iterator[Metric]:
    """The metrics of the pools of an answer, and with `full` of their workers."""
    yield from of_pools(CounterMetricFamily, _POOL_COUNTERS, pools)
    yield from of_pools(GaugeMetricFamily, _POOL_GAUGES, pools)
    if full:
        workers = [(_labels(pool, worker), process_fields(worker)) for pool in pools for worker in pool["workers"]]
        yield from _of_processes([(labels, fields) for labels, fields in workers if fields["pid"]])


def _labels(pool: Mapping[str, Any], worker: Mapping[str, Any]) -> list[str]:
    return [pool["name"], str(worker["pid"]), str(worker.get("thread", 0))]


def _of_processes(workers: list[tuple[list[str], dict[str, Any]]]) -> Iterator[Metric]:
    requests = CounterMetricFamily("phpfpm_process_requests", "Requests it has answered", labels=_OF_A_PROCESS)
    state = GaugeMetricFamily("phpfpm_process_state", "1 for the state it is in", labels=[*_OF_A_PROCESS, "state"])
    for labels, fields in workers:
        requests.add_metric(labels, fields["requests"])
        state.add_metric([*labels, fields["state"]], 1)
    yield requests
    yield state
    for field, (name, text, unit) in _PROCESS_GAUGES.items():
        family = GaugeMetricFamily(f"phpfpm_process_{name}", text, labels=_OF_A_PROCESS)
        for labels, fields in workers:
            family.add_metric(labels, fields[field] / unit)
        yield family
