"""Answers of every kind, each behind every front."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

from tests.end_to_end.clients import apache, caddy, haproxy, lighttpd, nginx
from tests.end_to_end.clients.features import Bench, Shown, feature
from tests.end_to_end.running import by_scgi, front_configuration

CLIENTS = {
    "nginx": nginx.CLIENT,
    "lighttpd": lighttpd.CLIENT,
    "haproxy": haproxy.CLIENT,
    "apache": apache.CLIENT,
    "caddy": caddy.CLIENT,
}
BY_SCGI = ("nginx", "lighttpd", "apache")
BODY = bytes(5)
ELSEWHERE = "https://other.example/a?b#c"
COOKIES = ["a=1; Path=/; Expires=Wed, 09 Jun 2027 10:18:14 GMT", "b=2; HttpOnly"]


def configuration(name: str, bench: Bench, place: Path, port: int) -> str:
    """The bundled configuration of a front before the pool."""
    text = front_configuration(
        name, bench.pool(), port, **({} if name == "lighttpd" else {"run_directory": str(place)})
    )
    return text.replace("global\n", "global\n    tune.bufsize 81920\n", 1) if name == "haproxy" else text


def before_scgi(name: str, bench: Bench, place: Path, port: int) -> str:
    """The same before a pool that speaks SCGI."""
    pool = bench.pool("scgi").socket
    if name == "apache":
        return apache.by_scgi(place, port, pool) + "ProxySCGIInternalRedirect Off\n"
    return by_scgi(configuration(name, bench, place, port).replace(str(bench.pool().socket), str(pool)))


class Client:
    """A client's connection, kept: an answer that is followed by too much or too little spoils the next."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)

    def close(self) -> None:
        self._connection.close()

    def ask(self, path: str, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
        self._connection.request(method, path)
        response = self._connection.getresponse()
        return response, response.read()

    def answer(
        self, status: str, method: str = "GET", *, length: int = 0, **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """What comes of an answer with this status line and headers, and a body of that length; then of /hello."""
        query = {"status": status, "length": length, **{name.replace("_", "-"): v for name, v in headers.items()}}
        found = self.ask(f"/headers?{urlencode(query)}", method)
        assert self.ask("/hello")[1] == b"Hello\n"
        return found


def cookies(client: Client) -> Shown:
    response, _ = client.ask(f"/cookies?{urlencode([('c', cookie) for cookie in COOKIES])}")
    assert response.headers.get_all("Set-Cookie") == COOKIES
    return Shown("two headers `Set-Cookie`, one with a comma", "two headers, in order")


def without_reason(client: Client) -> Shown:
    response, body = client.answer("404", length=5, Content_Type="text/plain")
    assert (response.status, body) == (404, BODY)
    return Shown("`Status: 404`, without a reason", "404")


def informational(client: Client) -> Shown:
    statuses = [client.answer(status)[0].status for status in ("100 Continue", "103 Early Hints", "199 Own")]
    assert statuses == [500] * 3
    return Shown("the application starts its answer with 100, 103, 199", "500 each; never a status below 200")


def without_body(client: Client) -> Shown:
    for status in ("204 No Content", "304 Not Modified"):
        response, body = client.answer(status, length=5, ETag='"1"')
        assert (response.status, body, response.headers["ETag"]) == (int(status[:3]), b"", '"1"')
        assert not response.headers["Transfer-Encoding"]
    return Shown(
        "204 and 304 with `ETag`, and five bytes that the application makes all the same", "both without a byte"
    )


def huge(client: Client) -> Shown:
    response, body = client.ask("/huge?headers=16&size=4060")
    found = [value for key, value in response.getheaders() if key.lower().startswith("x-huge-")]
    assert (response.status, body, found) == (200, b"huge\n", ["x" * 4060] * 16), (response.status, body[:200])
    return Shown("16 headers of 4,060 bytes", "all 16")


def elsewhere(client: Client) -> Shown:
    for status in ("302 Found", "301 Moved Permanently", "201 Created"):
        response, _ = client.answer(status, Location=ELSEWHERE, Content_Type="text/plain")
        assert (response.status, response.headers["Location"]) == (int(status[:3]), ELSEWHERE), response.getheaders()
    return Shown(f"301, 302, 201 with `Location: {ELSEWHERE}`", "the same")


def local(client: Client) -> Shown:
    for status in ("302 Found", "303 See Other", "201 Created", "200 OK"):
        response, body = client.answer(status, length=5, Location="/hello", Content_Type="text/plain")
        place = response.headers["Location"]
        assert (response.status, body, place) == (int(status[:3]), BODY, "/hello"), (status, response.status, place)
    return Shown(
        "302, 303, 201, 200 with `Location: /hello`, each with a body of its own", "the same, no inner redirect"
    )


def trailers(client: Client) -> Shown:
    found = []
    for path in ("/echo", "/variables"):
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=15)
        connection.putrequest("POST", path)
        connection.putheader("Transfer-Encoding", "chunked")
        connection.putheader("Trailer", "X-Trailer")
        connection.endheaders(b"3\r\nabc\r\n0\r\nX-Trailer: late\r\n\r\n")
        response = connection.getresponse()
        found.append((response.status, response.read()))
        connection.close()
    (status, echoed), (_, seen) = found
    assert (status, echoed) == (200, b"abc")
    assert "HTTP_X_TRAILER" not in json.loads(seen)
    return Shown("`POST` in chunks, `X-Trailer` after the last", "the body; the trailer nowhere")


def head(client: Client) -> Shown:
    response, body = client.answer("200 OK", "HEAD", length=5, Content_Type="text/plain", Content_Length="5")
    assert (response.status, body, response.headers["Content-Length"]) == (200, b"", "5"), response.getheaders()
    return Shown("`HEAD`, answered with `Content-Length: 5`", "200, `Content-Length: 5`, no body")


def shown(name: str, show: Callable[[Client], Shown], bench: Bench) -> Shown:
    port = bench.lasting_front(name, functools.partial(configuration, name, bench))
    with contextlib.closing(Client(port)) as client:
        return show(client)


def local_by_scgi(name: str, bench: Bench) -> Shown:
    front = bench.front(name, functools.partial(before_scgi, name, bench))
    with front as (port, _), contextlib.closing(Client(port)) as client:
        return local(client)


ANSWERS: dict[str, Callable[[Client], Shown]] = {
    "several `Set-Cookie`": cookies,
    "a status without a reason": without_reason,
    "1xx": informational,
    "204, 304": without_body,
    "65,000 bytes of headers": huge,
    "`Location` of another host": elsewhere,
    "trailers of a request": trailers,
    "`HEAD` with a `Content-Length`": head,
    "`Location` on the same host": local,
}
for front_name, client_name in CLIENTS.items():
    for what, show in ANSWERS.items():
        how = ", `tune.bufsize 81920`" if (front_name, show) == ("haproxy", huge) else ""
        feature(client_name, what + how)(functools.partial(shown, front_name, show))
    if front_name in BY_SCGI:
        how = ", `ProxySCGIInternalRedirect Off`" if front_name == "apache" else ""
        feature(client_name, f"`Location` on the same host, by SCGI{how}")(functools.partial(local_by_scgi, front_name))
