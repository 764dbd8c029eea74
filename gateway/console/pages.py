"""What the console answers: /status in PHP-FPM's formats, /ping, /metrics; below any prefix a front-end may leave."""

from __future__ import annotations

import functools
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

import web

from gateway import metrics
from gateway.app.wsgi import Application
from gateway.console import fpm, fpmmetrics, overview
from gateway.net.inquiry import NoAnswer

Ask = Callable[[], dict[str, Any]]  # what the master answers to `status`; raises NoAnswer

_URLS = (
    "(?:/.*)?/status", "Status",
    "(?:/.*)?/ping", "Ping",
    "(?:/.*)?/metrics", "Metrics",
    ".*", "Nothing",
)  # fmt: skip
_TEXT = "text/plain; charset=utf-8"
_LONGEST_REFRESH = 3600  # seconds
_EVERYWHERE = {
    "Expires": "Thu, 01 Jan 1970 00:00:00 GMT",
    "Cache-Control": "no-cache, no-store, must-revalidate, max-age=0",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


def application(ask: Ask) -> Application:
    """The console as a WSGI application; `ask` is called once for each page."""
    console = web.application(_URLS, globals(), autoreload=False)

    def prepare(handle: Callable[[], Any]) -> Any:
        for name, value in _EVERYWHERE.items():
            web.header(name, value)
        web.ctx.ask = functools.partial(_ask, ask)
        return handle()

    console.add_processor(prepare)
    wsgi: Application = console.wsgifunc()
    return wsgi


def _ask(ask: Ask) -> dict[str, Any]:
    try:
        return ask()
    except NoAnswer as error:
        raise web.HTTPError("503 Service Unavailable", {"Content-Type": _TEXT}, f"{error}\n") from error


def _as(content_type: str, text: str) -> bytes:
    body = text.encode()
    web.header("Content-Type", content_type)
    web.header("Content-Length", str(len(body)))
    return body


def _refuse(status: str, reason: str) -> bytes:
    web.ctx.status = status
    return _as(_TEXT, f"{reason}\n")


class Status:
    """/status?FORMAT&full&pool=NAME"""

    def GET(self) -> bytes:
        query = urllib.parse.parse_qs(web.ctx.query.removeprefix("?"), keep_blank_values=True)
        answer = web.ctx.ask()
        name = query.get("pool", [""])[0]
        pools = [pool for pool in answer["pools"] if name in ("", pool["name"])]
        if name and not pools:
            there = ", ".join(pool["name"] for pool in answer["pools"])
            return _refuse("404 Not Found", f"no pool is called {name!r}; there are: {there}")
        full = "full" in query
        if "html" in query:
            return _html(answer, pools, query)
        if "openmetrics" in query and not query.keys() & {"xml", "json"}:
            return _as(metrics.OPENMETRICS, metrics.openmetrics(fpmmetrics.families(pools, full=full)))
        fields = [fpm.pool_fields(pool, full=full) for pool in pools]
        if "xml" in query:
            return _as("text/xml; charset=utf-8", fpm.as_xml(fields, single=bool(name)))
        if "json" in query:
            return _as("application/json", fpm.as_json(fields, single=bool(name)))
        return _as(_TEXT, fpm.as_text(fields))


def _html(answer: Mapping[str, Any], pools: metrics.Pools, query: Mapping[str, list[str]]) -> bytes:
    refresh = query.get("refresh", ["0"])[0]
    if not (refresh.isascii() and refresh.isdigit() and len(refresh) < 5 and int(refresh) <= _LONGEST_REFRESH):
        return _refuse("400 Bad Request", f"refresh is a number of seconds, at most {_LONGEST_REFRESH}: refresh=5")
    view = overview.View(query.get("pool", [""])[0], full="full" in query, refresh=int(refresh))
    return _as("text/html; charset=utf-8", overview.page(answer, pools, view))


class Ping:
    """/ping: whether requests are welcome."""

    def GET(self) -> bytes:
        if web.ctx.ask().get("stopping"):
            return _refuse("503 Service Unavailable", "stopping")
        return _as(_TEXT, "pong")


class Metrics:
    """/metrics, in the format that the Accept header names."""

    def GET(self) -> bytes:
        web.header("Vary", "Accept")
        families = metrics.families(web.ctx.ask())
        if _accepts_openmetrics(web.ctx.env.get("HTTP_ACCEPT", "")):
            return _as(metrics.OPENMETRICS, metrics.openmetrics(families))
        return _as(metrics.PLAIN, metrics.plain(families))


def _accepts_openmetrics(accept: str) -> bool:
    """Whether the header names OpenMetrics, as Prometheus does since 2.5; curl and browsers are shown plain text."""
    for part in accept.lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        if kind == "application/openmetrics-text":
            return not any(p.startswith("q=") and not p[2:].strip("0.") for p in parameters)
    return False


class Nothing:
    """Any other address."""

    def GET(self) -> bytes:
        return _refuse("404 Not Found", "there are /status, /ping and /metrics")
