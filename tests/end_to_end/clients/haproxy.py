"""HAProxy's fcgi-app."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.front.render import render
from gateway.settings import Pool
from gateway.settings import Settings as Rendered
from tests.end_to_end.browsing import fetch
from tests.end_to_end.clients.asking import get, path, variables
from tests.end_to_end.clients.features import Bench, Shown, feature
from tests.end_to_end.clients.wire import Wire, wire
from tests.end_to_end.running import Program, Settings
from tests.waiting import wait_until

CLIENT = "HAProxy 2.6.12"
SHARING = "    option get-values\n    option mpxs-conns\n"


@contextlib.contextmanager
def haproxy(bench: Bench, more: str = "", *, kind: str = "wsgi", keepalive: int = 0) -> Iterator[tuple[int, Wire]]:
    """What `gateway front haproxy` prints, with lines `more` in its fcgi-app."""
    with process(bench, more, kind, keepalive) as (port, seen, _):
        yield port, seen


@contextlib.contextmanager
def process(bench: Bench, more: str, kind: str, keepalive: int) -> Iterator[tuple[int, Wire, Program]]:
    """The same, with the process."""
    with wire(bench.folder() / "wire.sock", bench.pool(kind).socket) as seen:

        def configure(place: Path, port: int) -> str:
            settings = Rendered(pools={"main": Pool(listen=(str(seen.path),))})
            text = render("haproxy", settings, listen=f"127.0.0.1:{port}", keepalive=keepalive)
            text = text.replace("global\n", "global\n    nbthread 1\n")  # each thread has connections of its own
            return text.replace("docroot /\n", f"docroot /\n{more}")

        with bench.front("haproxy", configure) as (port, program):
            yield port, seen, program


@feature(CLIENT, "fcgi-app without `path-info`")
def without_path_info(bench: Bench) -> Shown:
    with haproxy(bench) as (port, seen):
        came = path(port, "/a%20b/c")
        (head,) = seen.heads
    assert "PATH_INFO" not in head.params
    return Shown(f"`GET /a%20b/c`, passed on with SCRIPT_NAME `{head.params['SCRIPT_NAME']}` and no PATH_INFO", came)


@feature(CLIENT, "fcgi-app with `path-info ^(/)(.*)$`")
def with_path_info(bench: Bench) -> Shown:
    with haproxy(bench, "    path-info ^(/)(.*)$\n") as (port, seen):
        came = path(port, "/a%20b/c")
        (head,) = seen.heads
    passed = f"SCRIPT_NAME `{head.params['SCRIPT_NAME']}` and PATH_INFO `{head.params['PATH_INFO']}`"
    return Shown(f"`GET /a%20b/c`, passed on with {passed}", came)


@feature(CLIENT, "kept connections")
def kept(bench: Bench) -> Shown:
    with haproxy(bench, keepalive=4) as (port, seen):
        for _ in range(5):
            assert fetch(port, "/hello").text == "Hello\n"
        (conversation,) = seen.conversations
        ids = [record.id for record in conversation.records if record.name == "BEGIN_REQUEST"]
    return Shown(f"5 requests, one after the other: IDs {ids} on one connection", "200 five times")


@feature(CLIENT, "`option get-values`")
def it_asks_first(bench: Bench) -> Shown:
    with haproxy(bench, "    option get-values\n", keepalive=4) as (port, seen):
        fetch(port, "/hello")
        (conversation,) = seen.conversations
        assert conversation.records[0].name == "GET_VALUES"
        wsgi = bytes(conversation.answered)
    with haproxy(bench, "    option get-values\n", kind="asgi", keepalive=4) as (port, seen):
        fetch(port, "/hello")
        asgi = bytes(seen.conversations[0].answered)
    assert b"FCGI_MPXS_CONNS0" in wsgi
    assert b"FCGI_MPXS_CONNS1" in asgi
    return Shown(
        "GET_VALUES, as the first record of a connection", "FCGI_MPXS_CONNS 0 from a WSGI pool, 1 from an ASGI pool"
    )


def at_once(port: int, settings: Settings, count: int, seen: Wire) -> int:
    """Let so many requests run at the same time; return the number of connections that they come over."""
    before = len(settings.journal())
    (settings.place / "gates" / "g").unlink(missing_ok=True)
    with ThreadPoolExecutor(count) as threads:
        answers = [threads.submit(fetch, port, "/hold?gate=g") for _ in range(count)]
        wait_until(lambda: len(settings.journal()) == before + count)
        connections = len(seen.conversations)
        settings.open_gate("g")
        assert {answer.result().text for answer in answers} == {"held\n"}
    return connections


@feature(CLIENT, "`option mpxs-conns` before a WSGI pool")
def wsgi_does_not_multiplex(bench: Bench) -> Shown:
    with haproxy(bench, SHARING, keepalive=4) as (port, seen):
        assert fetch(port, "/hello").text == "Hello\n"
        assert at_once(port, bench.pool(), 4, seen) == 4
    return Shown("4 requests at once", "HAProxy obeys: 4 connections with a request each; 200 four times")


@feature(CLIENT, "`option mpxs-conns` before an ASGI pool")
def asgi_multiplexes(bench: Bench) -> Shown:
    with haproxy(bench, SHARING, kind="asgi", keepalive=4) as (port, seen):
        assert fetch(port, "/hello").text == "Hello\n"
        assert at_once(port, bench.pool("asgi"), 20, seen) == 1
    return Shown("20 requests at once", "all on one connection, running at the same time; 200 twenty times")


def in_one_go(port: int, program: Program) -> list[tuple[int, int]]:
    """Status, and bytes of the header `X-Long` that came, of 20 requests that HAProxy finds when it wakes."""
    clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=15) for _ in range(20)]
    program.signal(signal.SIGSTOP)
    for client in clients:
        client.request("GET", "/scope", headers={"X-Long": "x" * 2_000})
    program.signal(signal.SIGCONT)
    found = []
    for client in clients:
        with contextlib.closing(client), client.getresponse() as response:
            body = response.read()
        headers = dict(json.loads(body)["headers"]) if response.status == 200 else {}
        found.append((response.status, len(headers.get("x-long", ""))))
    return found


LONG = "20 requests at once with a header of 2,000 bytes each, more than its buffer for a connection holds (16 KiB)"


@feature(CLIENT, "long headers before an ASGI pool")
def all_arrive(bench: Bench) -> Shown:
    with process(bench, "", "asgi", 4) as (port, _, program):
        assert in_one_go(port, program) == [(200, 2_000)] * 20
    return Shown(LONG, "200 twenty times, the header whole")


@feature(CLIENT, "long headers and `option mpxs-conns`")
def some_never_arrive(bench: Bench) -> Shown:
    with process(bench, f"{SHARING}    option max-reqs 100\n", "asgi", 4) as (port, seen, program):
        assert {status for status, _ in in_one_go(port, program)} == {200, 500}
        assert len(seen.conversations) == 1
    return Shown(LONG, "500 by HAProxy to some, which it does not pass on")


@feature(CLIENT, "repeated headers")
def repeated(bench: Bench) -> Shown:
    with haproxy(bench) as (port, seen):
        shown = variables(port, "X-A: 1", "X-A: 2", "Cookie: a=1", "Cookie: b=2")
        assert get(port, "/hello", "X-Real-IP: 192.0.2.1", "X-Real-IP: 192.0.2.2")[0] == 400
        assert ("HTTP_X_A", "2") in seen.heads[0].repeats
    assert (shown["HTTP_X_A"], shown["HTTP_COOKIE"]) == ("1, 2", "a=1; b=2")
    return Shown(
        "`X-A: 1`, `X-A: 2`, `Cookie: a=1`, `Cookie: b=2`: a parameter each; then `X-Real-IP` twice, different",
        "HTTP_X_A `1, 2`, HTTP_COOKIE `a=1; b=2`; then 400",
    )


@feature(CLIENT, "the port in a Host header")
def port_of_the_host(bench: Bench) -> Shown:
    with haproxy(bench) as (port, _):
        shown = variables(port, host="a.example:9999")
        assert shown["SERVER_PORT"] == str(port)
    assert (shown["HTTP_HOST"], shown["SERVER_NAME"]) == ("a.example:9999", "a.example")
    return Shown(
        "`Host: a.example:9999`, which HAProxy, but for a line of the configuration, passes as SERVER_NAME as well",
        "HTTP_HOST `a.example:9999`, SERVER_NAME `a.example`, SERVER_PORT the one asked at",
    )


@feature(CLIENT, "HEAD")
def head(bench: Bench) -> Shown:
    with haproxy(bench) as (port, _):
        answer = fetch(port, "/echo", "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
    return Shown("`HEAD /echo`; a single byte of a body would make 502 of it", "200, no body, Content-Length kept")


@feature(CLIENT, "who the client says to be")
def user(bench: Bench) -> Shown:
    with haproxy(bench) as (port, _):
        shown = variables(port, "Authorization: Basic cm9vdDp4")
    assert shown.get("REMOTE_USER", "") == ""
    assert shown["HTTP_AUTHORIZATION"] == "Basic cm9vdDp4"
    return Shown(
        "`Authorization: Basic …`, whose user HAProxy, but for a line of the configuration, passes as REMOTE_USER",
        "no REMOTE_USER; HTTP_AUTHORIZATION is the application's to verify",
    )


@feature(CLIENT, "uploads")
def uploads(bench: Bench) -> Shown:
    body = bytes(range(256)) * 8_000
    with haproxy(bench) as (port, _):
        whole = fetch(port, "/digest", "POST", body=body)
        small = fetch(port, "/digest", "POST", body=iter([body[:5_000], body[5_000:10_000]]))
        status, _ = get_chunked(port, body[:100_000])
    assert whole.text == f"{len(body)} {hashlib.sha256(body).hexdigest()}"
    assert small.text == f"10000 {hashlib.sha256(body[:10_000]).hexdigest()}"
    assert status == 400
    return Shown(
        "2,048,000 bytes with a length; 10,000 in chunks, passed on without CONTENT_LENGTH; 100,000 in chunks",
        "read whole; read whole; 400 by HAProxy, which refuses chunks that do not fit its buffer (16 KiB)",
    )


def get_chunked(port: int, body: bytes) -> tuple[int, bytes]:
    """Post in one chunk, and read what comes, however little of it is taken."""
    head = f"POST /digest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(head + body + b"\r\n0\r\n\r\n")
        answer = connection.recv(65_536)
    return int(answer.split()[1]), answer


@feature(CLIENT, "a client that leaves in the middle of an upload")
def leaving(bench: Bench) -> Shown:
    with haproxy(bench, keepalive=4) as (port, seen):
        assert fetch(port, "/hello").text == "Hello\n"
        with socket.create_connection(("127.0.0.1", port), timeout=15) as client:
            client.sendall(b"POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000)
            wait_until(lambda: any(record.name == "STDIN" for record in seen.records))
        wait_until(lambda: any(record.name == "ABORT_REQUEST" for record in seen.records))
        assert fetch(port, "/hello").text == "Hello\n"
        wait_until(lambda: not bench.master().workers("busy"))
    return Shown(
        "100,000 bytes of 1,000,000, then the connection ends: HAProxy sends ABORT_REQUEST",
        "the request ends, its worker is idle again",
    )


@feature(CLIENT, "a body over `max_body`")
def too_large(bench: Bench) -> Shown:
    with haproxy(bench, kind="small") as (port, _):
        assert fetch(port, "/digest", "POST", body=b"x" * 3_000_000).status == 413
    return Shown("3,000,000 bytes to a pool that takes 1,000,000", "413 of the pool")


@feature(CLIENT, "an exception after the first byte")
def cut(bench: Bench) -> Shown:
    with haproxy(bench) as (port, _), pytest.raises((http.client.IncompleteRead, ConnectionError)):
        get(port, "/raise_after")
    return Shown("`GET /raise_after`, which the pool ends by a record of version 0", "200, then visibly cut")
