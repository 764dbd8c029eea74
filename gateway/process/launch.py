"""Start a program as another user, in the order that is safe: groups, group, user, then the rest, then exec."""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


class IdentityError(Exception):
    """A user or group that does not exist, or that this process may not become. `str()` is one line."""


@dataclass(frozen=True, slots=True)
class Identity:
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


def launch(
    argv: Sequence[str],
    *,
    identity: Identity | None = None,
    stdin: int | IO[bytes],
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    no_new_privileges: bool = False,
    die_with_parent: bool = True,
    umask: int = -1,
) -> subprocess.Popen[bytes]:
    """Start `argv` in a process group of its own. Raises OSError or subprocess.SubprocessError when any step fails.

    With `identity` the order is setgroups, setregid, setreuid (which set the saved IDs too), a check of the result,
    PR_SET_PDEATHSIG (a change of user clears it, so after that), PR_SET_NO_NEW_PRIVS, exec.
    """
    return subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        env=env,
        cwd=cwd,
        umask=umask,
        process_group=0,
        user=identity.uid if identity else None,
        group=identity.gid if identity else None,
        extra_groups=identity.groups if identity else None,
        preexec_fn=_last_steps(identity, os.getpid() if die_with_parent else 0, no_new_privileges),
    )


def _last_steps(identity: Identity | None, parent: int, no_new_privileges: bool) -> Callable[[], None]:
    """What the child does between its change of user and exec; an exception here reaches the parent."""

    def steps() -> None:
        if identity is not None and (os.getresuid(), os.getresgid()) != ((identity.uid,) * 3, (identity.gid,) * 3):
            raise OSError(f"could not become {identity.name}")
        if parent:
            die_with(parent)
        if no_new_privileges:
            prctl(_PR_SET_NO_NEW_PRIVS, 1)

    return steps


def die_with(parent: int) -> None:
    """Let the kernel end this process when its parent, which must be `parent`, dies (PR_SET_PDEATHSIG)."""
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it died before the kernel was told


def become_subreaper() -> None:
    """Let orphaned descendants become this process's children (PR_SET_CHILD_SUBREAPER)."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: str) -> None:
    """Set the process's short name, at most 15 bytes of which are kept (PR_SET_NAME)."""
    prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def prctl(option: int, argument: int | ctypes.c_char_p) -> None:
    """Call prctl(2). Raises OSError."""
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")
