"""What a master answers to `status`, as metrics in the exposition formats of OpenMetrics 1.0 and, for what is older,
Prometheus 0.0.4 (`gateway status --openmetrics`, the console's /metrics).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest as generate_plain
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"

Pools = Sequence[Mapping[str, Any]]
Declared = Mapping[str, tuple[str, str]]  # field of a pool's status -> name, which for a counter gets _total; text

_POOL_COUNTERS: Declared = {
    "accepted_conn": ("gateway_pool_requests", "Requests that workers have taken"),
    "max_children_reached": (
        "gateway_pool_max_children_reached", "Times that more workers were needed than max_children"
    ),
    "slow_requests": ("gateway_pool_slow_requests", "Requests that took longer than request_slowlog_timeout"),
    "shed": ("gateway_pool_shed_requests", "Requests answered 503 unrun, for they were older than queue_timeout"),
    "gone": ("gateway_pool_gone_requests", "Requests not run, for their client had left"),
    "log_lines_lost": ("gateway_pool_log_lines_lost", "Lines of logs that could not be written"),
}  # fmt: skip
_POOL_GAUGES: Declared = {
    "up": ("gateway_pool_up", "1 while workers of the pool can serve, 0 while they fail to start"),
    "start_time": ("gateway_pool_start_time_seconds", "When the pool was started, since 1970"),
    "listen_queue": ("gateway_pool_listen_queue", "Connections that wait for a worker"),
    "max_listen_queue": ("gateway_pool_max_listen_queue", "Most connections that were seen waiting"),
    "listen_queue_len": ("gateway_pool_listen_queue_length", "Connections that may wait"),
    "idle_processes": ("gateway_pool_idle_processes", "Workers that wait for a request"),
    "active_processes": ("gateway_pool_active_processes", "Workers that run a request"),
    "total_processes": ("gateway_pool_total_processes", "Workers, also those that start or leave"),
    "max_active_processes": ("gateway_pool_max_active_processes", "Most workers that were seen running a request"),
    "max_children": ("gateway_pool_max_children", "Workers that the pool may have"),
}
_HISTOGRAMS: Declared = {
    "run_time": ("gateway_request_duration_seconds", "How long the application ran for a request"),
    "queue_wait": ("gateway_queue_wait_seconds", "How long a request waited for a worker"),
}


def exposition(answer: Mapping[str, Any]) -> str:
    """The metrics of the master and of each pool, which is the label `pool`, in OpenMetrics."""
    return openmetrics(families(answer))


def openmetrics(metrics: Iterable[Metric]) -> str:
    """Write metrics in the format that `OPENMETRICS` names."""
    return _write(generate_openmetrics, metrics)


def plain(metrics: Iterable[Metric]) -> str:
    """Write metrics in the format that `PLAIN` names."""
    return _write(generate_plain, metrics)


def _write(generate: Callable[[CollectorRegistry], bytes], metrics: Iterable[Metric]) -> str:
    registry = CollectorRegistry()
    registry.register(_Given(metrics))
    return generate(registry).decode()


class _Given(Collector):
    """Metrics that are known already, as prometheus_client collects them: once at its registration, once to write."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        return self._metrics


def families(answer: Mapping[str, Any]) -> Iterator[Metric]:
    """The metrics of the master and its pools. What a master of another version does not say is left out."""
    info = InfoMetricFamily("gateway", "The running gateway")
    info.add_metric([], {"version": answer["version"]})
    yield info
    yield GaugeMetricFamily("gateway_start_time_seconds", "When the master was started", answer["started"])
    pools = answer["pools"]
    yield from of_pools(CounterMetricFamily, _POOL_COUNTERS, pools)
    yield from of_pools(GaugeMetricFamily, _POOL_GAUGES, pools)
    yield _reload_failed(pools)
    yield _requests(pools)
    yield _ended(pools)
    for field, (name, text) in _HISTOGRAMS.items():
        yield _histogram(field, HistogramMetricFamily(name, text, labels=["pool"]), pools)


def of_pools(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily], declared: Declared, pools: Pools
) -> Iterator[Metric]:
    """A metric of one value a pool for each declared field, of the pools that have it."""
    for field, (name, text) in declared.items():
        family = kind(name, text, labels=["pool"])
        for pool in pools:
            if field in pool:
                family.add_metric([pool["name"]], pool[field])
        yield family


def _reload_failed(pools: Pools) -> Metric:
    family = GaugeMetricFamily(
        "gateway_pool_reload_failed",
        "1 when the last reload was refused and the code of before serves",
        labels=["pool"],
    )
    for pool in pools:
        if "reload_error" in pool:
            family.add_metric([pool["name"]], bool(pool["reload_error"]))
    return family


def _requests(pools: Pools) -> Metric:
    labels = ["pool", "host", "class"]
    family = CounterMetricFamily("gateway_requests", "Requests answered, by binding and class of status", labels=labels)
    for pool in pools:
        for row in pool.get("requests", ()):
            family.add_metric([pool["name"], row["host"], row["class"]], row["count"])
    return family


def _ended(pools: Pools) -> Metric:
    family = CounterMetricFamily("gateway_workers_ended", "Workers that have ended, by cause", labels=["pool", "cause"])
    for pool in pools:
        for cause, count in pool.get("ended", {}).items():
            family.add_metric([pool["name"], cause], count)
    return family


def _histogram(field: str, family: HistogramMetricFamily, pools: Pools) -> Metric:
    for pool in pools:
        if field in pool:
            bounds, counts = zip(*pool[field]["buckets"], strict=True)
            sums = map(float, itertools.accumulate(counts))
            buckets = [(_bound(bound), sum_) for bound, sum_ in zip(bounds, sums, strict=True)]
            family.add_metric([pool["name"]], buckets, pool[field]["sum"])
    return family


def _bound(bound: float | str) -> str:
    return bound if isinstance(bound, str) else str(float(bound))
