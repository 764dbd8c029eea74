"""Caddy's reverse_proxy with the fastcgi transport."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
from collections.abc import Iterator
from pathlib import Path

from gateway.front.render import render
from gateway.settings import Pool
from gateway.settings import Settings as Rendered
from tests.end_to_end.browsing import fetch
from tests.end_to_end.clients.asking import path, variables
from tests.end_to_end.clients.features import Bench, Shown, feature
from tests.end_to_end.clients.wire import Wire, wire

CLIENT = "Caddy 2.6.2"


@contextlib.contextmanager
def caddy(bench: Bench, *, kind: str = "wsgi") -> Iterator[tuple[int, Wire]]:
    """What `gateway front caddy` prints."""
    with wire(bench.folder() / "wire.sock", bench.pool(kind).socket) as seen:

        def configure(place: Path, port: int) -> str:
            settings = Rendered(
                pools={"main": Pool(listen=(str(seen.path),), max_body=1_000_000 if kind == "small" else 0)}
            )
            return render("caddy", settings, listen=f"127.0.0.1:{port}")

        with bench.front("caddy", configure) as (port, _):
            yield port, seen


@feature(CLIENT, "`transport fastcgi`")
def transport(bench: Bench) -> Shown:
    with caddy(bench) as (port, seen):
        came = path(port, "/a%20b/c")
        (head,) = seen.heads
    passed = f'SCRIPT_NAME "" and PATH_INFO `{head.params["PATH_INFO"]}`'
    assert head.params["SCRIPT_NAME"] == ""
    return Shown(f"`GET /a%20b/c`, passed on with {passed}", came)


@feature(CLIENT, "the port in a Host header")
def port_of_the_host(bench: Bench) -> Shown:
    with caddy(bench) as (port, _):
        ports = {variables(port, host=host)["SERVER_PORT"] for host in ("a.example:9999", "a.example")}
        assert ports == {str(port)}
    return Shown(
        "`Host: a.example:9999`, whose port Caddy, but for a line of the configuration, passes as SERVER_PORT",
        "SERVER_PORT is the one asked at",
    )


@feature(CLIENT, "parameters in several records")
def records(bench: Bench) -> Shown:
    with caddy(bench) as (port, seen):
        shown = variables(port, *[f"X-{n}: {str(n) * 8_000}" for n in range(9)])
        count = len([record for record in seen.records if record.name == "PARAMS" and record.content])
    assert count > 1
    assert [len(shown[f"HTTP_X_{n}"]) for n in range(9)] == [8_000] * 9
    return Shown(f"9 headers of 8,000 bytes, in {count} records of PARAMS", "all nine, whole")


@feature(CLIENT, "uploads")
def uploads(bench: Bench) -> Shown:
    body = bytes(range(256)) * 8_000
    with caddy(bench) as (port, seen):
        known = fetch(port, "/digest", "POST", body=body)
        chunked = fetch(port, "/digest", "POST", body=iter([body[:70_000], body[70_000:]]))
        assert seen.heads[1].params["CONTENT_LENGTH"] == "-1"
    assert known.text == chunked.text == f"{len(body)} {hashlib.sha256(body).hexdigest()}"
    return Shown("2,048,000 bytes with a length; then in chunks, passed on with CONTENT_LENGTH -1", "both read whole")


@feature(CLIENT, "HEAD and 304")
def without_body(bench: Bench) -> Shown:
    with caddy(bench) as (port, _):
        head = fetch(port, "/echo", "HEAD")
        unchanged = fetch(port, "/status?line=304%20Not%20Modified")
    assert (head.status, head.body, unchanged.status, unchanged.body) == (200, b"", 304, b"")
    return Shown("`HEAD /echo`; a page that answers 304", "200 and 304, no body")


@feature(CLIENT, "an answer that comes bit by bit")
def streaming(bench: Bench) -> Shown:
    pool = bench.pool()
    (pool.place / "gates" / "caddy").unlink(missing_ok=True)
    with caddy(bench) as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        connection.request("GET", "/stream?gate=caddy")
        response = connection.getresponse()
        assert response.readline() == b"first\n"
        pool.open_gate("caddy")
        assert response.read() == b"last\n"
        connection.close()
    return Shown("`GET /stream`, whose second line comes when the first has been seen", "the first line at once")


@feature(CLIENT, "an exception after the first byte")
def cut(bench: Bench) -> Shown:
    with caddy(bench) as (port, _):
        answer = fetch(port, "/raise_after")
    assert (answer.status, answer.text) == (200, "begun\n")
    return Shown(
        "`GET /raise_after`, which the pool ends by a record of version 0",
        "200 `begun`: this version of Caddy shows the visitor no truncation; nginx, lighttpd, HAProxy and Apache do",
    )


@feature(CLIENT, "a body over `max_body`")
def too_large(bench: Bench) -> Shown:
    with caddy(bench, kind="small") as (port, _):
        assert fetch(port, "/digest", "POST", body=b"x" * 3_000_000).status == 413
    return Shown("3,000,000 bytes to a pool that takes 1,000,000", "413 of Caddy")
