"""The exposition, read back by the parser of OpenMetrics."""

from __future__ import annotations

from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gateway.metrics import exposition

POOL = {
    "max_children": 8, "accepted_conn": 120, "max_children_reached": 2, "slow_requests": 1, "up": True,
    "start_time": 1_795_163_995, "listen_queue": 3, "max_listen_queue": 17, "listen_queue_len": 511,
    "idle_processes": 4, "active_processes": 2, "total_processes": 6, "max_active_processes": 8,
}  # fmt: skip
ANSWER: dict[str, Any] = {
    "version": "1.2.3",
    "started": 1_795_163_990.5,
    "pools": [POOL | {"name": "main"}, POOL | {"name": 'a "shop"\\', "accepted_conn": 7, "up": False}],
}


def samples() -> dict[tuple[str, str], float]:
    """The value of each sample, by its name and pool."""
    families = text_string_to_metric_families(exposition(ANSWER))
    return {(s.name, s.labels.get("pool", "")): s.value for family in families for s in family.samples}


def test_every_field_of_every_pool_is_there() -> None:
    found = samples()
    for pool, requests, up in (("main", 120, 1), ('a "shop"\\', 7, 0)):
        assert found["gateway_pool_requests_total", pool] == requests
        assert found["gateway_pool_up", pool] == up
        assert found["gateway_pool_listen_queue", pool] == 3
        assert found["gateway_pool_listen_queue_length", pool] == 511
        assert found["gateway_pool_max_children", pool] == 8
        assert found["gateway_pool_max_children_reached_total", pool] == 2
    assert len(found) == 2 + 2 * len(POOL)
    assert found["gateway_start_time_seconds", ""] == 1_795_163_990.5


def test_types_are_those_of_what_is_counted() -> None:
    families = {family.name: family for family in text_string_to_metric_families(exposition(ANSWER))}
    assert families["gateway_pool_requests"].type == "counter"
    assert families["gateway_pool_max_active_processes"].type == "gauge"
    assert families["gateway"].samples[0].labels == {"version": "1.2.3"}


def test_it_ends_as_the_format_wants() -> None:
    assert exposition(ANSWER).endswith("# EOF\n")


def test_a_gateway_without_pools_is_valid_too() -> None:
    assert list(text_string_to_metric_families(exposition(ANSWER | {"pools": []})))
