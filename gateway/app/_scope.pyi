"""See `_scope.c`, and `asyncdispatch`, which alone uses it."""

from collections.abc import Callable
from typing import Any

from gateway.app.routing import Known

def whole(
    own: dict[str, Any],
    limits: tuple[int, int, int],
    hosts: dict[str, dict[str, Known]],
    max_body: int,
    base: dict[str, Any],
    known: dict[str, bytes],
    header_of: Callable[[str], bytes],
    data: bytes,
    /,
) -> tuple[bool, dict[str, Any], tuple[dict[str, Any], Known, int | None]] | None: ...
def usual(
    params: dict[str, Any],
    hosts: dict[str, dict[str, Known]],
    max_body: int,
    base: dict[str, Any],
    known: dict[str, bytes],
    header_of: Callable[[str], bytes],
    /,
) -> tuple[dict[str, Any], Known, int | None] | None: ...
