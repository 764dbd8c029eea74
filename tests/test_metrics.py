"""The exposition, read back by the parser of OpenMetrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from gateway.metrics import exposition, families, plain
from tests.console import answers

ROOT = Path(__file__).parent.parent
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
    found = {family.name: family for family in text_string_to_metric_families(exposition(ANSWER))}
    assert found["gateway_pool_requests"].type == "counter"
    assert found["gateway_pool_max_active_processes"].type == "gauge"
    assert found["gateway"].samples[0].labels == {"version": "1.2.3"}


def test_it_ends_as_the_format_wants() -> None:
    assert exposition(ANSWER).endswith("# EOF\n")


def test_a_gateway_without_pools_is_valid_too() -> None:
    assert list(text_string_to_metric_families(exposition(ANSWER | {"pools": []})))


def test_histograms_are_cumulative_and_labels_name_host_and_class() -> None:
    full = ANSWER | {"pools": [answers.pool()]}
    found = {
        (s.name, *sorted(s.labels.items())): s.value
        for family in text_string_to_metric_families(exposition(full))
        for s in family.samples
    }
    name, main = "gateway_request_duration_seconds", ("pool", "main")
    bounds = {bound: found[f"{name}_bucket", ("le", bound), main] for bound in ("0.001", "1.0", "+Inf")}
    assert bounds == {"0.001": 5, "1.0": 12, "+Inf": 14}
    assert (found[f"{name}_count", main], found[f"{name}_sum", main]) == (14, 21.5)
    assert found["gateway_queue_wait_seconds_sum", main] == 0.25
    assert found["gateway_requests_total", ("class", "5xx"), ("host", ""), main] == 20
    assert found["gateway_workers_ended_total", ("cause", "crashed"), main] == 1
    assert found["gateway_pool_shed_requests_total", main] == 5
    assert found["gateway_pool_gone_requests_total", main] == 6
    assert found["gateway_pool_reload_failed", main] == 0


def test_the_guide_explains_every_metric_and_no_others() -> None:
    guide = (ROOT / "docs" / "howto" / "monitoring.md").read_text()
    rows = [line.split("|")[1] for line in guide.partition("| metric |")[2].partition("\n\n")[0].splitlines()[2:]]
    written = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    explained = {name if name.startswith("gateway") else f"gateway_pool{name}" for name in written}
    told = [
        family.name + "_total" * (family.type == "counter") for family in families(ANSWER | {"pools": [answers.pool()]})
    ]
    assert explained == {name + "_info" * (name == "gateway") for name in told}


def test_plain_text_is_read_by_the_parser_of_old_prometheus() -> None:
    found = {
        s.name for family in parse_plain(plain(families(ANSWER | {"pools": [answers.pool()]}))) for s in family.samples
    }
    assert {"gateway_requests_total", "gateway_request_duration_seconds_bucket", "gateway_pool_up"} <= found
