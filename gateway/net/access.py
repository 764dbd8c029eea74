"""Whether a user can reach a file: told before a program that says it less clearly runs into it."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection

_READ, _EXECUTE = 0o4, 0o1


def closed_at(path: str, uid: int, gids: Collection[int]) -> str:
    """The first folder on the way to `path`, or `path` itself, that is closed to a user; "" when it can be read.

    The user is given by number, with all its groups; access lists are not looked at. Raises OSError where there is no
    such path.
    """
    path = os.path.realpath(path)
    steps = [path]
    while os.path.dirname(steps[-1]) != steps[-1]:
        steps.append(os.path.dirname(steps[-1]))
    for step in reversed(steps):
        status = os.stat(step)
        wanted = _EXECUTE if step != path else _READ if stat.S_ISREG(status.st_mode) else _READ | _EXECUTE
        if _allowed(status, uid, gids) & wanted != wanted:
            return step
    return ""


def _allowed(status: os.stat_result, uid: int, gids: Collection[int]) -> int:
    """The permission bits, rwx, that apply to the user."""
    if uid == 0:
        return 0o7
    if status.st_uid == uid:
        return status.st_mode >> 6 & 0o7
    if status.st_gid in gids:
        return status.st_mode >> 3 & 0o7
    return status.st_mode & 0o7
