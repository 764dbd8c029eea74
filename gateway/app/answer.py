"""Answers in CGI form (RFC 3875 §6): heads from what PEP 3333's start_response gets, and the gateway's own errors."""

from __future__ import annotations

import re
from typing import Any

REASONS = {
    400: "Bad Request",
    413: "Content Too Large",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service unavailable",
    504: "Gateway Timeout",
}

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_STATUS = re.compile(r"[2-9][0-9]{2}(?: [^\x00-\x1f\x7f]*)?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_NUMBER = 18

# Hop-by-hop headers (RFC 2616 §13.5.1) are the front-end's; in CGI a header `Status` would be a second status line.
_FORBIDDEN = frozenset(
    (
        "status",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    )
)


_checked: dict[tuple[str, str], str] = {}  # lines of headers that were found good, the first ones that came
_statuses: dict[str, tuple[int, bool, str]] = {}  # the same of statuses: number, whether a body follows, line
_MOST_KNOWN = 1_000
_LONGEST_KNOWN = 200  # characters


class WSGIError(Exception):
    """The application breaks PEP 3333; `str()` is one line for the log."""


class Head:
    """A checked head: the status, the encoded lines without the empty one, and the Content-Length if there is one."""

    __slots__ = ("has_body", "length", "lines", "status")

    def __init__(self, status: Any, headers: Any) -> None:
        """Raises WSGIError. The list is read, not kept: an application may use it again."""
        try:
            known = _statuses[status]
        except (KeyError, TypeError):
            known = _check_status(status)
        self.status, self.has_body, first = known
        self.length: int | None = None
        lines = [first]
        try:
            for name, value in headers:
                line = _checked.get((name, value))
                lines.append(self._line(name, value, lines) if line is None else line)
        except (TypeError, ValueError):
            raise WSGIError(f"the headers are {headers!r:.100}, not a list of (name, value)") from None
        try:
            self.lines = "".join(lines).encode("latin-1")
        except UnicodeEncodeError as error:
            raise WSGIError(
                f"the status or a header is not latin-1: {error.object[max(0, error.start - 20) : error.end]!r}"
            ) from None

    def _line(self, name: Any, value: Any, before: list[str]) -> str:
        """One header, and what has to come with it; `before` are the lines before it, the status first."""
        if name == "Content-Length" and type(value) is str:  # the most usual of those that are not known
            self._set_length(value)
            return f"Content-Length: {value}\r\n"
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise WSGIError(f"{name!r:.100} is no header name")
        if not isinstance(value, str) or _CONTROL.search(value):
            raise WSGIError(f"the header {name} is {value!r:.100}, not a string without control characters")
        key = name.lower()
        if key in _FORBIDDEN:
            raise WSGIError(f"the header {name} is not an application's to send")
        if key == "content-length":
            self._set_length(value)
            return f"{name}: {value}\r\n"
        line = f"{name}: {value}\r\n"
        if key == "location":  # HAProxy 2.6 makes 302 of every status that comes before it
            status, before[0] = before[0], ""
            return line + status
        if len(line) <= _LONGEST_KNOWN and len(_checked) < _MOST_KNOWN and type(name) is type(value) is str:
            _checked[name, value] = line
        return line

    def _set_length(self, value: str) -> None:
        if self.length is not None:
            raise WSGIError("two headers Content-Length")
        if not value.isascii() or not value.isdigit() or len(value) > _LONGEST_NUMBER:
            raise WSGIError(f"the header Content-Length is {value!r:.100}, not a number of bytes")
        self.length = int(value)

    def announce(self, length: int) -> None:
        """Add the Content-Length, in bytes, that the application left out."""
        self.length = length
        self.lines += b"Content-Length: %d\r\n" % length

    def leave_to_front_end(self, line: str) -> None:
        """Add the line that lets the front-end send the body, whose length it says itself."""
        lines = [
            each for each in self.lines.splitlines(keepends=True) if not each.lower().startswith(b"content-length:")
        ]
        self.lines = b"".join(lines) + line.encode("latin-1")
        self.length = None


def _check_status(status: Any) -> tuple[int, bool, str]:
    """The number of a status, whether a body follows (RFC 9110 §6.4.1; HEAD is the request's matter), and its line.

    Raises WSGIError.
    """
    if not isinstance(status, str) or not _STATUS.fullmatch(status):
        raise WSGIError(f"the status is {status!r:.100}, not a string such as '200 OK'")
    number = int(status[:3])
    known = number, number not in (204, 304), f"Status: {status}\r\n"
    if len(status) <= _LONGEST_KNOWN and len(_statuses) < _MOST_KNOWN and type(status) is str:
        _statuses[status] = known
    return known


def error_answer(status: int, retry_after: int = 0) -> tuple[bytes, bytes]:
    """Head, without the empty line, and body of the gateway's own answer, which repeats nothing of the request."""
    reason = REASONS[status]
    body = f"{reason}\n".encode()
    head = f"Status: {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    if retry_after:
        head += f"Retry-After: {retry_after}\r\n"
    return head.encode(), body
