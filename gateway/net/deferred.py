"""What stands for the exchange of an answer that the quick way makes in Python (`pureserve`)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from gateway.app.interruption import Interruption

if TYPE_CHECKING:
    from gateway.net.pureserve import Requests


class Later:
    """The exchange of the response that is being made, until something has to be sent before that is whole."""

    __slots__ = ("_requests", "interruption")

    def __init__(self, requests: Requests, interruption: Interruption) -> None:
        self._requests = requests
        self.interruption = interruption

    def send(self, data: bytes) -> None:
        """See `Exchange.send`: whatever follows goes to a conversation."""
        self._requests.hand_over().exchange.send(data)

    def flush(self) -> None:
        """See `Exchange.flush`."""
        self._requests.hand_over().exchange.flush()

    def stderr(self, text: str) -> None:
        """See `Exchange.stderr`: what another thread prints waits for the one that answers."""
        requests = self._requests
        if threading.get_ident() != requests.thread:
            requests.printed.append(text)
        else:
            requests.hand_over().exchange.stderr(text)


class Over:
    """The exchange of a response whose request is over."""

    def send(self, data: bytes) -> None:
        """Raise RuntimeError: an application has kept its write()."""
        raise RuntimeError("the request is over: its start_response and write() are of no more use")

    def flush(self) -> None:
        """As `send`, after what would have been too much."""
        self.send(b"")

    def stderr(self, text: str) -> None:
        """It is in the log alone."""
