"""What the end of a worker is put down to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.process.deadlines import Deadlines
from gateway.process.ends import cause_of_end
from gateway.process.handles import WorkerHandle, worker_channel
from gateway.process.scoreboard import Scoreboard
from tests.process.test_output import Watching
from tests.process.test_policy import running_pool


@pytest.fixture
def worker() -> Iterator[WorkerHandle]:
    """A worker that was asked for, and has not said which process it is."""
    ours, theirs = worker_channel()
    board = Scoreboard(1, [""])
    with ours, theirs:
        yield WorkerHandle(0, 1, ours, board)
    board.close()


def test_a_worker_that_ends_before_it_is_known_has_crashed(worker: WorkerHandle) -> None:
    deadlines = Deadlines("main", Watching())
    assert cause_of_end(worker, "ended while it started", running_pool(), deadlines) == "crashed"
    deadlines.slowlog.close()
