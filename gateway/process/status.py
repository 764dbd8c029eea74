"""What `gateway status` shows of any pool, whatever its workers are."""

from __future__ import annotations

from typing import Any

from gateway.process.policy import PoolPolicy
from gateway.process.setup import Setup


def of_pool(name: str, setup: Setup, policy: PoolPolicy, reload_error: str) -> dict[str, Any]:
    """The fields that follow from settings and decisions alone."""
    current = policy.current
    return {
        "name": name,
        "listen": [str(listener.address) for listener in setup.listeners],
        "pm": setup.pool.pm.value,
        "max_children": setup.pool.max_children,
        "wanted": policy.wanted,
        "max_children_reached": policy.max_children_reached,
        "up": not policy.standing_in,
        "generation": current.number if current else 0,
        "state": "reloading" if current and policy.candidate else policy.phase.value,
        "failed": sorted(current.failed) if current else [],
        "reload_error": reload_error,
    }
