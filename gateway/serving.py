"""From settings to a running master, and what it is refused, at its start as at each reload."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from gateway.config import runtime_directory
from gateway.settings import ConfigError, Settings

Reread = Callable[[], tuple[Settings, Sequence[str]]]


def supervise(settings: Settings, problems: Sequence[str] = (), reread: Reread | None = None) -> int:
    """Run the master with its pools until it is stopped; return the exit code."""
    from gateway.process import supervisor

    refuse_root(settings)
    _make_runtime_directory(settings)
    return supervisor.serve(settings, problems, reread and _guarded(reread))


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
        if os.geteuid() == 0 and not pool.user:
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
