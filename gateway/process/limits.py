"""What bounds a pool's processes: resource limits and niceness, set before the change of user, and how they share the
processors.
"""

from __future__ import annotations

import errno
import os
import resource

from gateway import log
from gateway.settings import Pool


class StepError(OSError):
    """What a program needs before it is executed could not be had. `str()` is one line with the reason."""


def bound(pool: Pool) -> None:
    """Give this process the limits and the niceness of a pool, and through it its children.

    Soft and hard limit are the same. Raises StepError.
    """
    _limit("rlimit_files", resource.RLIMIT_NOFILE, pool.rlimit_files)
    _limit("rlimit_core", resource.RLIMIT_CORE, pool.rlimit_core)
    for name, value in pool.rlimits.items():
        _limit(f"rlimits.{name}", getattr(resource, f"RLIMIT_{name.upper()}"), value)
    if pool.process_priority is not None:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, pool.process_priority)
        except OSError as error:
            own = os.getpriority(os.PRIO_PROCESS, 0)
            what = f"process_priority: {pool.process_priority} cannot be set: {error.strerror}"
            raise StepError(f"{what}; only root may write less than {own}") from None


def schedule(pool: Pool) -> None:
    """Let this process, and through it its children, be scheduled as a pool wants it (sched(7)).

    A front-end that opens a connection wakes a worker that can do nothing before it has the request. As SCHED_OTHER the
    worker takes the processor from the front-end for that; as SCHED_BATCH it has its turn when the front-end waits.
    """
    if pool.process_scheduling != "batch":
        return
    try:
        if os.sched_getscheduler(0) == os.SCHED_OTHER:  # whoever has given gateway another policy has wanted that one
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError as error:  # by a sandbox: requests cost more then, which is no reason to serve none
        if error.errno == errno.ENOSYS:
            return  # musl has neither function, which nobody can remedy
        remedy = 'allow sched_setscheduler, or write process_scheduling = "inherit"'
        log.line(f"process_scheduling: batch cannot be set: {error.strerror}; {remedy}", log.Level.WARNING)


def _limit(setting: str, number: int, value: int | None) -> None:
    if value is None:
        return
    _, most = resource.getrlimit(number)
    try:
        resource.setrlimit(number, (value, value))
    except (OSError, ValueError, OverflowError) as error:  # ValueError for what the kernel answers EPERM or EINVAL to
        raise StepError(f"{setting}: {_written(value)} cannot be set: {error}; the most is {_written(most)}") from None


def _written(value: int) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(value)
