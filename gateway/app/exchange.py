"""What a driver offers the application side for one request: its body, its answer, its error log.

Drivers are in `gateway.net`; the contract is declared here, beside its users (`wsgi`, `body`, `dispatch`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from gateway.app.interruption import Interruption


class Disconnected(Exception):
    """The front-end is gone, or takes no more of the answer, or aborted the request."""


class BodyCutShort(OSError):
    """The request's body ended before it was complete; raised to the application by `wsgi.input`."""


class Exchange(Protocol):
    """One request and its answer."""

    interruption: Interruption  # of the thread that runs it

    def begin(self, environ: Mapping[str, Any], host: str, label: int) -> None:
        """The application is about to run: its environ, the host in canonical form, and the label under which that is
        counted (`bindings.labels`).
        """

    def receive(self) -> bytes:
        """Wait for the next piece of the body and return it as it came; b"" at its end, and from then on.

        Raises BodyCutShort when the front-end left, aborted or fell silent before the end.
        """

    def send(self, data: bytes) -> None:
        """Add to the answer: first the head in CGI form (`Status: 200 OK\\r\\n…\\r\\n\\r\\n`), then body bytes.

        May keep the bytes until `flush` or the end of the request. Raises Disconnected.
        """

    def flush(self) -> None:
        """Hand everything sent so far to the front-end. Raises Disconnected."""

    def stderr(self, text: str) -> None:
        """Put one line into the front-end's error log where the protocol can (FCGI_STDERR). Never raises."""


class Result:
    """What became of a request: the status, and whether the answer is whole, by which results are compared; for the
    access log, its head in CGI form and the size of its body in bytes.
    """

    __slots__ = ("complete", "head", "size", "status")

    def __init__(self, status: int, complete: bool, head: bytes = b"", size: int = 0) -> None:
        self.status = status
        self.complete = complete
        self.head = head
        self.size = size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Result) and (self.status, self.complete) == (other.status, other.complete)

    def __repr__(self) -> str:
        return f"Result({self.status}, complete={self.complete})"
