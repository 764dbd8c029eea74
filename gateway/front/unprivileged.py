"""As whom a site runs that root starts: as www-data, when that user can reach everything the site is made of."""

from __future__ import annotations

import grp
import os
import pwd
import sys
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gateway.front import share
from gateway.net.access import closed_at

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
        if closed := closed_at(path, identity.uid, identity.groups):
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
