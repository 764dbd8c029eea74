"""Start a program as another user, in the order that is safe: limits, groups, group, user, then the rest, then exec."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

from gateway.process.identity import Identity, become
from gateway.process.limits import StepError
from gateway.process.prctl import die_with, forgo_new_privileges

_LONGEST_REASON = 1_000  # bytes


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
