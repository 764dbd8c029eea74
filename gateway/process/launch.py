"""Start a program as another user, in the order that is safe: limits, groups, group, user, then the rest, then exec."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from gateway.process.prctl import die_with, forgo_new_privileges

_LONGEST_REASON = 1_000  # bytes


class IdentityError(Exception):
    """A user or group that does not exist, or that this process may not become. `str()` is one line."""


class StepError(OSError):
    """What a program needs before it is executed could not be had. `str()` is one line with the reason."""


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
    as_master: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `argv` in a process group of its own. Raises OSError or subprocess.SubprocessError when any step fails.

    The child calls `as_master` while it still is who its parent is. With `identity` then come setgroups, setresgid,
    setresuid and a check of the result, PR_SET_PDEATHSIG (a change of user clears it, so after that),
    PR_SET_NO_NEW_PRIVS, exec.
    """
    reading, writing = os.pipe()
    parent = os.getpid() if die_with_parent else 0

    def steps() -> None:
        with _reason_to(writing):
            if as_master is not None:
                as_master()
            _last_steps(identity, parent, no_new_privileges)

    try:
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
            preexec_fn=steps,
        )
    except subprocess.SubprocessError:
        os.set_blocking(reading, False)
        with contextlib.suppress(BlockingIOError):
            raise StepError(os.read(reading, _LONGEST_REASON).decode()) from None
        raise
    finally:
        os.close(reading)
        os.close(writing)


@contextlib.contextmanager
def _reason_to(fd: int) -> Iterator[None]:
    """Write why a step has failed: all that subprocess tells the parent is that one did."""
    try:
        yield
    except Exception as error:
        os.write(fd, str(error).encode("utf-8", "backslashreplace")[:_LONGEST_REASON])
        raise


def _last_steps(identity: Identity | None, parent: int, no_new_privileges: bool) -> None:
    if identity is not None:
        become(identity)
    if parent:
        die_with(parent)
    if no_new_privileges:
        forgo_new_privileges()


def become(identity: Identity) -> None:
    """Change groups, group and user, in this order: whoever is no longer root may not change groups. Raises OSError."""
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if os.getresuid() != (identity.uid,) * 3 or os.getresgid() != (identity.gid,) * 3:
        raise OSError(f"could not become {identity.name}")
