"""What answers in place of a pool whose workers cannot start: 503 at once, and when to try again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_BODY = b"Service unavailable\n"


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """A WSGI application that answers every request with 503."""
    start_response(
        "503 Service unavailable",
        [("Content-Type", "text/plain"), ("Content-Length", str(len(_BODY))), ("Retry-After", "30")],
    )
    return [_BODY]
