"""The policy with a simulated clock: examples, and a state machine in which no sequence of events loses a worker."""

from __future__ import annotations

import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.process import adoption, lifecycle
from gateway.process.lifecycle import (
    SERVING,
    STAYING,
    TRANSITIONS,
    Action,
    DiscardZygote,
    Ended,
    ForkWorker,
    Kill,
    LetLeave,
    Loaded,
    SpawnZygote,
    StandIn,
    Terminate,
    WorkerEvent,
    WorkerState,
)
from gateway.process.policy import NEVER, Phase, PoolPolicy
from gateway.process.scaling import Load, Plan, Scaling
from gateway.settings import ProcessManager

NONE: frozenset[str] = frozenset()


def new_pool(children: int = 2) -> PoolPolicy:
    return PoolPolicy(Scaling(ProcessManager.STATIC, children), start_timeout=60_000, control_timeout=30_000)


def running_pool(children: int = 2) -> PoolPolicy:
    """A pool whose first generation serves, at time 0."""
    pool = new_pool(children)
    pool.start(0)
    pool.zygote_ready(1, NONE, 0)
    for slot in range(children):
        pool.worker_ready(slot, 0)
    return pool


def test_a_start_loads_then_forks_then_reports() -> None:
    pool = new_pool()
    assert pool.start(0) == [SpawnZygote(1)]
    assert pool.next_deadline(0) == 60_000
    assert pool.zygote_ready(1, NONE, 10) == [ForkWorker(1, 0), ForkWorker(1, 1)]
    assert pool.worker_ready(0, 20) == []
    assert pool.worker_ready(1, 30) == [Loaded(1, "")]
    assert pool.next_deadline(30) == NEVER


def test_a_dead_worker_is_replaced_at_once() -> None:
    pool = running_pool()
    assert pool.worker_gone(1, 5_000) == [ForkWorker(1, 1)]
    assert pool.worker_ready(1, 5_010) == []


def test_deaths_after_ready_are_replaced_at_most_fifty_times_a_second() -> None:
    pool = running_pool(1)
    forks = 0
    for moment in range(1_000, 1_900):
        forks += sum(isinstance(action, ForkWorker) for action in pool.worker_gone(0, moment))
        pool.worker_ready(0, moment)
    assert forks == 50
    assert pool.tick(pool.next_deadline(1_900)) == [ForkWorker(1, 0)]


def test_failed_starts_back_off_one_at_a_time() -> None:
    pool = new_pool(4)
    pool.start(0)
    pool.zygote_ready(1, NONE, 0)
    now, delays = 0, []
    for slot in range(4):
        pool.worker_gone(slot, now)
    for _ in range(12):
        due = pool.next_deadline(now)
        delays.append(due - now)
        assert pool.tick(due - 1) == []
        assert pool.tick(due) == [ForkWorker(1, 0)]
        now = due
        assert pool.worker_gone(0, now) in ([], [StandIn(wanted=True)])
    assert delays[:4] == [800, 1_600, 3_200, 6_400]
    assert delays[-1] == 30_000


def test_a_worker_that_hangs_while_it_starts_is_killed() -> None:
    pool = new_pool(1)
    pool.start(0)
    pool.zygote_ready(1, NONE, 0)
    assert pool.tick(60_000) == [Kill(0)]
    assert pool.tick(60_100) == [ForkWorker(1, 1)]
    assert pool.tick(62_000) == [Kill(0)]
    assert pool.worker_gone(0, 62_001) == []


def test_a_reload_replaces_one_for_one_and_reports_when_the_new_code_alone_serves() -> None:
    pool = running_pool()
    assert pool.reload(100) == (2, [SpawnZygote(2)])
    assert pool.zygote_ready(2, NONE, 200) == [DiscardZygote(1), ForkWorker(2, 2), ForkWorker(2, 3)]
    assert pool.worker_ready(3, 300) == [LetLeave(0, replaced=True)]
    assert pool.worker_ready(2, 301) == [LetLeave(1, replaced=True), Loaded(2, "")]
    assert pool.worker_gone(0, 400) == []
    assert pool.tick(30_301) == [Kill(1)]
    assert pool.worker_gone(1, 30_302) == []
    assert {worker.generation for worker in pool.workers.values()} == {2}


@pytest.mark.parametrize(
    "fails",
    [
        lambda pool: pool.zygote_gone(2, "exited with status 1", 200),
        lambda pool: pool.zygote_ready(2, frozenset({"shop"}), 200),
        lambda pool: pool.tick(60_100),
    ],
)
def test_a_refused_reload_leaves_the_old_generation_as_it_was(fails) -> None:  # type: ignore[no-untyped-def]
    pool = running_pool()
    pool.reload(100)
    actions = fails(pool)
    assert [action for action in actions if isinstance(action, ForkWorker | LetLeave | Terminate | Kill)] == []
    assert [(a.generation, bool(a.error)) for a in actions if isinstance(a, Loaded)] == [(2, True)]
    assert pool.current is not None
    assert pool.current.number == 1
    assert pool.worker_gone(0, 90_000) == [ForkWorker(1, 0)]
    assert pool.reload(91_000) == (3, [SpawnZygote(3)])


def test_an_application_that_failed_before_refuses_no_reload() -> None:
    pool = new_pool(1)
    pool.start(0)
    assert pool.zygote_ready(1, frozenset({"broken"}), 0) == [ForkWorker(1, 0)]
    pool.reload(10)
    assert DiscardZygote(1) in pool.zygote_ready(2, frozenset({"broken"}), 20)


def test_reloads_coalesce_while_one_loads() -> None:
    pool = running_pool(1)
    assert pool.reload(0) == (2, [SpawnZygote(2)])
    assert pool.reload(1) == (3, [])
    assert pool.reload(2) == (3, [])
    assert pool.zygote_gone(2, "broken", 3) == [Loaded(2, "broken"), SpawnZygote(3)]


def test_a_coalesced_reload_follows_a_good_one() -> None:
    pool = running_pool(1)
    pool.reload(0)
    pool.reload(1)
    actions = pool.zygote_ready(2, NONE, 2)
    assert actions == [DiscardZygote(1), Loaded(2, ""), SpawnZygote(3), ForkWorker(2, 1)]


def test_a_reload_while_new_workers_start_reports_the_one_before() -> None:
    pool = running_pool(1)
    pool.reload(0)
    pool.zygote_ready(2, NONE, 1)
    assert pool.reload(2) == (3, [Loaded(2, ""), SpawnZygote(3)])


def test_no_more_than_twice_max_children_live() -> None:
    pool = running_pool(2)
    for generation in (2, 3):
        pool.reload(generation)
        pool.zygote_ready(generation, NONE, generation)
        for slot in list(pool.workers):
            pool.worker_ready(slot, generation)
    assert len(pool.workers) == 4
    assert pool.next_deadline(5) > 5
    freed = next(slot for slot, worker in pool.workers.items() if worker.generation == 1)
    assert pool.worker_gone(freed, 10) == [ForkWorker(3, freed)]


def test_a_refused_reload_delays_no_replacement() -> None:
    pool = running_pool(2)
    for number in (2, 3, 4):
        pool.reload(number)
        assert pool.zygote_gone(number, "killed", number) == [Loaded(number, "killed")]
    assert pool.worker_gone(0, 10) == [ForkWorker(1, 0)]
    assert pool.worker_gone(1, 10) == [ForkWorker(1, 1)]


def test_a_start_that_a_reload_cut_off_delays_nothing() -> None:
    pool = running_pool(2)
    assert pool.worker_gone(0, 10) == [ForkWorker(1, 0)]
    pool.reload(11)
    assert pool.zygote_ready(2, NONE, 12) == [DiscardZygote(1), ForkWorker(2, 2), ForkWorker(2, 3)]
    assert pool.worker_gone(0, 13) == []
    assert pool.worker_ready(2, 14) == []
    assert pool.worker_gone(2, 15) == [ForkWorker(2, 0)]


def test_zygotes_that_die_right_after_ready_are_followed_ever_more_slowly() -> None:
    pool = new_pool(1)
    pool.start(0)
    now, pauses = 0, []
    for number in range(1, 8):
        assert ForkWorker(number, 0) in pool.zygote_ready(number, NONE, now)
        pool.zygote_gone(number, "killed", now)
        pool.worker_gone(0, now)
        pauses.append(pool.next_deadline(now) - now)
        now += pauses[-1]
        assert pool.tick(now) == [SpawnZygote(number + 1)]
    assert pauses == sorted(pauses)
    assert pauses[-1] > 10 * pauses[0] >= 1000


def test_a_lost_zygote_brings_a_new_generation_and_costs_no_worker() -> None:
    pool = running_pool(1)
    assert pool.zygote_gone(1, "killed", 100) == [SpawnZygote(2)]
    assert pool.zygote_gone(2, "killed", 150) == [Loaded(2, "killed")]
    assert pool.tick(249) == []
    assert pool.tick(250) == [SpawnZygote(3)]
    assert pool.zygote_ready(3, NONE, 300) == [ForkWorker(3, 1)]
    assert pool.worker_ready(1, 310) == [LetLeave(0, replaced=True), Loaded(3, "")]


def test_drain_lets_requests_finish_and_ends_after_the_last_worker() -> None:
    pool = running_pool(2)
    pool.reload(0)
    assert pool.drain(10) == [
        DiscardZygote(2),
        Loaded(2, "the gateway is stopping"),
        DiscardZygote(1),
        LetLeave(0, replaced=False),
        LetLeave(1, replaced=False),
    ]
    assert pool.drain(11) == []
    assert pool.reload(11) == (0, [])
    assert pool.zygote_ready(2, NONE, 12) == []
    assert pool.worker_gone(0, 13) == []
    assert pool.tick(30_010) == [Kill(1)]
    assert pool.worker_gone(1, 30_011) == [Ended()]
    assert pool.tick(30_012) == []


def test_terminate_ends_every_worker_and_kills_what_stays() -> None:
    pool = running_pool(2)
    pool.drain(0)
    assert pool.terminate(10) == [Terminate(0), Terminate(1)]
    assert pool.terminate(11) == []
    pool.worker_gone(0, 12)
    assert pool.tick(2_010) == [Kill(1)]
    assert pool.worker_gone(1, 2_011) == [Ended()]


def test_stopping_before_anything_was_loaded_ends_at_once() -> None:
    pool = new_pool()
    pool.start(0)
    assert pool.terminate(1) == [DiscardZygote(1), Loaded(1, "the gateway is stopping"), Ended()]
    assert new_pool().drain(0) == [Ended()]


def test_a_killed_worker_is_not_signalled_twice_by_terminate() -> None:
    pool = new_pool(1)
    pool.start(0)
    pool.zygote_ready(1, NONE, 0)
    pool.tick(60_000)
    assert pool.terminate(60_001) == [DiscardZygote(1)]


@pytest.mark.parametrize("event", ["zygote_ready", "zygote_gone", "worker_ready", "worker_leaves", "worker_gone"])
def test_news_of_the_unknown_change_nothing(event: str) -> None:
    pool = running_pool()
    arguments = {
        "worker_leaves": (9, 1),
        "zygote_ready": (9, NONE, 1),
        "zygote_gone": (9, "?", 1),
        "worker_ready": (9, 1),
        "worker_gone": (9, 1),
    }
    assert getattr(pool, event)(*arguments[event]) == []
    assert pool.worker_ready(0, 1) == []


def test_every_cell_of_the_table_is_filled() -> None:
    assert set(TRANSITIONS) == set(WorkerState)
    assert all(set(row) == set(WorkerEvent) for row in TRANSITIONS.values())


def test_starts_that_fail_for_a_while_bring_a_stand_in_until_a_worker_is_ready() -> None:
    pool = new_pool(1)
    pool.start(0)
    pool.zygote_ready(1, NONE, 0)
    now = 0
    for expected in ([], [], [StandIn(wanted=True)]):  # after 0, 100 and 300 ms
        assert pool.worker_gone(0, now) == expected
        now = pool.next_deadline(now)
        assert pool.tick(now) == [ForkWorker(1, 0)]
    assert pool.worker_gone(0, now) == []
    now = pool.next_deadline(now)
    assert pool.tick(now) == [ForkWorker(1, 0)]
    assert pool.worker_ready(0, now)[:1] == [StandIn(wanted=False)]


def test_failures_at_the_same_time_bring_none() -> None:
    pool = new_pool(4)
    pool.start(0)
    pool.zygote_ready(1, NONE, 0)
    assert [pool.worker_gone(slot, 0) for slot in range(4)] == [[]] * 4


def test_failures_that_are_far_apart_bring_none() -> None:
    pool = new_pool(1)
    pool.start(0)
    pool.zygote_ready(1, NONE, 0)
    for now in range(0, 400_000, 31_000):
        pool.tick(now)
        assert StandIn(wanted=True) not in pool.worker_gone(0, now)


def test_zygotes_that_cannot_load_bring_a_stand_in_too_and_a_stop_ends_it() -> None:
    pool = new_pool(1)
    pool.start(0)
    now, actions = 0, []
    for number in range(1, 4):
        actions = pool.zygote_gone(number, "was killed by signal 11", now)
        now = pool.next_deadline(now)
        pool.tick(now)
    assert StandIn(wanted=True) in actions
    assert StandIn(wanted=False) in pool.drain(now)


def dynamic_pool(**options: int) -> PoolPolicy:
    """Two READY workers of a dynamic pool, 1 to 3 spare, at most 8."""
    values = {"start_servers": 2, "min_spare_servers": 1, "max_spare_servers": 3} | options
    pool = PoolPolicy(Scaling(ProcessManager.DYNAMIC, 8, **values), start_timeout=60_000, control_timeout=30_000)
    pool.start(0)
    pool.zygote_ready(1, NONE, 0)
    for slot in list(pool.workers):
        pool.worker_ready(slot, 0)
    return pool


def forks(actions: list[Action]) -> int:
    return sum(isinstance(action, ForkWorker) for action in actions)


def test_a_dynamic_pool_grows_at_once_to_what_the_queue_needs() -> None:
    pool = dynamic_pool()
    assert pool.wanted == 2
    assert forks(pool.observe(Load(busy=2, idle={}, queued=3), 100)) == 4
    assert pool.wanted == 6
    assert forks(pool.observe(Load(busy=2, idle={}, queued=50), 200)) == 2
    assert (pool.wanted, pool.max_children_reached) == (8, 1)
    assert forks(pool.observe(Load(busy=8, idle={}, queued=50), 300)) == 0
    assert pool.max_children_reached == 1
    pool.observe(Load(busy=1, idle={2: 0}, queued=0), 400)
    pool.observe(Load(busy=8, idle={}, queued=1), 500)
    assert pool.max_children_reached == 2


def test_a_queue_beside_an_idle_worker_is_on_its_way_to_it() -> None:
    pool = dynamic_pool()
    assert pool.observe(Load(busy=1, idle={1: 5}, queued=4), 100) == []


def test_process_max_holds_a_pool_back() -> None:
    pool = dynamic_pool()
    assert forks(pool.observe(Load(busy=2, idle={}, queued=9, ceiling=3), 100)) == 1
    assert pool.observe(Load(busy=3, idle={}, queued=9, ceiling=1), 200) == []
    assert pool.wanted == 3


def test_a_pool_that_process_max_holds_back_says_how_many_workers_it_lacks() -> None:
    pool = dynamic_pool()
    pool.observe(Load(busy=2, idle={}, queued=3, ceiling=3), 100)
    assert (pool.wanted, pool.lacking) == (3, 2)
    pool.observe(Load(busy=3, idle={}, queued=2, ceiling=5), 200)
    assert (pool.wanted, pool.lacking) == (5, 0)
    pool.observe(Load(busy=5, idle={}, queued=9, ceiling=5), 300)
    assert pool.lacking == 3
    pool.drain(400)
    assert pool.lacking == 0


def test_idle_workers_go_at_once_as_far_as_process_max_has_no_room_for_those_that_others_lack() -> None:
    pool = dynamic_pool(start_servers=4)
    idle = dict.fromkeys(range(4), 1)
    assert pool.observe(Load(busy=0, idle=idle, queued=0, ceiling=6, lacking=2), 100) == []
    assert pool.observe(Load(busy=0, idle=idle, queued=0, ceiling=5, lacking=2), 200) == [LetLeave(0, replaced=True)]
    del idle[0]
    assert pool.observe(Load(busy=0, idle=idle, queued=0, ceiling=5, lacking=2), 300) == []
    assert len(pool.observe(Load(busy=0, idle=idle, queued=0, ceiling=3, lacking=9), 400)) == 2
    assert pool.wanted == 1


def test_a_static_pool_keeps_its_workers_whatever_others_lack() -> None:
    pool = running_pool()
    assert pool.observe(Load(busy=0, idle={0: 1, 1: 1}, queued=0, ceiling=2, lacking=9), 100) == []
    pool.observe(Load(busy=2, idle={}, queued=9, ceiling=2), 200)
    assert pool.lacking == 0


def test_a_dynamic_pool_shrinks_to_the_spare_ones_after_the_idle_timeout() -> None:
    pool = dynamic_pool(start_servers=6)
    idle = {slot: 9_000 + slot for slot in range(6)}
    assert pool.observe(Load(busy=0, idle=idle, queued=0), 9_000) == []
    idle = {slot: 10_000 - 2 + slot for slot in range(6)}
    assert pool.observe(Load(busy=0, idle=idle, queued=1), 10_000) == []
    assert pool.observe(Load(busy=0, idle=idle, queued=0), 10_000) == [
        LetLeave(5, replaced=True),
        LetLeave(4, replaced=True),
        LetLeave(3, replaced=True),
    ]
    assert pool.wanted == 3
    assert pool.worker_gone(5, 10_100) == []


def test_an_ondemand_pool_starts_with_none_and_ends_with_none() -> None:
    pool = PoolPolicy(Scaling(ProcessManager.ONDEMAND, 4), start_timeout=60_000, control_timeout=30_000)
    pool.start(0)
    assert pool.observe(Load(busy=0, idle={}, queued=1), 1) == []
    assert pool.zygote_ready(1, NONE, 5) == [Loaded(1, "")]
    assert pool.observe(Load(busy=0, idle={}, queued=2), 10) == [ForkWorker(1, 0), ForkWorker(1, 1)]
    pool.worker_ready(0, 20)
    pool.worker_ready(1, 20)
    assert pool.observe(Load(busy=1, idle={1: 10_000}, queued=0), 10_020) == [LetLeave(1, replaced=True)]
    assert pool.observe(Load(busy=0, idle={0: 10_000}, queued=0), 30_000) == [LetLeave(0, replaced=True)]
    assert pool.wanted == 0
    pool.drain(30_001)
    assert pool.observe(Load(busy=0, idle={}, queued=2), 30_002) == []


def test_an_expired_worker_leaves_only_when_its_replacement_is_ready() -> None:
    pool = running_pool(2)
    assert pool.observe(Load(busy=0, idle={0: 1, 1: 1}, queued=0, expired=(0, 1)), 100) == [ForkWorker(1, 2)]
    assert pool.observe(Load(busy=0, idle={1: 1}, queued=0, expired=(0, 1)), 200) == []
    assert pool.worker_ready(2, 210) == [LetLeave(0, replaced=True)]
    assert pool.observe(Load(busy=0, idle={1: 1, 2: 1}, queued=0, expired=(1,)), 300) == [ForkWorker(1, 3)]
    assert pool.worker_gone(0, 310) == []
    assert pool.worker_gone(1, 320) == []  # it died by itself: its replacement is under way


def test_a_worker_that_leaves_by_itself_is_replaced_at_once() -> None:
    pool = running_pool(2)
    assert pool.worker_leaves(0, 100) == [ForkWorker(1, 2)]
    assert pool.worker_leaves(0, 101) == []
    assert pool.worker_ready(2, 110) == []
    assert pool.tick(30_100) == [Kill(0)]
    assert pool.worker_gone(0, 30_101) == []


def test_a_retiring_worker_that_leaves_by_itself_needs_no_other_replacement() -> None:
    pool = running_pool(2)
    assert forks(pool.observe(Load(busy=0, idle={0: 1, 1: 1}, queued=0, expired=(0,)), 100)) == 1
    assert pool.worker_leaves(0, 110) == []
    assert pool.worker_ready(2, 120) == []


def test_a_worker_that_is_not_ready_cannot_leave() -> None:
    pool = new_pool(1)
    pool.start(0)
    pool.zygote_ready(1, NONE, 0)
    assert pool.worker_leaves(0, 1) == []
    assert pool.workers[0].state is WorkerState.STARTING
    pool.drain(2)
    assert pool.worker_leaves(0, 3) == []


def plan(max_children: int, **more: int) -> Plan:
    return Plan(
        Scaling(ProcessManager.STATIC, max_children), **{"start_timeout": 60_000, "control_timeout": 30_000} | more
    )


def test_a_plan_comes_into_force_with_its_generation() -> None:
    pool = running_pool(2)
    pool.reload(0, plan(4, start_timeout=500, control_timeout=700))
    assert (pool.wanted, pool.next_deadline(0)) == (2, 500)
    actions = pool.zygote_ready(2, NONE, 1)
    assert (pool.wanted, pool.start_timeout, pool.control_timeout) == (4, 500, 700)
    assert forks(actions) == 4
    assert pool.worker_ready(2, 2) == []
    assert pool.worker_ready(3, 2) == []
    assert pool.worker_ready(4, 2) == [LetLeave(0, replaced=True)]
    assert pool.worker_ready(5, 2) == [LetLeave(1, replaced=True), Loaded(2, "")]


def test_a_plan_for_fewer_workers_lets_the_old_ones_go_first() -> None:
    pool = running_pool(4)
    pool.reload(0, plan(1))
    leaving = [action for action in pool.zygote_ready(2, NONE, 1) if isinstance(action, LetLeave)]
    assert (pool.wanted, len(leaving)) == (1, 3)
    actions: list[Action] = []
    for action in leaving:
        actions += pool.worker_gone(action.slot, 2)
    assert forks(actions) == 1
    (slot,) = [slot for slot, worker in pool.workers.items() if worker.generation == 2]
    assert pool.worker_ready(slot, 3)[-1] == Loaded(2, "")


def test_a_plan_that_cannot_be_loaded_changes_nothing() -> None:
    pool = running_pool(2)
    pool.reload(0, plan(4, start_timeout=500))
    error = "the applications were not loaded within start_timeout (0.5 s)"
    assert pool.tick(500) == [DiscardZygote(2), Loaded(2, error)]
    assert (pool.wanted, pool.start_timeout) == (2, 60_000)
    pool.reload(501)
    pool.zygote_ready(3, NONE, 502)
    assert pool.wanted == 2


def test_of_plans_that_come_while_one_is_loaded_the_last_is_next() -> None:
    pool = running_pool(2)
    pool.reload(0, plan(3))
    assert pool.reload(1, plan(4)) == (3, [])
    assert pool.reload(2, plan(5)) == (3, [])
    assert pool.reload(3) == (3, [])
    pool.zygote_ready(2, NONE, 4)
    assert pool.wanted == 3
    pool.zygote_ready(3, NONE, 5)
    assert pool.wanted == 5


def test_a_static_pool_is_adjusted_within_its_limits() -> None:
    pool = running_pool(3)
    assert pool.adjust(1, 0) == []
    assert pool.adjust(-1, 1) == [LetLeave(2, replaced=True)]
    assert pool.adjust(-1, 2) == [LetLeave(1, replaced=True)]
    assert pool.adjust(-1, 3) == []
    assert pool.observe(Load(busy=1, idle={}, queued=9), 4) == []
    assert (pool.wanted, pool.max_children_reached) == (1, 1)
    assert pool.worker_gone(2, 5) == []
    assert pool.adjust(1, 6) == [ForkWorker(1, 2)]
    assert pool.adjust(1, 7) == [ForkWorker(1, 3)]
    assert pool.adjust(-1, 8) == [LetLeave(3, replaced=True)]
    pool.reload(9, plan(3))
    assert forks(pool.zygote_ready(2, NONE, 10)) == 2
    assert pool.wanted == 3


def test_what_is_not_static_or_not_running_is_not_adjusted() -> None:
    assert dynamic_pool().adjust(1, 0) == []
    pool = new_pool()
    pool.start(0)
    assert pool.adjust(-1, 1) == []
    assert forks(pool.zygote_ready(1, NONE, 2)) == 1
    pool.drain(3)
    assert pool.adjust(1, 4) == []
    assert pool.wanted == 1


class Machine(RuleBasedStateMachine):
    """A pool whose processes do anything that processes can do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.pool = new_pool(3)
        self.alive: set[int] = set()  # slots of workers that exist
        self.zygotes: set[int] = set()
        self.ended = False
        self.standing_in = False
        self.take(self.pool.start(0))

    def take(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case SpawnZygote(generation):
                    self.zygotes.add(generation)
                case DiscardZygote(generation):
                    assert generation in self.zygotes
                    self.zygotes.discard(generation)
                case ForkWorker(generation, slot):
                    assert generation in self.zygotes
                    assert slot not in self.alive
                    self.alive.add(slot)
                case LetLeave(slot, replaced=True):
                    staying = [w for w in self.pool.workers.values() if w.state in STAYING]
                    assert slot in self.alive
                    assert len(staying) >= self.pool.wanted
                case StandIn(wanted):
                    assert wanted != self.standing_in
                    self.standing_in = wanted
                case LetLeave(slot) | Terminate(slot) | Kill(slot):
                    assert slot in self.alive
                case Ended():
                    assert not self.ended
                    self.ended = True

    @rule(by=st.sampled_from([1, 100, 1_000, 31_000, 61_000]))
    def time_passes(self, by: int) -> None:
        self.now += by
        self.take(self.pool.tick(self.now))

    @rule(data=st.data(), failed=st.sampled_from([NONE, frozenset({"a"})]))
    def a_zygote_becomes_ready(self, data: st.DataObject, failed: frozenset[str]) -> None:
        number = data.draw(st.sampled_from(sorted(self.zygotes) or [0]))
        self.take(self.pool.zygote_ready(number, failed, self.now))

    @rule(data=st.data(), queued=st.integers(0, 5), lacking=st.integers(0, 3))
    def the_pool_is_looked_at(self, data: st.DataObject, queued: int, lacking: int) -> None:
        serving = [slot for slot, worker in self.pool.workers.items() if worker.state in SERVING]
        expired = data.draw(st.lists(st.sampled_from(serving or [0]), unique=True))
        load = Load(0, dict.fromkeys(serving, 60_000), queued, expired, 3, lacking)
        self.take(self.pool.observe(load, self.now))

    @precondition(lambda self: self.zygotes)
    @rule(data=st.data())
    def a_zygote_dies(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.zygotes)))
        self.zygotes.discard(number)
        self.take(self.pool.zygote_gone(number, "died", self.now))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def a_worker_becomes_ready(self, data: st.DataObject) -> None:
        self.take(self.pool.worker_ready(data.draw(st.sampled_from(sorted(self.alive))), self.now))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def a_worker_dies(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.alive)))
        self.alive.discard(slot)
        self.take(self.pool.worker_gone(slot, self.now))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def a_worker_leaves_by_itself(self, data: st.DataObject) -> None:
        self.take(self.pool.worker_leaves(data.draw(st.sampled_from(sorted(self.alive))), self.now))

    @rule()
    def somebody_reloads(self) -> None:
        self.take(self.pool.reload(self.now)[1])

    @rule(by=st.sampled_from([-1, 1]))
    def somebody_adjusts(self, by: int) -> None:
        self.take(self.pool.adjust(by, self.now))

    @invariant()
    def it_wants_as_many_as_it_may_have(self) -> None:
        assert 1 <= self.pool.wanted <= 3

    @precondition(lambda self: self.pool.phase in (Phase.RUNNING, Phase.DRAINING))
    @rule()
    def another_master_goes_on(self) -> None:
        state = json.loads(json.dumps(adoption.give_up(self.pool)))
        self.pool = adoption.adopt(state, Plan(self.pool.scaling, 60_000, 30_000))
        self.zygotes.clear()
        self.standing_in = False

    @precondition(lambda self: self.now > 50_000)
    @rule()
    def somebody_drains(self) -> None:
        self.take(self.pool.drain(self.now))

    @precondition(lambda self: self.now > 50_000)
    @rule()
    def somebody_terminates(self) -> None:
        self.take(self.pool.terminate(self.now))

    @invariant()
    def the_policy_knows_exactly_the_workers_that_exist(self) -> None:
        assert set(self.pool.workers) == self.alive
        assert len(self.alive) <= 6

    @invariant()
    def it_has_ended_only_when_nothing_is_left(self) -> None:
        assert self.ended == (self.pool.phase is Phase.ENDED)
        assert not (self.ended and self.alive)

    def teardown(self) -> None:
        """From wherever it stands: if nothing fails any more, the pool gets whole, or ends."""
        for _ in range(100):
            self.now += 1_001
            self.take(self.pool.tick(self.now))
            for slot in sorted(self.alive):
                if self.pool.workers[slot].state is WorkerState.STARTING:
                    self.take(self.pool.worker_ready(slot, self.now))
                elif self.pool.workers[slot].state is not WorkerState.READY:
                    self.alive.discard(slot)
                    self.take(self.pool.worker_gone(slot, self.now))
            if self.pool.candidate is not None:
                self.take(self.pool.zygote_ready(self.pool.candidate.number, NONE, self.now))
        if self.pool.phase is Phase.RUNNING:
            assert [worker.state for worker in self.pool.workers.values()] == [WorkerState.READY] * self.pool.wanted
            assert not self.standing_in
        else:
            assert self.ended


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_every_action_is_known() -> None:
    assert {kind.__name__ for kind in Action.__args__} <= set(dir(lifecycle))
