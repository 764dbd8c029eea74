"""From the words of `gateway serve`, or from settings, to what serves them; and what it is refused."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gateway.net.address import runtime_directory
from gateway.net.listeners import fd_is_listening
from gateway.process.apart import Apart, Outcome, ending
from gateway.process.spare import UPGRADE
from gateway.settings import Brief, ConfigError, Settings, brief_from_json

if TYPE_CHECKING:
    from gateway.process.reloads import Read, Reader
    from gateway.process.spare import Spare
    from gateway.process.upgrade import HandedOver

_PATIENCE = 30.0  # seconds for reading settings again
_UNREAD = "the settings could not be read: "


def serve(words: Sequence[str], spare: Spare | None = None) -> int:
    """Run `gateway serve` with these words; return the exit code. For `spare` see `process.spare`.

    The settings are read while this process gets ready to be the master, or the only worker.
    """
    handed = handed_over()
    inherited = inherited_socket(handed)
    source = Source(words, inherited)
    if handed is not None:
        return go_on(handed, source)
    reading = source.begin()
    # Meanwhile, what is likely to be needed.
    importlib.import_module("gateway.process.single" if inherited == "fd:0" else "gateway.process.entry")
    outcome = reading.result()
    if isinstance(outcome, int):
        return _unread(outcome)
    brief, problems = source.take_up(outcome)
    if outcome["alone"]:
        return _serve_alone(brief, problems)
    return supervise(brief, problems, source, spare)


class Source:
    """Where a master has its settings from, to be read again when it reloads."""

    def __init__(self, words: Sequence[str], inherited: str) -> None:
        """`words` are those after `gateway serve`."""
        self._words = list(words)
        self._inherited = inherited
        self._memory: dict[str, Any] | None = None

    def begin(self) -> Apart:
        """Begin to read them, in a child that says itself what is wrong. Raises OSError."""
        from gateway.commands.outcome import guarded

        return Apart(functools.partial(guarded, self._read))

    def take_up(self, outcome: dict[str, Any]) -> tuple[Brief, Sequence[str]]:
        """Return what was read, and what is wrong with the rest."""
        self._memory = outcome["memory"]
        return brief_from_json(outcome["brief"]), outcome["problems"]

    def begin_again(self) -> Apart:
        """Begin to read them for a reload, in a child. Raises OSError."""
        return Apart(self._read_or_refuse, _PATIENCE)

    def take_up_again(self, outcome: Outcome) -> Read:
        """Return what was read, and what is wrong with the rest. Raises ConfigError."""
        if isinstance(outcome, int):
            raise ConfigError(_UNREAD + ending(outcome))
        if "refused" in outcome:
            raise ConfigError(outcome["refused"])
        return self.take_up(outcome)

    def _read_or_refuse(self) -> Outcome:
        try:
            return self._read()
        except ConfigError as error:
            return {"refused": str(error)}
        except Exception:
            import traceback

            what = "where gateway was installed anew meanwhile, `gateway upgrade` takes that up"
            return {"refused": f"{_UNREAD}{what}\n{traceback.format_exc().rstrip()}"}

    def _read(self) -> Outcome:
        """In the child: read the settings that the words name."""
        if len(self._words) == 1 and not self._words[0].startswith("-"):
            from gateway.reading import read

            return read(self._words[0], {}, self._inherited, self._memory)
        from gateway.commands.group import run

        outcome: Outcome = run(["serve", *self._words], (self._inherited, self._memory))
        return outcome


def _unread(code: int) -> int:
    """The exit code for a child that has read nothing; what it could not say itself is said here."""
    if code >= 0:
        return code
    from gateway.commands.outcome import SYSTEM, tell

    tell(_UNREAD + ending(code))
    return SYSTEM


def supervise(
    brief: Brief, problems: Sequence[str] = (), reader: Reader | None = None, spare: Spare | None = None
) -> int:
    """Run the master with its pools until it is stopped; return the exit code. See `entry.serve`."""
    from gateway.process import entry
    from gateway.process.upgrade import command_line

    _make_runtime_directory(brief.settings)
    return entry.serve(brief, problems, reader, command=command_line(), spare=spare)


def handed_over() -> HandedOver | None:
    """What another master has handed to this process, which is to go on with it (`upgrade`). Raises ConfigError."""
    if UPGRADE not in os.environ:
        return None
    from gateway.process import upgrade

    return upgrade.handed_over()


def go_on(handed: HandedOver, reader: Reader | None = None) -> int:
    """Run the master that goes on; see `supervise`."""
    from gateway.process import entry
    from gateway.process.upgrade import command_line

    return entry.take_over(handed, reader, command_line())


def _serve_alone(brief: Brief, problems: Sequence[str]) -> int:
    from gateway import log
    from gateway.commands.outcome import tell
    from gateway.process import single

    tell(*problems)
    name, pool = next(iter(brief.settings.pools.items()))
    gateway = brief.settings.gateway
    if gateway.error_log != "stderr":
        log.open_file(gateway.error_log)
    log.use_json(gateway.error_log_format == "json")
    single.settle_in(pool)
    return single.serve(pool, brief.work(name).read_applications())


def inherited_socket(handed: HandedOver | None = None) -> str:
    """The address of the listening socket that whoever started this process gave it, or ""."""
    if fd_is_listening(0) or (handed is not None and handed.socket_on_fd_0):
        return "fd:0"
    passed = os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "0") != "0"
    return "systemd" if passed else ""


def refuse_root(settings: Settings) -> None:
    """Refuse to run applications as root unless that is asked for. Raises ConfigError."""
    for name, pool in settings.pools.items():
        if os.geteuid() == 0 and not pool.user and name not in settings.files:
            where = f' (or user = "www-data" in [pools.{name}] of {settings.source})' if settings.source else ""
            raise ConfigError(
                f"running as root: name the user that runs the applications, --user www-data{where}; "
                "--user root if root is meant"
            )


def _make_runtime_directory(settings: Settings) -> None:
    """Make /run/gateway for root: /run is empty after each start of the machine."""
    directory = runtime_directory()
    addresses = [settings.gateway.status_listen, *(a for pool in settings.pools.values() for a in pool.listen)]
    if os.geteuid() == 0 and any(os.path.dirname(address) == directory for address in addresses):
        os.makedirs(directory, 0o755, exist_ok=True)
