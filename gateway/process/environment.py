"""The environment of a pool's processes."""

from __future__ import annotations

import os

from gateway.process.identity import Identity
from gateway.process.spare import KEPT_VARIABLES, NOT_FOR_CHILDREN
from gateway.settings import Pool


def environment(pool: Pool, identity: Identity | None) -> dict[str, str]:
    """The environment of a pool's processes: gateway's own, or a clean one where the user changes (`clear_env`)."""
    clear = pool.clear_env if pool.clear_env is not None else identity is not None
    env = {k: v for k, v in os.environ.items() if not clear or k in KEPT_VARIABLES}
    for name in NOT_FOR_CHILDREN:
        env.pop(name, None)
    if identity is not None:
        env.update(USER=identity.name, LOGNAME=identity.name, HOME=identity.home)
    return {**env, **pool.env}
