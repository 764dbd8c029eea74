"""The scope of a request (ASGI 3, HTTP 2.4 "Connection Scope"), of an environ that `routing` has completed.

Path, host, scheme and headers are those of WSGI: `path` is SCRIPT_NAME + PATH_INFO as UTF-8, `root_path` SCRIPT_NAME.
"""

from __future__ import annotations

import http
from collections.abc import Mapping
from typing import Any

Scope = dict[str, Any]

BASE: Scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "root_path": ""}  # of every scope
_VERSIONS = {"HTTP/1.0": "1.0", "HTTP/1.1": "1.1", "HTTP/2.0": "2", "HTTP/3.0": "3"}
_NO_HEADER = b""
_WITHOUT_PREFIX = {"CONTENT_TYPE": b"content-type", "CONTENT_LENGTH": b"content-length"}
known: dict[str, bytes] = {}  # the headers of parameters, the first ones that came
_MOST_KNOWN = 1_000
_LONGEST_KNOWN = 100  # characters
PHRASES = {status.value: status.phrase for status in http.HTTPStatus}


def scope_of(params: dict[str, Any]) -> Scope:
    """Make the scope. All parameters are in it too, under `extensions`: what the front-end knows of the client's
    certificate has no other place.
    """
    mount: str = params["SCRIPT_NAME"]
    path: str = mount + params["PATH_INFO"]
    uri: str = params["REQUEST_URI"]
    return {
        **BASE,
        "http_version": _VERSIONS.get(params["SERVER_PROTOCOL"], "1.1"),
        "method": params["REQUEST_METHOD"].upper(),
        "scheme": params["wsgi.url_scheme"],
        "path": path if path.isascii() else _utf_8(path),
        "raw_path": uri.partition("?")[0].encode("latin-1") if uri[:1] == "/" else None,
        "root_path": mount if mount.isascii() else _utf_8(mount),
        "query_string": params["QUERY_STRING"].encode("latin-1"),
        "headers": headers_of(params),
        "client": _address(params, "REMOTE_ADDR", "REMOTE_PORT"),
        "server": _address(params, "SERVER_NAME", "SERVER_PORT"),
        "extensions": {"gateway": {"params": params}},
    }


def headers_of(params: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """The request's headers, of the parameters that CGI has for them (RFC 3875 §4.1)."""
    headers = []
    look_up = known.get
    for name, value in params.items():
        header = look_up(name)
        if header is None:
            header = header_of(name)
        if header:
            headers.append((header, value.encode("latin-1")))
    return headers


def header_of(name: str) -> bytes:
    """The header that a parameter was, or b""."""
    if name.startswith("HTTP_"):
        header = name[5:].replace("_", "-").lower().encode("latin-1")
    else:
        header = _WITHOUT_PREFIX.get(name, _NO_HEADER)
    if len(known) < _MOST_KNOWN and len(name) <= _LONGEST_KNOWN:
        known[name] = header
    return header


def _utf_8(text: str) -> str:
    """What bytes shown as latin-1 (PEP 3333) say."""
    return text.encode("latin-1").decode("utf-8", "replace")


def _address(params: Mapping[str, Any], host: str, port: str) -> tuple[str, int] | None:
    try:
        return params[host], int(params[port])
    except (KeyError, ValueError):  # a front-end that does not tell
        return None
