"""The two ways into the master: a start, and going on where another master has stopped (`upgrade`)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway import log
from gateway.process import upgrade
from gateway.process.handles import Loop
from gateway.process.pool import PoolRunner
from gateway.process.prctl import occupy_standard_descriptors
from gateway.process.reloads import Reader
from gateway.process.runner import MakeRunner
from gateway.process.setup import Setups
from gateway.process.supervisor import Master
from gateway.process.upgrade import HandedOver
from gateway.settings import Brief, ConfigError, brief_from_json

if TYPE_CHECKING:
    from gateway.process.spare import Spare


def serve(
    brief: Brief,
    problems: Sequence[str] = (),
    reader: Reader | None = None,
    *,
    make_runner: MakeRunner = PoolRunner,
    command: Sequence[str] = (),
    spare: Spare | None = None,
) -> int:
    """Run the master until it is stopped; return the exit code. `problems` are mistakes that cost single applications.

    A reload takes new settings from `reader`; without, it loads code alone. An upgrade executes `command`, which comes
    to `take_over`; without, there is none. The first zygote may be had from `spare`.
    Raises ConfigError, ListenError (exit code in it) and OSError before anything serves.
    """
    occupy_standard_descriptors()
    gateway = brief.settings.gateway
    with contextlib.ExitStack() as resources:
        if spare is not None:
            make_runner = functools.partial(_make_runner, spare)
        if gateway.error_log != "stderr":
            log.open_file(gateway.error_log)
        log.use_json(gateway.error_log_format == "json")
        for problem in problems:
            log.line(problem, log.Level.ERROR)
        master = Master(brief, resources, reader, make_runner=make_runner, command=command)
        return master.run()


def _make_runner(
    spare: Spare, name: str, setups: Setups, *, loop: Loop, on_loaded: Callable[[int, str], None]
) -> PoolRunner:
    setups.start = spare
    return PoolRunner(name, setups, loop=loop, on_loaded=on_loaded)


def take_over(handed: HandedOver, reader: Reader | None, command: Sequence[str]) -> int:
    """Run the master that goes on with what was handed over, as `serve` does. Raises ConfigError."""
    brief = brief_from_json(handed.state["brief"])
    log.use_json(brief.settings.gateway.error_log_format == "json")
    resources = contextlib.ExitStack()
    if handed.rehearsal and reader is not None:
        _, problems = reader.take_up_again(reader.begin_again().result())
        if problems:
            raise ConfigError("\n".join(problems))
    master = Master(brief, resources, reader, command=command, handed=handed.state)
    if handed.rehearsal:
        upgrade.end_rehearsal()
    with resources:
        return master.run()
