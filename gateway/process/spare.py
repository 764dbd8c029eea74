"""An interpreter that begins while the settings are still read, to be the zygote of the first pool, if it suits that:
at a start nothing else takes as long.

It begins as who the master is, in the master's own interpreter, with next to nothing of root's environment, imports
what a zygote consists of, and waits for an order (`waiting`), which comes with the descriptors that other zygotes
inherit (SCM_RIGHTS). Then it takes the pool's limits, user and environment, and is a zygote like those that are
executed with all that (`handles.execute`), as every other pool and every reload have them.
"""

from __future__ import annotations

import os
import site
import socket
import stat
import sys
from collections.abc import Mapping

TYPE_CHECKING = False  # this is imported first of all, and what it does not need then would only be in the way
if TYPE_CHECKING:
    from typing import IO

    from gateway.process.handles import Process
    from gateway.process.identity import Identity
    from gateway.process.task import Task

UPGRADE = "GATEWAY_UPGRADE"  # in the environment of a master that is to go on: whose document it is, and where
BOOT = os.path.join(os.path.dirname(__file__), "boot.py")  # executed by an interpreter, whichever it is
NOT_FOR_CHILDREN = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "JOURNAL_STREAM")  # where the environment is cleared
LONGEST_MESSAGE = 100_000  # bytes
MOST_DESCRIPTORS = 200  # of 253 that one message takes
READY = b"ready"
_PATIENCE = 10  # seconds
# What an interpreter reads, and what is imported in it, before it can be told.
_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_", "GATEWAY_PURE")


class Spare:
    """The master's side: called as `handles.execute` is, it gives its interpreter once, and then does the same."""

    def __init__(self) -> None:
        """Start the interpreter. Raises OSError."""
        from gateway.process.signals import CAUGHT

        clear = os.geteuid() == 0  # as pools have it by default, which are another user's then
        kept = KEPT_VARIABLES if clear else os.environ.keys() - NOT_FOR_CHILDREN
        self._environment = {name: os.environ[name] for name in kept if name in os.environ}
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.settimeout(_PATIENCE)
        command = [sys.executable, BOOT, "gateway.process.waiting", str(theirs.fileno())]
        with theirs:
            theirs.set_inheritable(True)
            # What of these is ignored where gateway is started is not ignored in zygotes that the master executes.
            self._pid = os.posix_spawn(command[0], command, self._environment, setpgroup=0, setsigdef=CAUGHT)

    @classmethod
    def of_a_start(cls) -> Spare | None:
        """Start one; None where it would suit no pool, or there will be no master.

        Users may have packages of their own, and those of one user are not for another to load; that they are not
        wanted here is not known to who begins without the flag or the variable that says so. A socket on fd 0 is that
        of a worker by itself, and one of these numbers that is free would be given to something else. Raises OSError.
        """
        try:
            modes = [os.fstat(fd).st_mode for fd in (0, 1, 2)]
        except OSError:
            return None
        if site.ENABLE_USER_SITE or sys.flags.no_user_site or stat.S_ISSOCK(modes[0]) or UPGRADE in os.environ:
            return None
        return cls()

    def __call__(
        self, task: Task, identity: Identity | None, *, stdin: IO[bytes], output: int | None, channel: int
    ) -> Process:
        """See `handles.Start`."""
        from gateway.process.handles import Started, execute

        pid, self._pid = self._pid, 0
        if pid:
            fds = [stdin.fileno(), channel, 2 if output is None else output, *task.descriptors]
            with self._channel:
                if self._suits(task, identity, fds) and self._is_taken(task, identity, fds):
                    return Started(pid)
            _end(pid)
            stdin.seek(0)
        return execute(task, identity, stdin=stdin, output=output, channel=channel)

    def close(self) -> None:
        """End what was not called for."""
        self._channel.close()
        if self._pid:
            _end(self._pid)

    def _suits(self, task: Task, identity: Identity | None, fds: list[int]) -> bool:
        from gateway.process.environment import environment

        wanted = environment(task.pool, identity)
        if self._environment.keys() - wanted or _read_at_start(wanted) != _read_at_start(self._environment):
            return False  # /proc/PID/environ says for ever what it began with
        return task.pool.python in ("", sys.executable) and len(fds) <= MOST_DESCRIPTORS

    def _is_taken(self, task: Task, identity: Identity | None, fds: list[int]) -> bool:
        """Give the order; False where nobody takes it. Raises StepError for what the pool cannot have."""
        import json

        from gateway.process.environment import environment
        from gateway.process.limits import StepError

        user = identity and [identity.uid, identity.gid, identity.groups, identity.name, identity.home]
        order = json.dumps({"user": user, "environment": environment(task.pool, identity)}).encode()
        if len(order) > LONGEST_MESSAGE:
            return False
        try:
            socket.send_fds(self._channel, [order], fds)
            answer = self._channel.recv(LONGEST_MESSAGE)
        except OSError:
            return False
        if answer and answer != READY:
            raise StepError(answer.decode())
        return bool(answer)


def _end(pid: int) -> None:
    import signal

    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_AT_START)}
