"""The end of a request that takes too long: what is raised in it, and when that may be (docs/design.md "Deadlines")."""

from __future__ import annotations


class RequestTimeout(BaseException):
    """Raised in a request that has run for longer than `request_terminate_timeout`.

    It may be caught to clean up; the client gets 504 all the same, unless part of the answer is on its way already.
    """

    reason = "it has run for too long"  # of the class: in another thread only a class can be raised

    def __init__(self) -> None:
        super().__init__(self.reason)


class Interruption:
    """Whether an application runs in a thread that serves requests, and whether its request was interrupted."""

    __slots__ = ("allowed", "raised")

    def __init__(self) -> None:
        self.allowed = False
        self.raised: RequestTimeout | None = None  # in the request that runs, or was the last to

    def interrupt(self) -> None:
        """End the request: to be called in its thread while `allowed`. Raises RequestTimeout, once a request."""
        self.allowed = False
        self.raised = RequestTimeout()
        raise self.raised
