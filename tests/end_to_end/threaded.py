"""The application behind the tests of workers with several threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

TOGETHER = threading.Barrier(4)
STARTED: list[str] = []  # the threads that on_worker_start was called in


def start() -> None:
    STARTED.append(threading.current_thread().name)


def meet() -> None:
    """Return when four requests are here at once."""
    TOGETHER.wait(20)


def tell(environ: dict[str, Any]) -> None:
    """Print a line in parts, while three other requests do so too."""
    name = parse_qs(environ["QUERY_STRING"])["id"][0]
    print(f"{name} on", end="")
    meet()
    print("e, ", end="")
    meet()
    environ["wsgi.errors"].write(f"{name} two\n")


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/meet":
        meet()
    elif environ["PATH_INFO"] == "/tell":
        tell(environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    multi = environ["wsgi.multithread"], environ["wsgi.multiprocess"]
    return [f"{os.getpid()} {threading.current_thread().name} {STARTED} {multi}".encode()]
