"""What stands for a scoreboard (`net.conversation.Board`) where nobody reads it: in a lone worker, in the console."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class NoBoard:
    """Takes notice of everything and keeps nothing."""

    __slots__ = ()

    def accepted(self) -> bool:
        """Nobody knows how long connections have waited."""
        return False

    def should_share(self) -> bool:
        """There is no other worker."""
        return False

    def begin(self, environ: Mapping[str, Any], host: str) -> None:
        """Nothing to note."""

    def end(self, label: int, status: int, waited: float | None) -> None:
        """Nothing to note."""

    def resume(self, since: int, /) -> int:
        """Nothing to note."""
        return 0

    def shed(self) -> None:
        """Nothing to count."""

    def gone(self) -> None:
        """Nothing to count."""

    def is_meant(self) -> bool:
        """Nobody asks for a request's end."""
        return False
