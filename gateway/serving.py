"""From settings to a running master, and what it is refused, at its start as at each reload."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gateway.config import runtime_directory
from gateway.net.listeners import fd_is_listening
from gateway.settings import ConfigError, Settings

if TYPE_CHECKING:
    from gateway.process.upgrade import HandedOver

Reread = Callable[[], tuple[Settings, Sequence[str]]]


def supervise(settings: Settings, problems: Sequence[str] = (), reread: Reread | None = None) -> int:
    """Run the master with its pools until it is stopped; return the exit code."""
    from gateway.process import entry
    from gateway.process.upgrade import command_line

    refuse_root(settings)
    _make_runtime_directory(settings)
    return entry.serve(settings, problems, reread and _guarded(reread), command=command_line())


def handed_over() -> HandedOver | None:
    """What another master has handed to this process, which is to go on with it (`upgrade`). Raises ConfigError."""
    from gateway.process import upgrade

    return upgrade.handed_over()


def go_on(handed: HandedOver, reread: Reread | None = None) -> int:
    """Run the master that goes on; see `supervise`."""
    from gateway.process import entry
    from gateway.process.upgrade import command_line

    return entry.take_over(handed, reread and _guarded(reread), command_line())


def inherited_socket(handed: HandedOver | None = None) -> str:
    """The address of the listening socket that whoever started this process gave it, or ""."""
    if fd_is_listening(0) or (handed is not None and handed.socket_on_fd_0):
        return "fd:0"
    passed = os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ.get("LISTEN_FDS", "0") != "0"
    return "systemd" if passed else ""


def _guarded(reread: Reread) -> Reread:
    """A reload is refused what a start is."""

    def read_again() -> tuple[Settings, Sequence[str]]:
        settings, problems = reread()
        if not settings.applications:
            raise ConfigError("\n".join(problems))
        refuse_root(settings)
        return settings, problems

    return read_again


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
