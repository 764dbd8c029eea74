"""An interpreter that waits to be a zygote, having imported what one consists of: see `spare`."""

from __future__ import annotations

import json
import os
import site
import socket
import time
from typing import Any, NoReturn

from gateway.process import zygote
from gateway.process.identity import Identity, become
from gateway.process.limits import bound
from gateway.process.prctl import close_all_but, die_with, forgo_new_privileges
from gateway.process.spare import LONGEST_MESSAGE, MOST_DESCRIPTORS, READY
from gateway.process.task import Task


def main(fd: int) -> NoReturn:
    """Wait for the order, and be the zygote that is wanted."""
    close_all_but((0, 1, 2, fd))  # what this was started with is not for whom it will be
    zygote.serve(_ordered(fd), fd)


def _ordered(fd: int) -> Task:
    """Wait for the task, and become who is to do it; its channel takes the place of the one that it came by."""
    with socket.socket(fileno=os.dup(fd)) as channel:
        message, fds, _, _ = socket.recv_fds(channel, LONGEST_MESSAGE, MOST_DESCRIPTORS)
        if not message:
            os._exit(0)
        file, zygote_channel, output, *descriptors = fds
        with open(file, "rb") as stdin:
            task = Task.read(stdin)
        for source, number in ((output, 1), (output, 2), (zygote_channel, fd)):
            os.dup2(source, number)
        os.close(output)
        os.close(zygote_channel)
        try:
            _settle_in(task, json.loads(message))
        except (OSError, ValueError) as error:
            channel.send(str(error).encode("utf-8", "backslashreplace"))
            os._exit(1)
        channel.send(READY)
    return task.with_descriptors(descriptors)


def _settle_in(task: Task, order: dict[str, Any]) -> None:
    """What `launch` does for a program before it is executed, in the same order. Raises OSError."""
    pool = task.pool
    os.chdir(pool.app_dir or ".")
    if pool.umask:
        os.umask(int(pool.umask, 8))
    bound(pool)
    if order["user"] is not None:
        uid, gid, groups, name, home = order["user"]
        become(Identity(uid, gid, tuple(groups), name, home))
    die_with(task.master)
    if pool.no_new_privileges:
        forgo_new_privileges()
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    site.USER_BASE = site.USER_SITE = None  # which were another user's
    site.getusersitepackages()
