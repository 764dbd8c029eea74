"""nginx: fastcgi_pass and scgi_pass, the directives that change what they send, and parameter files as they are."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.end_to_end.browsing import Answer, Post, fetch, over_connections
from tests.end_to_end.clients.asking import ordinary
from tests.end_to_end.clients.features import Bench, Shown, feature
from tests.end_to_end.clients.wire import Wire, wire
from tests.end_to_end.running import USER, by_scgi, front_configuration
from tests.waiting import wait_until

CLIENT = "nginx 1.22.1"
PARAMS = Path("/etc/nginx/fastcgi_params")
BODY = bytes(range(256)) * 1_000

AROUND = """daemon off; pid {place}/pid; error_log stderr; {user} events {{ }}
http {{
    access_log off; default_type text/plain;
    client_body_temp_path {place}/t; fastcgi_temp_path {place}/t; scgi_temp_path {place}/t;
    proxy_temp_path {place}/t; uwsgi_temp_path {place}/t;
    {outside}
    server {{ listen 127.0.0.1:{port}; server_name localhost; {inside} }}
}}
"""


@contextmanager
def nginx(bench: Bench, inside: str, outside: str = "") -> Iterator[int]:
    """nginx with these lines in its only server, and those beside it; its port."""

    def configure(place: Path, port: int) -> str:
        user = f"user {USER};" if USER else ""
        return AROUND.format(place=place, port=port, user=user, inside=inside, outside=outside)

    with bench.front("nginx", configure) as (port, _):
        yield port


@contextmanager
def through_wire(bench: Bench, inside: str, kind: str = "wsgi", outside: str = "") -> Iterator[tuple[int, Wire]]:
    """The same with $POOL in the lines for a socket where what nginx sends is kept, before a pool of this kind."""
    path = bench.folder() / "wire.sock"
    with wire(path, bench.pool(kind).socket) as seen:
        lines = (text.replace("$POOL", f"unix:{path}") for text in (inside, outside))
        with nginx(bench, *lines) as port:
            yield port, seen


def stock() -> str:
    """fastcgi_params as nginx itself ships them: Debian's without what Debian has added at their end."""
    return re.sub(r"# !!! Security workaround.*", "", PARAMS.read_text(), flags=re.DOTALL)


def variables(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.text
    shown: dict[str, Any] = json.loads(answer.body)
    return shown


def bundled(bench: Bench, address: str, *, scgi: bool = False) -> Shown:
    """The bundled configuration before a pool at `address` answers all of the ordinary."""
    settings = bench.pool()

    def configure(place: Path, port: int) -> str:
        text = front_configuration("nginx", settings, port, run_directory=str(place))
        assert f"server unix:{settings.socket};" in text
        text = text.replace(f"unix:{settings.socket}", address)
        return by_scgi(text) if scgi else text

    with bench.front("nginx", configure) as (port, _):
        return ordinary(port)


@feature(CLIENT, "`fastcgi_pass unix:…`, bundled configuration")
def fastcgi_by_unix(bench: Bench) -> Shown:
    return bundled(bench, f"unix:{bench.pool().socket}")


@feature(CLIENT, "`fastcgi_pass 127.0.0.1:…`, bundled configuration")
def fastcgi_by_tcp(bench: Bench) -> Shown:
    return bundled(bench, bench.tcp())


@feature(CLIENT, "`scgi_pass unix:…`")
def scgi_by_unix(bench: Bench) -> Shown:
    return bundled(bench, f"unix:{bench.pool('scgi').socket}", scgi=True)


@feature(CLIENT, "`scgi_pass 127.0.0.1:…`")
def scgi_by_tcp(bench: Bench) -> Shown:
    return bundled(bench, bench.tcp("scgi"), scgi=True)


@feature(CLIENT, "`keepalive`, `fastcgi_keep_conn on`")
def kept(bench: Bench) -> Shown:
    lines = "fastcgi_keep_conn on; location / { include /etc/nginx/fastcgi_params; fastcgi_pass kept; }"
    with through_wire(bench, lines, outside="upstream kept { server $POOL; keepalive 4; }") as (port, seen):
        answers = over_connections(port, [Post("/echo", b"%d" % n * n) for n in range(100)], 1)
        assert all((status, body) == (200, post.body) for post, status, body in answers)
        connections = len(seen.conversations)
        assert {(record.id, (len(record.content) + record.padding) % 8) for record in seen.records} == {(1, 0)}
    assert connections == 1
    return Shown("100 `POST`s one after the other; each request is number 1, each record padded to 8", "1 connection")


@feature(CLIENT, "`fastcgi_request_buffering on`")
def buffered(bench: Bench) -> Shown:
    lines = "location / { include /etc/nginx/fastcgi_params; fastcgi_pass $POOL; }"
    with through_wire(bench, lines) as (port, seen):
        assert fetch(port, "/echo", "POST", body=BODY).body == BODY
        pieces = [len(record.content) for record in seen.records if record.name == "STDIN"]
    assert (max(pieces), sum(pieces), pieces[-1]) == (32_768, len(BODY), 0)
    return Shown("`POST` of 256,000 bytes: STDIN in records of 32,768", "the same bytes")


@feature(CLIENT, "`fastcgi_request_buffering off`")
def unbuffered(bench: Bench) -> Shown:
    lines = """client_max_body_size 0;
    location / { include /etc/nginx/fastcgi_params; fastcgi_request_buffering off; fastcgi_pass $POOL; }"""
    with through_wire(bench, lines) as (port, seen), socket.create_connection(("127.0.0.1", port), 15) as client:
        client.sendall(b"POST /digest HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        client.sendall(b"2\r\nab\r\n")
        wait_until(lambda: [r.content for r in seen.records if r.name == "STDIN"] == [b"ab"], what="the two bytes")
        client.sendall(b"3e8\r\n" + bytes(1_000) + b"\r\n0\r\n\r\n")
        answer = client.makefile("rb").read()
        (head,) = seen.heads
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"1002 " in answer
    assert head.params["CONTENT_LENGTH"] == ""
    return Shown(
        "chunked `POST` of 2 bytes, later 1,000: CONTENT_LENGTH empty, a STDIN record of 2", "1,002 bytes read"
    )


@feature(CLIENT, "`scgi_request_buffering off`")
def unbuffered_by_scgi(bench: Bench) -> Shown:
    lines = "location / { include /etc/nginx/scgi_params; scgi_request_buffering off; scgi_pass $POOL; }"
    with (
        through_wire(bench, lines, "scgi") as (port, seen),
        socket.create_connection(("127.0.0.1", port), 15) as client,
    ):
        client.sendall(b"POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\n\r\nab")
        wait_until(lambda: seen.conversations and seen.conversations[0].sent.endswith(b",ab"), what="the two bytes")
        client.sendall(b"cde")
        answer = client.makefile("rb").read()
        assert b"CONTENT_LENGTH\0002\0" in seen.conversations[0].sent
    assert f"2 {hashlib.sha256(b'ab').hexdigest()}".encode() in answer
    return Shown(
        "`POST` of 5 bytes, 2 of them at once: CONTENT_LENGTH 2",
        "nginx's own mistake: the application has 2 bytes; leave it on",
    )


@feature(CLIENT, "`fastcgi_pass_request_body off`")
def without_body(bench: Bench) -> Shown:
    lines = """fastcgi_pass_request_body off; include /etc/nginx/fastcgi_params;
    location / { fastcgi_pass $POOL; }
    location = /digest { include /etc/nginx/fastcgi_params; fastcgi_param CONTENT_LENGTH ""; fastcgi_pass $POOL; }"""
    with through_wire(bench, lines) as (port, _):
        unread, announced, empty = (
            fetch(port, path, "POST", body=b"12345") for path in ("/unread", "/echo", "/digest")
        )
    assert (unread.status, announced.status, empty.status) == (413, 502, 200)
    assert empty.text.startswith("0 ")
    return Shown(
        '`POST` with CONTENT_LENGTH 5 and no STDIN; the same with `fastcgi_param CONTENT_LENGTH ""`',
        "who does not read answers, who reads finds the body cut short (502); with it, an empty body",
    )


@feature(CLIENT, "`fastcgi_intercept_errors on`")
def intercepted(bench: Bench) -> Shown:
    lines = """include /etc/nginx/fastcgi_params; error_page 404 = @lost;
    location / { fastcgi_pass $POOL; }
    location /own/ { rewrite ^/own(.*) $1 break; fastcgi_intercept_errors on; fastcgi_pass $POOL; }
    location @lost { return 404 "nginx's page\\n"; }"""
    with through_wire(bench, lines) as (port, _):
        passed, replaced = fetch(port, "/none"), fetch(port, "/own/none")
    assert (passed.status, passed.text) == (404, "no such page\n")
    assert (replaced.status, replaced.text) == (404, "nginx's page\n")
    return Shown(
        "`GET` of a page that the application answers 404; the same with it off", "nginx's page; the application's"
    )


@feature(CLIENT, "`X-Accel-Redirect`")
def redirected(bench: Bench) -> Shown:
    folder = bench.folder()
    (folder / "file").write_bytes(BODY)
    lines = f"""include /etc/nginx/fastcgi_params;
    location / {{ fastcgi_pass $POOL; }} location /files/ {{ internal; alias {folder}/; }}"""
    with through_wire(bench, lines) as (port, _):
        answer = fetch(port, "/headers?X-Accel-Redirect=/files/file&Content-Type=image/png&X-Own=kept")
        assert fetch(port, "/files/file").status == 404
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, BODY, "image/png")
    assert "x-accel-redirect" not in answer.headers
    return Shown(
        "an answer with `X-Accel-Redirect: /files/file`, an internal location", "the file, with the answer's type"
    )


@feature(CLIENT, "`X-Accel-Buffering: no`")
def streamed(bench: Bench) -> Shown:
    lines = "include /etc/nginx/fastcgi_params; location / { fastcgi_pass $POOL; }"
    with through_wire(bench, lines) as (port, _), socket.create_connection(("127.0.0.1", port), 15) as client:
        client.sendall(b"GET /stream?gate=accel-buffering HTTP/1.0\r\n\r\n")
        answer = client.makefile("rb")
        assert b"first\n" in iter(answer.readline, b"")
        bench.pool().open_gate("accel-buffering")
        assert answer.readline() == b"last\n"
    return Shown("an answer with this header, whose second line waits for the client to have the first", "both lines")


@feature(CLIENT, "`auth_request` to an application")
def authorized(bench: Bench) -> Shown:
    lines = """include /etc/nginx/fastcgi_params;
    location / {
        auth_request /ask; auth_request_set $who $upstream_http_x_user;
        include /etc/nginx/fastcgi_params; fastcgi_param REMOTE_USER $who; fastcgi_pass $POOL;
    }
    location = /ask {
        internal; include /etc/nginx/fastcgi_params; fastcgi_pass_request_body off; fastcgi_param CONTENT_LENGTH "";
        fastcgi_param SCRIPT_NAME ""; fastcgi_param PATH_INFO /authorize; fastcgi_pass $POOL;
    }"""
    with through_wire(bench, lines) as (port, seen):
        strangers: list[dict[str, str]] = [{}, {"X_User": "nobody"}]
        refused = [fetch(port, "/variables", "POST", body=b"12345", **headers).status for headers in strangers]
        assert variables(fetch(port, "/variables", X_User="me"))["REMOTE_USER"] == "me"
        asked = [head.params["REQUEST_URI"] for head in seen.heads]
    assert (refused, asked) == ([401, 403], ["/variables"] * 4)
    return Shown(
        "of three requests each is asked about first, with their REQUEST_URI and without body",
        "401; 403; the page, with REMOTE_USER of a header of the first answer",
    )


def paths(bench: Bench, params: str, *, host: str, protocol: str = "fastcgi") -> Shown:
    """Files of parameters as they are: what the application is told of a path, a query and a host."""
    file = bench.folder() / "params"
    file.write_text(params)
    kind = "scgi" if protocol == "scgi" else "wsgi"
    with through_wire(bench, f"include {file}; location / {{ {protocol}_pass $POOL; }}", kind) as (port, _):
        seen = variables(fetch(port, "/variables?a=b", "POST", body=b"123", Host="a.example:8080"))
        assert fetch(port, "/echo", "POST", body=BODY).body == BODY
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"], seen["QUERY_STRING"]) == ("", "/variables", "a=b")
    assert (seen["HTTP_HOST"], seen["CONTENT_LENGTH"]) == (host, "3")
    return Shown(
        "`POST /variables?a=b` with `Host: a.example:8080`",
        f"PATH_INFO `/variables`, SCRIPT_NAME empty, HTTP_HOST `{host}`",
    )


@feature(CLIENT, "Debian's `fastcgi_params`")
def debians_params(bench: Bench) -> Shown:
    return paths(bench, PARAMS.read_text(), host="a.example")


@feature(CLIENT, "Debian's `fastcgi.conf`")
def debians_conf(bench: Bench) -> Shown:
    return paths(bench, PARAMS.with_name("fastcgi.conf").read_text(), host="a.example:8080")


@feature(CLIENT, "nginx's own `fastcgi_params` (Debian's without what Debian adds)")
def nginxs_params(bench: Bench) -> Shown:
    return paths(bench, stock(), host="a.example:8080")


@feature(CLIENT, "Debian's `scgi_params`")
def debians_scgi_params(bench: Bench) -> Shown:
    return paths(bench, PARAMS.with_name("scgi_params").read_text(), host="a.example", protocol="scgi")
