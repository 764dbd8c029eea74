"""An application whose `on_worker_start` fails while a file exists, and that may leave what cannot be forked."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PLACE = Path(os.environ["GATES"])
imported_by = os.getpid()
connected_by = 0
beats = threading.Event()


def connect() -> None:
    global connected_by
    if (PLACE / "no-database").exists():
        raise ConnectionError("no database")
    connected_by = os.getpid()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the processes that answer, have imported this, have called the hook; and the threads."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    names = sorted(thread.name for thread in threading.enumerate())
    return [f"{os.getpid()} {imported_by} {connected_by} {','.join(names)}".encode()]


if (PLACE / "start-a-thread").exists():
    threading.Thread(target=beats.wait, name="heartbeat", daemon=True).start()
if (PLACE / "connect").exists():
    connection = socket.create_connection(("127.0.0.1", int((PLACE / "connect").read_text())))
