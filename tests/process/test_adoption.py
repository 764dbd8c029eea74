"""A pool's policy that goes from one master to the next."""

from __future__ import annotations

import json

from gateway.process import adoption
from gateway.process.lifecycle import ForkWorker, Kill, LetLeave, Loaded, SpawnZygote, WorkerState
from gateway.process.policy import NEVER, Phase, PoolPolicy
from gateway.process.scaling import Plan
from gateway.settings import Pool
from tests.process.test_policy import NONE, new_pool, running_pool

PLAN = Plan.of(Pool(max_children=2, start_timeout=60, process_control_timeout=30))


def adopted(pool: PoolPolicy) -> PoolPolicy:
    return adoption.adopt(json.loads(json.dumps(adoption.give_up(pool))), PLAN)


def test_workers_are_replaced_one_for_one() -> None:
    pool = adopted(running_pool())
    assert {slot: worker.state for slot, worker in pool.workers.items()} == dict.fromkeys((0, 1), WorkerState.READY)
    assert pool.reload(10) == (2, [SpawnZygote(2)])
    assert pool.zygote_ready(2, NONE, 20) == [ForkWorker(2, 2), ForkWorker(2, 3)]
    assert pool.worker_ready(2, 30) == [LetLeave(0, True)]
    assert pool.worker_ready(3, 40) == [LetLeave(1, True), Loaded(2, "")]


def test_what_is_not_asked_for_is_loaded_too() -> None:
    pool = adopted(running_pool())
    assert pool.next_deadline(10) <= 10
    assert pool.tick(10) == [SpawnZygote(2)]


def test_workers_go_on_while_nothing_can_be_loaded() -> None:
    pool = adopted(running_pool())
    pool.reload(10)
    assert pool.zygote_gone(2, "broken", 20) == [Loaded(2, "broken")]
    assert [worker.state for worker in pool.workers.values()] == [WorkerState.READY] * 2
    assert pool.tick(pool.next_deadline(20)) == [SpawnZygote(3)]


def test_an_application_that_failed_before_does_not_refuse_the_next_load() -> None:
    pool = new_pool()
    pool.start(0)
    pool.zygote_ready(1, frozenset({"shop"}), 0)
    pool = adopted(pool)
    pool.reload(10)
    assert pool.zygote_ready(2, frozenset({"shop"}), 20)[0] == ForkWorker(2, 2)


def test_each_state_and_deadline_goes_over() -> None:
    pool = running_pool()
    pool.reload(100)
    pool.zygote_ready(2, NONE, 100)
    pool.worker_ready(2, 100)
    after = adopted(pool)
    assert after.workers == pool.workers
    assert {worker.state for worker in after.workers.values()} == set(WorkerState) - {
        WorkerState.RETIRING,
        WorkerState.KILLED,
    }
    assert after.tick(30_100) == [Kill(0), SpawnZygote(3)]


def test_a_pool_that_has_nothing_yet_begins_anew() -> None:
    pool = new_pool()
    pool.start(0)
    after = adopted(pool)
    assert (after.current, after.candidate, after.wanted) == (None, None, 2)
    assert after.tick(10) == [SpawnZygote(2)]


def test_a_pool_that_drains_goes_on_draining() -> None:
    pool = running_pool()
    pool.drain(0)
    after = adopted(pool)
    assert after.phase is Phase.DRAINING
    assert after.reload(10) == (0, [])
    assert after.next_deadline(10) == 30_000
    assert after.worker_gone(0, 20) == []
    after.worker_gone(1, 20)
    assert after.phase is Phase.ENDED
    assert adopted(after).next_deadline(30) == NEVER
