"""What is counted of a pool, whatever becomes of its workers."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.net.queue import QueueDepth
from gateway.process.handles import WorkerHandle
from gateway.process.lifecycle import WorkerState
from gateway.process.policy import NEVER, Worker
from gateway.process.scoreboard import Counts, Row, Scoreboard, Slot
from gateway.process.statistics import Statistics

EMPTY = QueueDepth(0, 511)
GET = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "gateway.application": "shop", "REMOTE_USER": "eve"}


class Workers:
    """Workers in this process: their handles, states and rows, by slot."""

    def __init__(self, board: Scoreboard) -> None:
        self.handles: dict[int, WorkerHandle] = {}
        self.states: dict[int, Worker] = {}
        self.rows: list[Row] = []
        self._board = board

    def add(self, state: WorkerState, *, requests: int, busy: bool) -> None:
        slot = len(self.rows)
        self._board.use(slot)
        [row] = Slot(self._board.fd, self._board.layout).take(slot)
        self.rows.append(row)
        for _ in range(requests):
            row.begin(GET, "a.example")
            row.end(1, 200, 0.002)
        if busy:
            row.begin(GET, "a.example")
        channel = socket.socket()
        channel.close()
        self.handles[slot] = WorkerHandle(slot, 3, channel, self._board, time.monotonic() - 9, pid=os.getpid())
        self.states[slot] = Worker(3, state, NEVER)


@pytest.fixture
def workers() -> Iterator[Workers]:
    board = Scoreboard(1, ["", "a.example"])
    yield Workers(board)
    board.close()


def status(statistics: Statistics, workers: Workers, queue: QueueDepth = EMPTY) -> dict[str, Any]:
    return statistics.status(workers.handles, workers.states, queue)


def test_running_requests_count_as_accepted(workers: Workers) -> None:
    workers.add(WorkerState.READY, requests=7, busy=False)
    workers.add(WorkerState.READY, requests=2, busy=True)
    workers.add(WorkerState.LEAVING, requests=2, busy=True)
    workers.add(WorkerState.LEAVING, requests=7, busy=False)
    fields = status(Statistics(), workers)
    assert fields["accepted_conn"] == 7 + 3 + 3 + 7
    assert (fields["active_processes"], fields["idle_processes"], fields["total_processes"]) == (2, 1, 4)
    assert fields["requests"] == [{"host": "a.example", "class": "2xx", "count": 18}]
    assert sum(count for _, count in fields["run_time"]["buckets"]) == 18
    assert fields["queue_wait"]["sum"] == pytest.approx(18 * 0.002)
    assert fields["queue_wait"]["buckets"][1] == (0.0025, 18)


def test_what_a_worker_says_of_itself(workers: Workers) -> None:
    workers.add(WorkerState.READY, requests=1, busy=False)
    workers.add(WorkerState.READY, requests=1, busy=True)
    idle, busy = status(Statistics(), workers)["workers"]
    assert (idle["state"], busy["state"], idle["thread"], idle["generation"]) == ("idle", "busy", 0, 3)
    assert (idle["user"], idle["script"], idle["start_since"]) == ("eve", "shop", 9)
    assert idle["last_request_memory"] > 1_000_000
    assert (busy["last_request_memory"], busy["last_request_cpu"]) == (0, 0.0)
    assert idle["last_request_cpu"] > 0
    assert idle["request_duration"] >= 0
    assert abs(idle["start_time"] - (time.time() - 9)) < 5


def test_counts_of_ended_workers_stay(workers: Workers) -> None:
    statistics = Statistics()
    statistics.worker_ended(Counts(requests=7, shed=1, gone=2, lost=3, answers={("b.example", "5xx"): 7}), "crashed")
    statistics.worker_ended(Counts(requests=3), "recycled")
    workers.add(WorkerState.READY, requests=7, busy=False)
    fields = status(statistics, workers)
    assert fields["accepted_conn"] == 7 + 3 + 7
    assert (fields["shed"], fields["gone"], fields["log_lines_lost"]) == (1, 2, 3)
    assert {"host": "b.example", "class": "5xx", "count": 7} in fields["requests"]
    ended = {"crashed": 1, "idle": 0, "recycled": 1, "replaced": 0, "stopped": 0, "timeout": 0}
    assert fields["ended"] == ended
    assert status(statistics, workers)["accepted_conn"] == 7 + 3 + 7


def test_the_most_memory_stays(workers: Workers) -> None:
    statistics = Statistics()
    workers.add(WorkerState.READY, requests=1, busy=False)
    fields = status(statistics, workers)
    assert fields["memory_peak"] >= fields["workers"][0]["last_request_memory"] > 0
    workers.handles.clear()
    assert status(statistics, workers)["memory_peak"] == fields["memory_peak"]


def test_highest_values_stay(workers: Workers) -> None:
    statistics = Statistics()
    statistics.sample(3, 2)
    statistics.sample(1, 40)
    fields = status(statistics, workers)
    assert (fields["max_active_processes"], fields["max_listen_queue"]) == (3, 40)
    assert (fields["active_processes"], fields["listen_queue"], fields["listen_queue_len"]) == (0, 0, 511)


def test_asking_is_a_sample_too(workers: Workers) -> None:
    statistics = Statistics()
    workers.add(WorkerState.READY, requests=0, busy=True)
    status(statistics, workers, QueueDepth(5, 511))
    workers.rows[0].end(1, 200, None)
    fields = status(statistics, workers)
    assert (fields["max_active_processes"], fields["max_listen_queue"]) == (1, 5)
    assert fields["start_since"] >= 0
