"""What is counted of a pool, whatever becomes of its workers."""

from __future__ import annotations

import dataclasses

from gateway.net.queue import QueueDepth
from gateway.process.scoreboard import NOTHING
from gateway.process.statistics import Statistics

EMPTY = QueueDepth(0, 511)
IDLE = dataclasses.replace(NOTHING, requests=7)
BUSY = dataclasses.replace(NOTHING, requests=2, busy=True)


def test_running_requests_count_as_accepted() -> None:
    fields = Statistics().fields([IDLE, BUSY], [BUSY, IDLE], EMPTY)
    assert fields["accepted_conn"] == 7 + 3 + 3 + 7
    assert (fields["active_processes"], fields["idle_processes"]) == (2, 1)


def test_requests_of_ended_workers_stay() -> None:
    statistics = Statistics()
    statistics.worker_ended(IDLE)
    statistics.worker_ended(BUSY)
    assert statistics.fields([IDLE], [], EMPTY)["accepted_conn"] == 7 + 3 + 7


def test_highest_values_stay() -> None:
    statistics = Statistics()
    statistics.sample(3, 2)
    statistics.sample(1, 40)
    fields = statistics.fields([], [], EMPTY)
    assert (fields["max_active_processes"], fields["max_listen_queue"]) == (3, 40)
    assert (fields["active_processes"], fields["listen_queue"], fields["listen_queue_len"]) == (0, 0, 511)


def test_asking_is_a_sample_too() -> None:
    statistics = Statistics()
    statistics.fields([BUSY, BUSY], [], QueueDepth(5, 511))
    fields = statistics.fields([], [], EMPTY)
    assert (fields["max_active_processes"], fields["max_listen_queue"]) == (2, 5)
    assert fields["start_since"] >= 0
