"""See `_quick.c`, and `quick`, which alone uses it."""

import select
import socket
from typing import Any

from gateway.app.accessformat import Item
from gateway.net.wiring import Wiring

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
    def __new__(cls, wiring: Wiring, /) -> Quick: ...
    def serve(self, sock: socket.SocketType, trusts_stamp: bool, events: int, /) -> Any: ...
    def wait(
        self, epoll: select.epoll, timeout: int, connections: int, /
    ) -> list[tuple[int, int]] | tuple[int, Any]: ...
    def mark(self, fd: int, sock: socket.SocketType | None, /) -> None: ...
    def served(self, fd: int, /) -> float: ...
    def busy(self) -> int: ...
    def stderr(self, text: str, /) -> None: ...
