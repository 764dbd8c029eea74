"""The scoreboards of a pool's generations, each from its zygote's start to its last worker's end."""

from __future__ import annotations

from collections.abc import Callable, Collection

from gateway.net.handover import Keep, State
from gateway.process.scoreboard import Scoreboard


class Boards:
    """Scoreboards by generation."""

    def __init__(self) -> None:
        self._boards: dict[int, Scoreboard] = {}

    def __getitem__(self, generation: int) -> Scoreboard:
        return self._boards[generation]

    def add(self, generation: int, board: Scoreboard) -> Scoreboard:
        """Keep a new generation's; return it."""
        self._boards[generation] = board
        return board

    def all(self) -> Collection[Scoreboard]:
        """All of them."""
        return self._boards.values()

    def keep_only(self, generations: set[int], on_end: Callable[[Scoreboard], None]) -> None:
        """Close those of all other generations, after a call of `on_end` for each."""
        for generation in self._boards.keys() - generations:
            board = self._boards.pop(generation)
            on_end(board)
            board.close()

    def close(self) -> None:
        """Close all."""
        for board in self._boards.values():
            board.close()

    def hand_over(self, keep: Keep) -> list[tuple[int, State]]:
        """See `net.handover`."""
        return [(generation, board.hand_over(keep)) for generation, board in self._boards.items()]

    def take_over(self, states: list[tuple[int, State]]) -> None:
        """See `net.handover`."""
        for generation, state in states:
            self._boards[generation] = Scoreboard(**state)
