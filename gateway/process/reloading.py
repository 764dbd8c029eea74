"""What settings that were read again change of the pools that run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from gateway import log
from gateway.net.address import InheritedAddress, parse_address
from gateway.net.listeners import ListenError
from gateway.process.setup import Setup, Setups
from gateway.record import Record, field
from gateway.settings import Brief, ConfigError, Gateway, Settings

_WITH_A_START = (
    "control", "pid_file", "error_log",
    "status_listen", "status_listen_mode", "status_listen_allowed_clients", "status_user",
)  # fmt: skip


class Changes(Record, frozen=False):
    """Settings that are ready to be applied: every step that can fail has been made, nothing that runs has changed.

    `problems`: what the pools of included files ask for and cannot have. Those stay as they are, or out.
    """

    brief: Brief
    changed: dict[str, Setup] = field(factory=dict)
    added: dict[str, Setups] = field(factory=dict)
    removed: list[str] = field(factory=list)
    problems: list[str] = field(factory=list)


def set_up(brief: Brief) -> dict[str, Setups]:
    """Set up the pools of a start, without those of included files that cannot be had, which are logged.

    Raises ConfigError, ListenError and OSError.
    """
    changes = work_out(brief, {}, "")
    for problem in changes.problems:
        log.line(problem, log.Level.ERROR)
    if not changes.added:
        raise ConfigError("\n".join(changes.problems))
    return changes.added


def work_out(brief: Brief, running: Mapping[str, Setups], name: str, *, only_changed: bool = False) -> Changes:
    """Set up the pool called `name`, or all for "", or those of which the settings say something new.

    Raises ConfigError, ListenError and OSError.
    """
    changes = Changes(brief)
    settings = brief.settings
    try:
        for pool in dict.fromkeys([*running, *settings.pools]):
            if name not in ("", pool):
                continue
            if pool not in settings.pools:
                changes.removed.append(pool)
                continue
            with _apart(changes, pool, running.get(pool)):
                _check_user(settings, pool)
                _check_addresses(settings, pool, running)
                if pool not in running:
                    changes.added[pool] = Setups(pool, settings.pools[pool], brief.work(pool))
                elif not only_changed or _is_changed(brief, pool, running[pool]):
                    changes.changed[pool] = _prepare(brief, pool, running[pool])
    except BaseException:
        for setups in changes.added.values():
            setups.close()
        for setups in running.values():
            setups.forget_unplanned()
        raise
    return changes


@contextlib.contextmanager
def _apart(changes: Changes, pool: str, running: Setups | None) -> Iterator[None]:
    """Let what an included file asks for and cannot have cost that file alone; what the main one asks for is raised."""
    settings = changes.brief.settings
    try:
        yield
    except (ConfigError, ListenError, OSError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        if pool in settings.files:
            changes.problems.append(settings.named(pool, reason))
            if running is not None:
                running.forget_unplanned()
        elif isinstance(error, ConfigError):
            raise ConfigError(settings.named(pool, error)) from error
        else:
            raise


def _check_user(settings: Settings, pool: str) -> None:
    """Root is nobody's default; the main file's pools have been looked at before (`serving.refuse_root`)."""
    if pool in settings.files and os.geteuid() == 0 and not settings.pools[pool].user:
        raise ConfigError('user is missing, and gateway runs as root: name one, as in user = "www-data"')


def _check_addresses(settings: Settings, pool: str, running: Mapping[str, Setups]) -> None:
    """What another pool listens on is its own until a reload has taken it away there; systemd's may be shared."""
    for address in map(parse_address, settings.pools[pool].listen):
        for other, setups in running.items():
            taken = other != pool and address in [listener.address for listener in setups.current.listeners]
            if taken and not isinstance(address, InheritedAddress):
                raise ConfigError(
                    f"listen: {address} is the pool {other}'s as it runs; let one reload take it away there"
                )


def _is_changed(brief: Brief, pool: str, running: Setups) -> bool:
    """Where applications of other pools answer is told with the next reload of this one."""
    pool_settings, work, made_from = brief.settings.pools[pool], brief.work(pool), running.current
    return (pool_settings, work.applications) != (made_from.pool, made_from.work.applications)


def _prepare(brief: Brief, pool: str, running: Setups) -> Setup:
    """The workers of two generations hand connections on to each other: they have to speak the same."""
    wanted = brief.settings.pools[pool]
    if wanted.protocol != running.current.pool.protocol:
        raise ConfigError("protocol cannot be changed while the pool runs: stop gateway and start it")
    return running.prepare(wanted, brief.work(pool))


def name_what_waits(old: Gateway, new: Gateway) -> None:
    """Log which changes of [gateway] a reload does not apply."""
    for setting in _WITH_A_START:
        if getattr(old, setting) != getattr(new, setting):
            log.line(f"gateway.{setting} has changed: that takes effect at the next start", log.Level.WARNING)
