"""A reload: what the settings, read again, change of the pools that run, and who waits for the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway import log
from gateway.process.policy import NEVER
from gateway.process.setup import Setup, Setups
from gateway.settings import ConfigError, Gateway, Settings

Reread = Callable[[], tuple[Settings, Sequence[str]]]  # settings and problems as of now; raises ConfigError
_WITH_A_START = (
    "control", "pid_file", "error_log",
    "status_listen", "status_listen_mode", "status_listen_allowed_clients", "status_user",
)  # fmt: skip


@dataclass(slots=True)
class Changes:
    """Settings that are ready to be applied: every step that can fail has been made, nothing that runs has changed."""

    settings: Settings
    changed: dict[str, Setup] = field(default_factory=dict)
    added: dict[str, Setups] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)


def work_out(settings: Settings, running: Mapping[str, Setups], name: str, *, only_changed: bool = False) -> Changes:
    """Set up the pool called `name`, or all for "", or those of which the settings say something new.

    Raises ConfigError, ListenError and OSError.
    """
    changes = Changes(settings)
    try:
        for pool in dict.fromkeys([*running, *settings.pools]):
            if name not in ("", pool):
                continue
            if pool not in settings.pools:
                changes.removed.append(pool)
            elif pool in running:
                made_from = running[pool].current
                new = settings.pools[pool], settings.of_pool(pool)
                if only_changed and new == (made_from.pool, made_from.applications):
                    continue
                changes.changed[pool] = running[pool].prepare(*new)
            else:
                changes.added[pool] = Setups(pool, settings.pools[pool], settings.of_pool(pool))
        _check_protocols(changes, running)
    except BaseException:
        for setups in changes.added.values():
            setups.close()
        for setups in running.values():
            setups.forget_unplanned()
        raise
    return changes


def _check_protocols(changes: Changes, running: Mapping[str, Setups]) -> None:
    """The workers of two generations hand connections on to each other: they have to speak the same."""
    for name, setup in changes.changed.items():
        if setup.pool.protocol != running[name].current.pool.protocol:
            raise ConfigError(f"pools.{name}.protocol cannot be changed while the pool runs: stop gateway and start it")


def name_what_waits(old: Gateway, new: Gateway) -> None:
    """Log which changes of [gateway] a reload does not apply."""
    for setting in _WITH_A_START:
        if getattr(old, setting) != getattr(new, setting):
            log.line(f"gateway.{setting} has changed: that takes effect at the next start", log.Level.WARNING)


class Reload:
    """A reload that was asked for, and waits for its outcome in every pool."""

    def __init__(
        self, reply: Callable[[dict[str, Any]], None], pools: Sequence[str], problems: Sequence[str] = ()
    ) -> None:
        """`problems` are what is wrong already, and does not keep the rest from being applied."""
        self._reply = reply
        self._generations = dict.fromkeys(pools, 0)  # that hold the new code; 0: the pool has not taken the reload
        self._errors = list(problems)

    @property
    def waiting(self) -> bool:
        """Some pool's outcome is still to come."""
        return bool(self._generations)

    def expect(self, name: str, generation: int) -> None:
        """Note which generation of a pool is waited for."""
        self._generations[name] = generation

    def give_up(self) -> None:
        """The gateway has stopped before the outcome was known."""
        self._reply({"ok": False, "error": "the gateway has stopped"})

    def expect_no_more(self) -> None:
        """Every pool was asked: one that did not take the reload is about to end."""
        for name, generation in list(self._generations.items()):
            if not generation:
                self.loaded(name, generation, "the gateway is stopping")

    def loaded(self, name: str, generation: int, error: str) -> None:
        """Note that a pool's generation is loaded or refused; answer when it was the last."""
        if generation < self._generations.get(name, NEVER):
            return
        del self._generations[name]
        if error:
            self._errors.append(f"pool {name}: {error}")
        if not self._generations:
            errors = "\n".join(self._errors)
            self._reply({"ok": False, "error": errors} if errors else {"ok": True})
