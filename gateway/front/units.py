"""systemd's units for settings: the service, and a socket for each pool that takes one (systemd.service(5),
systemd.socket(5)). What each line is for: docs/howto/systemd.md.
"""

from __future__ import annotations

import os
from typing import Any

from gateway.config import default_control
from gateway.front.writing import Writing, template_of, word
from gateway.net.address import runtime_directory
from gateway.settings import ConfigError, Pool, Settings

_CONTROL = "/run/gateway/control.sock"


def _word(text: str) -> str:
    """`text` as one word of a command line, in which `%` and `$` would stand for something else."""
    return word(text, "systemd", never=r'["\\$%\']')


def _line(text: str) -> str:
    """`text` as a whole value."""
    return word(text, "systemd", never=r"\\", plain=".*").replace("%", "%%")


_SERVICE = Writing("systemd", "templates", "gateway.service.j2", {"word": _word, "line": _line})
_SOCKET = Writing("systemd", "templates", "gateway.socket.j2", {"line": _line})


def units(settings: Settings, target: str, *, program: str, user: str = "", group: str = "") -> dict[str, str]:
    """The units by their file names.

    `target` is what `gateway serve` is given, `program` the path of `gateway`; `user` and `group` run the service and
    own its sockets: www-data by default. Raises ConfigError for what cannot be written.
    """
    user = user or "www-data"
    pools = {name: pool.user or user for name, pool in settings.pools.items()}
    listening = {name: address for name, pool in settings.pools.items() if (address := _address(name, pool, settings))}
    own = len(settings.pools) > 1
    names = {name: f"gateway-{name}.socket" if own else "gateway.socket" for name in listening}
    is_file = os.path.exists(target)
    control = settings.gateway.control
    if control == default_control(next(iter(settings.pools.values())).listen[0]):
        control = _CONTROL
    service = template_of(_SERVICE).render(
        program=program,
        control=control,
        target=os.path.abspath(target) if is_file else target,
        directory="" if is_file else os.getcwd(),
        users=set(pools.values()) != {user},
        user=user,
        group=group or user,
        own=own and bool(names),
        sockets=sorted(names.values()),
    )
    made: dict[str, str] = {"gateway.service": service}
    for name, address in listening.items():
        made[names[name]] = template_of(_SOCKET).render(
            _owner(settings.pools[name], pools[name], group), own=own, pool=name, address=address
        )
    return made


def _owner(pool: Pool, user: str, group: str) -> dict[str, Any]:
    return {
        "user": pool.listen_owner or user,
        "group": pool.listen_group or pool.group or group or user,
        "mode": pool.listen_mode,
        "backlog": pool.listen_backlog,
    }


def _address(name: str, pool: Pool, settings: Settings) -> str:
    """Where systemd listens for a pool; "" where one of several does so itself: it would have to say `systemd:`."""
    address = pool.listen[0].removeprefix("unix:")
    if address == f"systemd:{name}":
        return f"/run/gateway/{name}.sock"
    if address.startswith("systemd:"):
        raise ConfigError(f'pools.{name}.listen: for units that are made here, write "systemd:{name}"')
    if len(settings.pools) > 1:
        return ""
    return "/run/gateway/gateway.sock" if address in ("systemd", f"{runtime_directory()}/gateway.sock") else address
