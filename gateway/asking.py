"""One request to a pool, made as a front-end makes it, with its answer written out: `gateway request`."""

from __future__ import annotations

import sys
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gateway.net import client
from gateway.net.address import parse_address
from gateway.settings import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a request is beside its URL; `data` that starts with @ names a file."""

    method: str = ""
    headers: Sequence[str] = ()
    data: str | None = None
    protocol: str = "fastcgi"
    timeout: float = 60.0


def ask(address: str, url: str, output: BinaryIO, options: Options) -> int:
    """Write status, headers and body of the answer to `output`, and what the application logs to standard error.

    Raises ConfigError for what cannot be asked, RequestFailed (an OSError) when there is no whole answer.
    """
    try:
        where = parse_address(address)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    body = _body(options.data)
    params = parameters(url, options.method or ("GET" if options.data is None else "POST"), len(body), options.headers)
    answer = client.request(
        where, params, [body], protocol=options.protocol, timeout=options.timeout, stderr=_write_lines
    )
    with answer:
        head = [f"{answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in answer.headers), "", ""]
        output.write("\r\n".join(head).encode("latin-1"))
        for piece in answer.body:
            output.write(piece)
            output.flush()
    output.flush()
    return 0


def _write_lines(data: bytes) -> None:
    """Write what came for the error log: a record is a line, whether it says so or not."""
    sys.stderr.buffer.write(data if data.endswith(b"\n") else data + b"\n")


def _body(data: str | None) -> bytes:
    if data is None:
        return b""
    return Path(data[1:]).read_bytes() if data.startswith("@") else data.encode()


def parameters(url: str, method: str, length: int, headers: Sequence[str]) -> dict[str, str]:
    """The CGI parameters (RFC 3875 §4.1) that the bundled configurations send for a request of `url`."""
    parts = urllib.parse.urlsplit(url if "//" in url else f"http://localhost/{url.removeprefix('/')}")
    port = _port(parts)
    path = parts.path or "/"
    params = {
        "CONTENT_LENGTH": str(length) if length or method == "POST" else "",
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": "gateway-request",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": parts.hostname or "localhost",
        "SERVER_PORT": str(port),
        "REQUEST_SCHEME": parts.scheme,
        "REQUEST_METHOD": method,
        "REQUEST_URI": path + (f"?{parts.query}" if parts.query else ""),
        "SCRIPT_NAME": "",
        "PATH_INFO": urllib.parse.unquote(path, "latin-1"),
        "QUERY_STRING": parts.query,
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": parts.netloc.rpartition("@")[2],
    }
    if parts.scheme == "https":
        params["HTTPS"] = "on"
    if method == "POST":
        params["CONTENT_TYPE"] = "application/x-www-form-urlencoded"
    return params | dict(_header(text) for text in headers)


def _port(parts: urllib.parse.SplitResult) -> int:
    try:
        return parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise ConfigError(f"{parts.geturl()}: {error}") from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ConfigError(f"-H {text!r}: write NAME: VALUE, as in -H 'Cookie: a=1'")
    key = name.strip().upper().replace("-", "_")
    return (key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"), value.strip()
