"""An application that does to its gateway what it can: garbage on whatever it was given, and processes of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

_FORGED = (
    b'{"ready": true}',
    b'{"pid": 1}',
    b'{"leaving": true}',
    b'{"changed": "/etc/passwd"}',
    b"[" * 60_000,
    b"\xff" * 60_000,
)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    said = {"/garbage": garbage, "/children": children, "/pid": lambda: os.getpid()}[environ["PATH_INFO"]]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{said}\n".encode()]


def garbage() -> int:
    """Write to every descriptor that is no standard one; return how many took something."""
    taken = 0
    for fd in range(3, 256):
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            continue
        with contextlib.suppress(OSError):
            if stat.S_ISREG(mode):
                for offset in range(0, 1 << 20, 4096):
                    os.pwrite(fd, b"\xff" * 4096, offset)
                taken += 1
            elif stat.S_ISSOCK(mode):
                with socket.socket(fileno=os.dup(fd)) as sock:
                    if sock.type & socket.SOCK_SEQPACKET == socket.SOCK_SEQPACKET:
                        for message in _FORGED:
                            with contextlib.suppress(OSError):
                                sock.send(message, socket.MSG_DONTWAIT)
                        taken += 1
    return taken


def children() -> str:
    """Start fifty processes, and say whose they are, and which."""
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    return " ".join(map(str, [os.getpid(), *(subprocess.Popen(sleeper).pid for _ in range(50))]))
