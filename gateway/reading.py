"""Settings are read in a child of the master's (`process.apart`): what reads and checks them is no part of a process
that may be root and runs for months, and what they say of applications stays the text that it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.app.brief import brief
from gateway.config import read_settings
from gateway.serving import refuse_root
from gateway.settings import ConfigError, to_json


def read(
    target: str, flags: Mapping[str, object], inherited: str, memory: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Read what `gateway serve` was given (see `config.read_settings`) for `serving.Source`.

    `memory` is that of the time before: what was sound then and is not now raises ConfigError, for it would be left out
    while it serves. So does whatever leaves nothing to serve.
    """
    remembered = dict(memory["files"]) if memory else {}
    loaded = read_settings(target, flags, inherited=inherited, remembered=remembered)
    known = memory["problems"] if memory else loaded.of_applications
    if new := [problem for problem in loaded.of_applications if problem not in known]:
        raise ConfigError("\n".join(new))
    settings = loaded.settings
    if not settings.applications:
        raise ConfigError("\n".join(loaded.problems))
    refuse_root(settings)
    first = next(iter(settings.pools.values()))
    return {
        "brief": to_json(brief(settings)),
        "problems": loaded.problems,
        "memory": {"files": remembered, "problems": loaded.of_applications},
        "alone": bool(inherited) and first.listen == ("fd:0",) and "max_children" not in flags,
    }
