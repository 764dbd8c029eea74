"""What the benchmarks have every Python server run: note the request's id and the process, take the time asked for,
note them again, answer.

They copy it, and replace VERSION in the copy before each reload.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

VERSION = 1
JOURNAL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "journal")


def note(line: str) -> None:
    """Write one line at once: those of several workers do not mix."""
    journal = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(journal, f"{line} {os.getpid()}\n".encode())
    os.close(journal)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the request's id and this code's version."""
    query = parse_qs(environ["QUERY_STRING"])
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    number = query["id"][0]
    note(f"begin {number}")
    time.sleep(float(query["seconds"][0]))
    note(f"end {number}")
    body = f"{number} {VERSION}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
