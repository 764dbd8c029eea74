"""What a master answers to `status`, in the exposition format of OpenMetrics 1.0 (`gateway status --openmetrics`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.registry import Collector

_POOL_COUNTERS = {  # field of a pool's status -> name, which the format ends in _total; text
    "accepted_conn": ("requests", "Requests that workers have taken"),
    "max_children_reached": ("max_children_reached", "Times that more workers were needed than max_children"),
    "slow_requests": ("slow_requests", "Requests that took longer than request_slowlog_timeout"),
}
_POOL_GAUGES = {
    "up": ("up", "1 while workers of the pool can serve, 0 while a stand-in answers 503"),
    "start_time": ("start_time_seconds", "When the pool was started, since 1970"),
    "listen_queue": ("listen_queue", "Connections that wait for a worker"),
    "max_listen_queue": ("max_listen_queue", "Most connections that were seen waiting"),
    "listen_queue_len": ("listen_queue_length", "Connections that may wait"),
    "idle_processes": ("idle_processes", "Workers that wait for a request"),
    "active_processes": ("active_processes", "Workers that run a request"),
    "total_processes": ("total_processes", "Workers, also those that start or leave"),
    "max_active_processes": ("max_active_processes", "Most workers that were seen running a request"),
    "max_children": ("max_children", "Workers that the pool may have"),
}


def exposition(answer: dict[str, Any]) -> str:
    """The metrics of the master and of each pool, which is the label `pool`."""
    registry = CollectorRegistry()
    registry.register(_Answer(answer))
    write: Callable[[CollectorRegistry], bytes] = generate_latest
    return write(registry).decode()


class _Answer(Collector):
    """One answer, as prometheus_client collects it."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self._answer = answer

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        info = InfoMetricFamily("gateway", "The running gateway")
        info.add_metric([], {"version": self._answer["version"]})
        yield info
        yield GaugeMetricFamily("gateway_start_time_seconds", "When the master was started", self._answer["started"])
        yield from self._of_pools()

    def _of_pools(self) -> Iterator[Metric]:
        for kind, declared in ((CounterMetricFamily, _POOL_COUNTERS), (GaugeMetricFamily, _POOL_GAUGES)):
            for field, (name, text) in declared.items():
                family = kind(f"gateway_pool_{name}", text, labels=["pool"])
                for pool in self._answer["pools"]:
                    if field in pool:  # a master that was started by an older version may not know it
                        family.add_metric([pool["name"]], pool[field])
                yield family
