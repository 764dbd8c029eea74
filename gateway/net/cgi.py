"""One request by CGI: parameters from the environment, the body on standard input, the answer on standard output
(RFC 3875). The same exchange and rules as behind FastCGI.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Mapping
from typing import Any

from gateway.app.exchange import BodyCutShort, Disconnected
from gateway.app.interruption import Interruption
from gateway.protocol.events import RequestHead, Role

_CHUNK = 65_536  # bytes
_LINGER_SECONDS = 2.0  # how long the unread rest of a body is discarded after the answer
_LONGEST_NUMBER = 18  # digits
_UNKNOWN = -1  # length of a body that ends with the stream

_output = 1


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


def claim_output() -> int:
    """Keep standard output for the answer alone: whoever else writes there, a child process too, writes to standard
    error from here on. Returns the descriptor for the answer.
    """
    global _output
    if _output == 1:
        _output = os.dup(1)
        os.dup2(2, 1)
    return _output


class CgiExchange:
    """See `app.exchange.Exchange`."""

    def __init__(self) -> None:
        # CONTENT_LENGTH ends the body: a CGI server need not close standard input (RFC 3875 §4.2). Without it there is
        # none, but for one of a length that Apache does not know, which it says by a header of the request.
        length = os.environ.get("CONTENT_LENGTH", "")
        is_number = length.isascii() and length.isdigit() and len(length) <= _LONGEST_NUMBER
        self._left = int(length) if is_number else 0  # what is none is refused before it is read
        if not length and "HTTP_TRANSFER_ENCODING" in os.environ:
            self._left = _UNKNOWN
        self._output = claim_output()
        self._answer: list[bytes] = []
        self.interruption = Interruption()

    def begin(self, environ: Mapping[str, Any], host: str, label: int) -> None:
        """Nobody counts the requests of a process that answers one."""

    def receive(self) -> bytes:
        """See `Exchange.receive`."""
        if not self._left:
            return b""
        if self._left == _UNKNOWN:
            return os.read(0, _CHUNK)
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
                rest = rest[os.write(self._output, rest) :]
        except OSError as error:
            raise Disconnected(f"the front-end is gone: {error.strerror}") from error

    def finish(self) -> None:
        """Flush, then discard what was not read of the body, within limits: with mod_cgid the answer takes the same
        socket, and a process that ends with unread bytes in it resets that, answer and all. Raises Disconnected.
        """
        self.flush()
        body = select.poll()
        body.register(0, select.POLLIN)
        deadline = time.monotonic() + _LINGER_SECONDS
        with contextlib.suppress(OSError):  # cut short, or never opened
            while self._left and (rest := deadline - time.monotonic()) > 0 and body.poll(rest * 1000):
                if not self.receive():
                    return

    def stderr(self, text: str) -> None:
        """Nothing to add: the error log of a CGI program is its standard error already."""
