"""Requests that a row sends by hand."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from tests.end_to_end.browsing import fetch
from tests.end_to_end.clients.features import Shown


def raw(port: int, request: str) -> tuple[int, dict[str, str], bytes]:
    """Send a request as it is written, `\\n` for each line's end; return status, headers and body."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode("latin-1"))
        response = http.client.HTTPResponse(connection, method=request.partition(" ")[0])
        response.begin()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def get(port: int, target: str, *headers: str, host: str = "a.example", method: str = "GET") -> tuple[int, bytes]:
    """Status and body of a request without a body, on a connection of its own."""
    lines = "".join(f"{header}\n" for header in headers)
    status, _, body = raw(port, f"{method} {target} HTTP/1.1\nHost: {host}\nConnection: close\n{lines}\n")
    return status, body


def variables(port: int, *headers: str, host: str = "a.example") -> dict[str, Any]:
    """What the application of `everything.py` is told."""
    status, body = get(port, "/variables", *headers, host=host)
    assert status == 200, body
    shown: dict[str, Any] = json.loads(body)
    return shown


def path(port: int, target: str) -> str:
    """SCRIPT_NAME and PATH_INFO that the application of `showing.py` is told, in words for a row."""
    status, body = get(port, target, host="urls.example")
    assert status == 200, body
    shown = json.loads(body)
    return f"SCRIPT_NAME `{shown['SCRIPT_NAME']}`, PATH_INFO `{shown['PATH_INFO']}`".replace("``", '""')


def ordinary(port: int) -> Shown:
    """All of the ordinary: a query, bodies, HEAD."""
    body = bytes(range(256)) * 1_000
    status, shown = get(port, "/variables?a=%20")
    assert status == 200, shown
    seen = json.loads(shown)
    assert (seen["SCRIPT_NAME"], seen["PATH_INFO"], seen["QUERY_STRING"]) == ("", "/variables", "a=%20")
    assert fetch(port, "/echo", "POST", body=body).body == body
    assert fetch(port, "/digest", "POST", body=iter([body, b"x"])).text.startswith("256001 ")
    head = fetch(port, "/hello", "HEAD")
    assert (head.status, head.body) == (200, b"")
    return Shown("`GET /variables?a=%20`, `POST` of 256,000 bytes, of 256,001 chunked, `HEAD`", "200; bodies whole")
