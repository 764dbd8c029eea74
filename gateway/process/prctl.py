"""What a process asks of the kernel for itself: with whom it dies, its name, who may look into it (prctl(2)), and which
descriptors it has.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Collection

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

_OOM_SCORE = "/proc/self/oom_score_adj"
_OOM_STEP = 500  # by which a worker is more likely than the master to be killed when memory runs out
_OOM_MOST = 1000  # proc(5), oom_score_adj

_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """Let the kernel end this process when its parent, which must be `parent`, dies (PR_SET_PDEATHSIG)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it died before the kernel was told


def become_subreaper() -> None:
    """Let orphaned descendants become this process's children (PR_SET_CHILD_SUBREAPER)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def forgo_new_privileges() -> None:
    """Let no program that is executed from here on gain privileges (PR_SET_NO_NEW_PRIVS)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_dumpable(dumpable: bool) -> None:
    """Say whether others of its user may look into this process, and whether it leaves a core file (PR_SET_DUMPABLE).

    It also decides who owns most files of /proc/PID: the user, or root.
    """
    _prctl(_PR_SET_DUMPABLE, int(dumpable))


def score_for_oom_killer() -> bytes:
    """What a fork of this process gives to `offer_to_oom_killer`; b"" where the system has no such thing."""
    try:
        with open(_OOM_SCORE, "rb") as file:
            return b"%d" % min(int(file.read()) + _OOM_STEP, _OOM_MOST)
    except OSError:
        return b""


def offer_to_oom_killer(score: bytes) -> None:
    """Be killed before the master when memory runs out (proc(5), oom_score_adj), where that can be had."""
    try:
        fd = os.open(_OOM_SCORE, os.O_WRONLY)
    except OSError:
        return
    os.write(fd, score)
    os.close(fd)


def set_name(name: str) -> None:
    """Set the process's short name, at most 15 bytes of which are kept (PR_SET_NAME)."""
    _prctl(_PR_SET_NAME, ctypes.c_char_p(name.encode()))


def open_descriptors() -> frozenset[int]:
    """The numbers of those that are open."""
    return frozenset(map(int, os.listdir("/dev/fd")))


def close_all_but(kept: Collection[int]) -> None:
    """Close every other descriptor."""
    for fd in open_descriptors().difference(kept):
        with contextlib.suppress(OSError):  # the one that the list was read from
            os.close(fd)


def occupy_standard_descriptors() -> None:
    """Open those of 0, 1 and 2 that whoever has started this has closed: what got such a number would be written to."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def _prctl(option: int, argument: int | ctypes.c_char_p) -> None:
    """Call prctl(2). Raises OSError."""
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")
