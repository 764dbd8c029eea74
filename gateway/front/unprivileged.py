"""As whom a site runs that root starts: as www-data, when that user can reach everything the site is made of."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.front import share

_READ, _EXECUTE = 0o4, 0o1
_CANDIDATES = ("www-data", "nobody")


@dataclass(frozen=True, slots=True)
class Identity:
    """A user and its groups; `user` "" for whoever runs this."""

    user: str = ""
    group: str = ""
    uid: int = -1
    gid: int = -1
    groups: tuple[int, ...] = ()


ROOT = Identity("root", "root", 0, 0, (0,))


def choose_identity(paths: Iterable[str], warn: Callable[[str], object]) -> Identity:
    """The user for workers and front-end, who has to reach `paths`, the interpreter and this package.

    Not started as root: whoever runs this. Otherwise www-data, else nobody; and root after all, with a warning, when
    neither exists or something is closed to them.
    """
    if os.geteuid() != 0:
        return Identity()
    user = next((name for name in _CANDIDATES if _exists(name)), "")
    if not user:
        warn(f"everything runs as root: there is no user {' or '.join(_CANDIDATES)}")
        return ROOT
    identity = _identity(user)
    code = [sys.executable, os.path.dirname(os.__file__), sysconfig.get_path("purelib"), str(share.PACKAGE)]
    for path in [*paths, *code]:
        if closed := closed_at(path, identity):
            warn(f"everything runs as root: {user} may not enter or read {closed}, where {path} is")
            return ROOT
    return identity


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _identity(user: str) -> Identity:
    entry = pwd.getpwnam(user)
    group = grp.getgrgid(entry.pw_gid).gr_name
    return Identity(user, group, entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(user, entry.pw_gid)))


def closed_at(path: str, identity: Identity) -> str:
    """The first folder on the way to `path`, or `path` itself, that is closed to `identity`; "" when it can be read."""
    path = os.path.realpath(path)
    above = []
    while os.path.dirname(path) != path:
        above.append(path)
        path = os.path.dirname(path)
    for step in reversed(above):
        status = os.stat(step)
        wanted = _EXECUTE if step != above[0] else _READ if stat.S_ISREG(status.st_mode) else _READ | _EXECUTE
        if _allowed(status, identity) & wanted != wanted:
            return step
    return ""


def _allowed(status: os.stat_result, identity: Identity) -> int:
    """The permission bits, rwx, that apply to `identity`; access lists are not looked at."""
    if status.st_uid == identity.uid:
        return status.st_mode >> 6 & 0o7
    if status.st_gid == identity.gid or status.st_gid in identity.groups:
        return status.st_mode >> 3 & 0o7
    return status.st_mode & 0o7
