"""An interpreter that waits to be a zygote, having imported what one consists of: see `spare`."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any, NoReturn

from gateway.process import zygote
from gateway.process.identity import Identity, become
from gateway.process.limits import bound
from gateway.process.prctl import die_with, forgo_new_privileges
from gateway.process.spare import LONGEST_MESSAGE, MOST_DESCRIPTORS, READY
from gateway.process.task import Task


def main(fd: int) -> NoReturn:
    """Wait for the order, and be the zygote that is wanted."""
    channel = socket.socket(fileno=fd)
    message, fds, _, _ = socket.recv_fds(channel, LONGEST_MESSAGE, MOST_DESCRIPTORS)
    if not message:
        os._exit(0)
    file, zygote_channel, output, *descriptors = fds
    with open(file, "rb") as stdin:
        task = Task.read(stdin)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    try:
        _settle_in(task, json.loads(message))
    except (OSError, ValueError) as error:
        channel.send(str(error).encode("utf-8", "backslashreplace"))
        os._exit(1)
    channel.send(READY)
    channel.close()
    zygote.serve(task.with_descriptors(descriptors), zygote_channel)


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
