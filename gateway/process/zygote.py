"""The zygote: a fresh interpreter that imports a pool's applications once and forks its workers (copy-on-write).

It forks twice for a worker, so that the worker becomes a child of the master, which is the subreaper: the master alone
reaps it, and a dead zygote costs nothing. It never accepts a connection.

Messages on the channel to the master (SOCK_SEQPACKET): first `{"failures": [{name, message, traceback}, …]}` when the
applications are imported and the probe has answered; then the master sends `{"slot": n}` with the worker's own channel
beside it (SCM_RIGHTS) for each worker. The end of the channel ends the zygote.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
import socket
import sys

from gateway import log
from gateway.app.dispatch import Dispatcher, Failure, build
from gateway.app.errors import ErrorStream
from gateway.process import worker
from gateway.process.launch import set_name
from gateway.process.task import Task

_LONGEST_REPORT = 100_000  # bytes; a SOCK_SEQPACKET message must fit the socket's buffer
_LONGEST_TRACEBACK = 8_000  # characters


def main(channel_fd: int) -> None:
    """Import, report, then fork workers until the master closes the channel."""
    channel = socket.socket(fileno=channel_fd)
    task = Task.read(sys.stdin.buffer)
    _settle_in(task)
    for fd in (channel_fd, *task.listeners, *task.kept, task.scoreboard):
        if fd >= 0:
            os.set_inheritable(fd, False)  # what an application starts must not keep them open
    errors = ErrorStream(functools.partial(log.line, level=log.Level.WARNING))
    sys.stdout = sys.stderr = errors
    dispatcher, failures = build(
        task.applications,
        errors=errors,
        log=log.line,
        port_from=task.pool.port_from,
        unknown_host=task.pool.unknown_host,
        max_body=task.pool.max_body,
        pool=task.name,
    )
    gc.collect()
    gc.freeze()  # what is imported now is shared by all workers: the collector must not touch its pages
    _probe(task, dispatcher)
    channel.send(_report(failures))
    _fork_workers(channel, task, dispatcher)


def _settle_in(task: Task) -> None:
    """Take the signals, name and import path that the zygote and, after it, the workers have."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        # They are the master's to act on, whoever else they reach. Not SIG_IGN: programs that the application starts
        # would inherit it.
        signal.signal(number, lambda *_: None)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    set_name(f"gateway: {task.name}")
    sys.path.insert(0, os.getcwd())  # app_dir, where the master has started this


def _probe(task: Task, dispatcher: Dispatcher) -> None:
    """Let a forked throw-away go all the way of a worker but for serving; the zygote itself stays clean."""
    pid = os.fork()
    if pid == 0:
        worker.prepare(task, dispatcher)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if status:
        sys.exit(f"the probe worker failed with status {os.waitstatus_to_exitcode(status)}")


def _report(failures: list[Failure]) -> bytes:
    rows = [{"name": f.name, "message": f.message, "traceback": f.traceback[-_LONGEST_TRACEBACK:]} for f in failures]
    message = json.dumps({"failures": rows}).encode()
    if len(message) > _LONGEST_REPORT:
        message = json.dumps({"failures": [{**row, "traceback": ""} for row in rows]}).encode()
    return message


def _fork_workers(channel: socket.socket, task: Task, dispatcher: Dispatcher) -> None:
    while True:
        message, fds, _, _ = socket.recv_fds(channel, 1024, 1)
        if not message:
            os._exit(0)
        os.set_inheritable(fds[0], False)
        _fork_worker(channel, task, dispatcher, int(json.loads(message)["slot"]), fds[0])


def _fork_worker(channel: socket.socket, task: Task, dispatcher: Dispatcher, slot: int, worker_fd: int) -> None:
    """Fork a worker that is the master's child by the time it begins."""
    reparented, tell = os.pipe()
    parent = os.fork()
    if parent == 0:
        if os.fork():
            os._exit(0)
        os.close(tell)
        if not os.read(reparented, 1):
            os._exit(0)  # the zygote has died meanwhile
        os.close(reparented)
        channel.close()
        worker.run(task, dispatcher, slot, socket.socket(fileno=worker_fd))
    os.waitpid(parent, 0)  # from here on the worker's parent is the master
    os.write(tell, b"\0")
    for fd in (reparented, tell, worker_fd):
        os.close(fd)
