"""See `_scope.c`, and `asyncdispatch`, which alone uses it."""

from collections.abc import Callable
from typing import Any

from gateway.app.routing import Known

def usual(
    params: dict[str, Any],
    hosts: dict[str, dict[str, Known]],
    max_body: int,
    base: dict[str, Any],
    known: dict[str, bytes],
    header_of: Callable[[str], bytes],
    /,
) -> tuple[dict[str, Any], Known, int | None] | None: ...
