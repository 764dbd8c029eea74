"""Server-sent events: one at once, then one a second, for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

HEADERS = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]


async def application(scope: dict[str, Any], receive: object, send: Callable[[Any], Awaitable[None]]) -> None:
    """Send them to whoever asks."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    number = 0
    while True:
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        number += 1
        await asyncio.sleep(1)
