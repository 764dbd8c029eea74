"""A pool's policy on its way from one master to the next, as what JSON can hold.

The workers go over as they are. No zygote does: the next master is to fork from its own code, so the generation that
serves is one whose zygote has gone, and a new one is loaded, whose workers replace the adopted ones as in a reload.
"""

from __future__ import annotations

from gateway.net.handover import State
from gateway.process.lifecycle import WorkerState
from gateway.process.policy import NEVER, Generation, Phase, PoolPolicy, Worker, ZygoteState
from gateway.process.scaling import Plan


def give_up(policy: PoolPolicy) -> State:
    """What `adopt` needs to go on with the pool. Deadlines are of the same clock in every process since the boot."""
    current = policy.current
    return {
        "phase": policy.phase.value,
        "wanted": policy.wanted,
        "max_children_reached": policy.max_children_reached,
        "last_number": policy.last_number,
        "current": None if current is None else {"number": current.number, "failed": sorted(current.failed)},
        "workers": [[slot, w.generation, w.state.value, w.deadline] for slot, w in policy.workers.items()],
    }


def adopt(state: State, plan: Plan) -> PoolPolicy:
    """The policy of a pool that was given up, to be asked for its deadline like any other."""
    current = state["current"]
    return PoolPolicy(
        plan.scaling,
        start_timeout=plan.start_timeout,
        control_timeout=plan.control_timeout,
        phase=Phase(state["phase"]),
        wanted=state["wanted"],
        max_children_reached=state["max_children_reached"],
        workers={
            slot: Worker(generation, WorkerState(name), deadline)
            for slot, generation, name, deadline in state["workers"]
        },
        current=current and Generation(current["number"], ZygoteState.GONE, NEVER, failed=frozenset(current["failed"])),
        last_number=state["last_number"],
    )
