"""See `_row.c`, and `scoreboard`, which alone uses it."""

from gateway.process.scoreboard import Row as Row

LAYOUT: tuple[int, int, int, tuple[int, ...]]
