"""Large bodies up and down through the front-end, as fast as they go."""

from __future__ import annotations

import socket
import time

_CHUNK = bytes(262_144)
_PATIENCE = 60.0  # seconds without progress
MEBIBYTE = 1 << 20


def upload(port: int, mebibytes: int) -> float:
    """POST so much; return the seconds. Raises ValueError when the application has not got it all."""
    size = mebibytes * MEBIBYTE
    head = f"POST /upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), _PATIENCE) as sock:
        started = time.perf_counter()
        sock.sendall(head.encode())
        for _ in range(size // len(_CHUNK)):
            sock.sendall(_CHUNK)
        answer = b""
        while data := sock.recv(65_536):
            answer += data
        seconds = time.perf_counter() - started
    if answer.rpartition(b"\r\n")[2] != b"%d" % size:
        raise ValueError(f"of {size} bytes sent the application says: {answer[-200:]!r}")
    return seconds


def download(port: int, path: str, mebibytes: int) -> float:
    """GET so much from `path`; return the seconds. Raises ValueError when it is cut short."""
    wanted = mebibytes * MEBIBYTE
    buffer = bytearray(262_144)
    with socket.create_connection(("127.0.0.1", port), _PATIENCE) as sock:
        started = time.perf_counter()
        sock.sendall(f"GET {path}?{mebibytes} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        got = sock.recv_into(buffer)
        head, _, body = bytes(buffer[:got]).partition(b"\r\n\r\n")
        size = len(body)
        while got := sock.recv_into(buffer):
            size += got
        seconds = time.perf_counter() - started
    if size != wanted:
        raise ValueError(f"{size} bytes of {wanted} came: {head.splitlines()[0]!r}")
    return seconds
