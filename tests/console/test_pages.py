"""The console's application, asked as a front-end asks it: PHP-FPM's formats and switches, ping, metrics."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator
from xml.etree import ElementTree

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from gateway.console import pages
from gateway.net.inquiry import NoAnswer
from tests.console.answers import ANSWER, HOSTILE, LEAST, pool

POOL_KEYS = [
    "pool", "process manager", "start time", "start since", "accepted conn", "listen queue", "max listen queue",
    "listen queue len", "idle processes", "active processes", "total processes", "max active processes",
    "max children reached", "slow requests",
]  # fmt: skip
PROCESS_KEYS = [
    "pid", "state", "start time", "start since", "requests", "request duration", "request method", "request uri",
    "content length", "user", "script", "last request cpu", "last request memory",
]  # fmt: skip


@dataclass
class Answer:
    status: str
    headers: dict[str, str]
    text: str


def get(url: str, answer: Any = ANSWER, method: str = "GET", **environ: str) -> Answer:
    """Ask a console whose master answers `answer`, under wsgiref.validate."""

    def ask() -> dict[str, Any]:
        if isinstance(answer, Exception):
            raise answer
        found: dict[str, Any] = answer
        return found

    told: list[Any] = []
    path, _, query = url.partition("?")
    env: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "SCRIPT_NAME": ""}
    env |= environ
    setup_testing_defaults(env)
    body = validator(pages.application(ask))(env, lambda status, headers, error=None: told.extend((status, headers)))
    try:
        text = b"".join(body).decode()
    finally:
        body.close()
    return Answer(told[0], {name.lower(): value for name, value in told[1]}, text)


def test_text_is_php_fpms() -> None:
    found = get("/status?pool=main&full")
    assert found.headers["content-type"].startswith("text/plain")
    assert found.text.startswith("pool:                 main\nprocess manager:      dynamic\nstart time:           ")
    assert re.search(r"^start time: {11}\d\d/[A-Z][a-z]{2}/2026:\d\d:\d\d:\d\d [+-]\d{4}$", found.text, re.MULTILINE)
    assert "\nmax active processes: 8\n" in found.text
    head, first, second = found.text.split("\n************************\n")
    assert [line.partition(":")[0] for line in head.splitlines()] == POOL_KEYS
    in_text = [key.replace("uri", "URI") for key in PROCESS_KEYS]
    assert [line.partition(":")[0] for line in first.splitlines()] == in_text
    assert "last request cpu:     93.46\n" in first
    assert "\\x1b[31m\\x0a\n" in second


def test_text_is_pool_after_pool() -> None:
    assert re.findall("(?:^|\n\n)pool: +(.*)", get("/status").text) == ["main", "shop"]


def test_json_has_php_fpms_keys_and_no_others() -> None:
    found = get("/status?json&full&pool=main")
    assert found.headers["content-type"] == "application/json"
    shown = json.loads(found.text)
    assert list(shown) == [*POOL_KEYS, "processes"]
    assert [list(process) for process in shown["processes"]] == [PROCESS_KEYS, PROCESS_KEYS]
    assert shown["start time"] == 1_795_163_995
    assert shown["listen queue"] == 3
    idle, busy = shown["processes"]
    assert (idle["state"], idle["request duration"], idle["last request cpu"]) == ("Idle", 31_234, 93.46)
    assert (busy["state"], busy["last request cpu"], busy["last request memory"]) == ("Running", 0, 0)
    assert busy["request uri"] == HOSTILE


def test_json_of_all_pools_is_a_list_of_the_same() -> None:
    shown = json.loads(get("/status?json").text)
    assert [list(each) for each in shown["pools"]] == [POOL_KEYS, POOL_KEYS]
    assert shown["pools"][1] == json.loads(get("/status?json&pool=shop").text)


def test_memory_peak_of_php_fpm_8_4_is_there_where_it_is_known() -> None:
    known = ANSWER | {"pools": [pool(memory_peak=5)]}
    assert list(json.loads(get("/status?json&pool=main", known).text)) == [*POOL_KEYS, "memory peak"]


def test_xml_parses_and_has_php_fpms_elements() -> None:
    found = get("/status?xml&full&pool=main")
    assert found.headers["content-type"].startswith("text/xml")
    status = ElementTree.fromstring(found.text.encode())
    assert status.tag == "status"
    assert [element.tag for element in status] == [*(key.replace(" ", "-") for key in POOL_KEYS), "processes"]
    processes = status.findall("processes/process")
    assert [element.tag for element in processes[1]] == [key.replace(" ", "-") for key in PROCESS_KEYS]
    assert processes[1].findtext("request-uri") == HOSTILE.replace("\x1b", "\\x1b").replace("\n", "\\x0a")
    every = ElementTree.fromstring(get("/status?xml").text.encode())
    assert (every.tag, [element.findtext("pool") for element in every]) == ("pools", ["main", "shop"])


def samples(url: str, answer: Any = ANSWER) -> dict[tuple[str, frozenset[str]], float]:
    found = get(url, answer, HTTP_ACCEPT="application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3")
    assert found.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    families = parse_openmetrics(found.text)
    return {(s.name, frozenset(s.labels.values())): s.value for family in families for s in family.samples}


def test_openmetrics_of_status_has_php_fpms_names_with_a_label_for_the_pool() -> None:
    found = samples("/status?openmetrics")
    assert found["phpfpm_accepted_connections_total", frozenset({"main"})] == 120
    assert found["phpfpm_listen_queue", frozenset({"shop"})] == 3
    assert found["phpfpm_max_children", frozenset({"main"})] == 8
    assert not [name for name, _ in found if "process_" in name]


def test_openmetrics_of_status_has_the_processes_with_full() -> None:
    found = samples("/status?openmetrics&full&pool=main")
    assert found["phpfpm_process_requests_total", frozenset({"main", "4711", "0"})] == 12
    assert found["phpfpm_process_request_duration_seconds", frozenset({"main", "4712", "0"})] == 2
    assert found["phpfpm_process_state", frozenset({"main", "4712", "0", "Running"})] == 1
    assert not [labels for _, labels in found if "shop" in labels]


def test_metrics_are_openmetrics_for_those_who_ask_for_it() -> None:
    found = samples("/metrics")
    assert found["gateway_requests_total", frozenset({"main", "shop.example.com", "2xx"})] == 100
    assert found["gateway_request_duration_seconds_bucket", frozenset({"main", "1.0"})] == 12
    assert found["gateway_request_duration_seconds_count", frozenset({"main"})] == 14


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", "application/openmetrics-text;q=0, text/plain"])
def test_metrics_are_plain_for_everybody_else(accept: str) -> None:
    found = get("/metrics", HTTP_ACCEPT=accept)
    assert found.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert found.headers["vary"] == "Accept"
    names = {s.name for family in parse_plain(found.text) for s in family.samples}
    assert {"gateway_pool_requests_total", "gateway_queue_wait_seconds_bucket", "gateway_pool_up"} <= names


@pytest.mark.parametrize(
    "url", ["/status?full", "/status?json&full", "/status?xml&full", "/status?html&full", "/status?openmetrics&full",
            "/ping", "/metrics"]
)  # fmt: skip
def test_a_master_that_says_less_is_shown_as_well(url: str) -> None:
    assert get(url, LEAST).status == "200 OK"


def test_ping() -> None:
    found = get("/ping")
    assert (found.status, found.text) == ("200 OK", "pong")
    assert found.headers["content-type"].startswith("text/plain")
    assert get("/ping", ANSWER | {"stopping": True}).status == "503 Service Unavailable"


def test_a_master_that_does_not_answer_is_503() -> None:
    for url in ("/ping", "/status", "/metrics"):
        found = get(url, NoAnswer("the master has ended"))
        assert (found.status, found.text) == ("503 Service Unavailable", "the master has ended\n")


def test_what_is_not_there_says_what_is() -> None:
    unknown = get("/status?pool=<none>&html")
    assert unknown.status == "404 Not Found"
    assert unknown.headers["content-type"].startswith("text/plain")
    assert "no pool is called '<none>'; there are: main, shop" in unknown.text
    assert get("/other").text == "there are /status, /ping and /metrics\n"
    assert get("/behind/a/prefix/ping").text == "pong"
    assert get("/ping", method="POST", wsgi_input="").status == "405 Method Not Allowed"


def test_nothing_is_cached_and_nothing_is_run() -> None:
    for url in ("/status", "/status?html", "/ping", "/metrics", "/other"):
        headers = get(url).headers
        assert headers["cache-control"] == "no-cache, no-store, must-revalidate, max-age=0"
        assert headers["expires"] == "Thu, 01 Jan 1970 00:00:00 GMT"
        assert headers["x-content-type-options"] == "nosniff"
        assert "script" not in headers["content-security-policy"]


def test_html_escapes_whatever_it_shows() -> None:
    hostile = pool("main", reload_error="first\n<b>last</b>", failed=["<i>"], listen=["/<u>.sock"], state="<s>")
    found = get("/status?html&full&pool=main", ANSWER | {"pools": [hostile]})
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    for tag in ("<script", "<b>last", "<i>", "<u>", "<s>"):
        assert tag not in found.text
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;\\x1b[31m</td>" in found.text
    assert "&lt;b&gt;last&lt;/b&gt;" in found.text


def test_html_shows_workers_with_full_and_refreshes_when_told() -> None:
    assert "4712" not in get("/status?html").text
    assert 'http-equiv="refresh"' not in get("/status?html&full").text
    found = get("/status?html&full&refresh=5&pool=shop").text
    assert '<meta http-equiv="refresh" content="5">' in found
    assert 'href="?html&amp;full&amp;refresh=5"' in found  # to all pools
    assert 'href="?json&amp;full&amp;pool=shop"' in found
    for wrong in ("-1", "0.1", "x", "99999"):
        assert get(f"/status?html&refresh={wrong}").status == "400 Bad Request"
