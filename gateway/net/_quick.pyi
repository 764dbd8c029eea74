"""See `_quick.c`, and `quick`, which alone uses it."""

import select
import socket
from collections.abc import Callable
from typing import Any

from gateway.app.accessformat import Item
from gateway.net.accesslog import AccessLog

class Line:
    def __new__(cls, items: tuple[Item, ...], /) -> Line: ...
    def render(
        self,
        environ: dict[str, Any],
        status: int,
        complete: bool,
        head: bytes,
        size: int,
        began: float,
        seconds: float,
        user: float,
        system: float,
        /,
    ) -> bytes | None: ...

class Quick:
    def __new__(
        cls,
        driver: object,
        base: dict[str, Any],
        hosts: dict[str, Any],
        known: Callable[[dict[str, Any]], Any],
        begin: Callable[..., None],
        end: Callable[..., None],
        accepted: Callable[[], bool],
        should_share: Callable[[], bool],
        mover: object,
        interruption: object,
        line: object,
        request_path: Callable[..., Any],
        mount: Callable[..., Any],
        whole_body: Callable[[bytes], Any],
        file_wrapper: type,
        limits: tuple[int, int, int],
        max_body: int,
        queue_timeout: float,
        access: AccessLog | None,
        listeners: tuple[socket.socket, ...],
        /,
    ) -> Quick: ...
    def serve(self, sock: socket.SocketType, trusts_stamp: bool, events: int, /) -> Any: ...
    def wait(
        self, epoll: select.epoll, timeout: int, connections: int, /
    ) -> list[tuple[int, int]] | tuple[int, Any]: ...
    def mark(self, fd: int, sock: socket.SocketType | None, /) -> None: ...
    def served(self, fd: int, /) -> float: ...
    def busy(self) -> int: ...
    def stderr(self, text: str, /) -> None: ...
