"""One request by CGI: parameters from the environment, the body on standard input, the answer on standard output
(RFC 3875). The same exchange and rules as behind FastCGI.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from gateway.app.exchange import BodyCutShort, Disconnected
from gateway.app.interruption import Interruption
from gateway.protocol.events import RequestHead, Role

_CHUNK = 65_536  # bytes


def is_cgi() -> bool:
    """Say whether this process was started to answer one CGI request (RFC 3875 §4.1.4)."""
    return "GATEWAY_INTERFACE" in os.environ and "REQUEST_METHOD" in os.environ


def request_head(base: dict[str, object]) -> RequestHead:
    """Read the request's parameters over a copy of `base`, decoded as PEP 3333 says."""
    params = dict(base)
    repeats = []
    for name, value in os.environb.items():
        pair = name.decode("latin-1"), value.decode("latin-1")
        if pair[0] in params:
            repeats.append(pair)
        else:
            params[pair[0]] = pair[1]
    return RequestHead(1, Role.RESPONDER, False, params, repeats)


class CgiExchange:
    """See `app.exchange.Exchange`."""

    def __init__(self) -> None:
        # CONTENT_LENGTH ends the body: a CGI server need not close standard input (RFC 3875 §4.2).
        length = os.environ.get("CONTENT_LENGTH", "")
        self._left = int(length) if length.isascii() and length.isdigit() else 0
        self._answer: list[bytes] = []
        self.interruption = Interruption()

    def begin(self, environ: Mapping[str, Any], host: str, label: int) -> None:
        """Nobody counts the requests of a process that answers one."""

    def receive(self) -> bytes:
        """See `Exchange.receive`."""
        if not self._left:
            return b""
        data = os.read(0, min(self._left, _CHUNK))
        if not data:
            raise BodyCutShort(f"the request's body ended {self._left} bytes early")
        self._left -= len(data)
        return data

    def send(self, data: bytes) -> None:
        """See `Exchange.send`."""
        self._answer.append(data)

    def flush(self) -> None:
        """See `Exchange.flush`."""
        rest = memoryview(b"".join(self._answer))
        self._answer = []
        try:
            while rest:
                rest = rest[os.write(1, rest) :]
        except OSError as error:
            raise Disconnected(f"the front-end is gone: {error.strerror}") from error

    def stderr(self, text: str) -> None:
        """Nothing to add: the error log of a CGI program is its standard error already."""
