"""Whom a pool's processes run as."""

from __future__ import annotations

import grp
import os
import pwd

from gateway.record import Record


class IdentityError(Exception):
    """A user or group that does not exist, or that this process may not become. `str()` is one line."""


class Identity(Record):
    """A user to run as: number, group, supplementary groups, and the names for the environment."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str


def find_identity(user: str, group: str = "") -> Identity:
    """Look a user and a group up by name or number. Raises IdentityError."""
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        raise IdentityError(f"user {user!r} does not exist; create it or name another") from None
    gid = entry.pw_gid
    if group:
        try:
            gid = int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
        except KeyError:
            raise IdentityError(f"group {group!r} does not exist; create it or name another") from None
    groups = tuple(os.getgrouplist(entry.pw_name, gid))
    return Identity(entry.pw_uid, gid, groups, entry.pw_name, entry.pw_dir)


def become(identity: Identity) -> None:
    """Change groups, group and user, in this order: whoever is no longer root may not change groups. Raises OSError."""
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if os.getresuid() != (identity.uid,) * 3 or os.getresgid() != (identity.gid,) * 3:
        raise OSError(f"could not become {identity.name}")
