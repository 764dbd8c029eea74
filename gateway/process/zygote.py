"""The zygote: a fresh interpreter that imports a pool's applications once and forks its workers (copy-on-write).

It forks twice for a worker, so that the worker becomes a child of the master, which is the subreaper: the master alone
reaps it, and a dead zygote costs nothing. It never accepts a connection.

Messages on the channel to the master (SOCK_SEQPACKET): first `{"failures": [{name, message, traceback}, …], "error":
message, "traceback": text}` when the applications are imported and the probe has answered; with an error no worker
could start, and the zygote exits. Then the master sends `{"slot": n}` with the worker's own channel and its log
files beside it (SCM_RIGHTS) for each worker. The end of the channel ends the zygote.

With `reload_on_change` it tells the master, by `{"changed": path}`, of a file of its code that has changed.

With `preload = false` it imports nothing: probe and workers do, each for itself. A zygote in which importing has left
what must not be forked starts over like that: it execs, which ends threads and connections.
"""

from __future__ import annotations

import codecs
import functools
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from gateway import log
from gateway.app.dispatch import AnyDispatcher, Failure, build
from gateway.app.errors import ErrorStream
from gateway.app.files import Files
from gateway.app.loader import LoadError
from gateway.net.memory import anonymous_file
from gateway.process.forksafety import Census
from gateway.process.limits import schedule
from gateway.process.patience import in_time
from gateway.process.prctl import die_with, set_dumpable, set_name
from gateway.process.task import Task
from gateway.process.worker import Load, Worker
from gateway.record import replace
from gateway.settings import Application, Work

if TYPE_CHECKING:
    from gateway.process.sources import Sources

_LONGEST_REPORT = 100_000  # bytes; a SOCK_SEQPACKET message must fit the socket's buffer
_LONGEST_TRACEBACK = 8_000  # characters
_LOOK_EVERY = 1_000  # ms
_MOST_DESCRIPTORS = 3  # of a worker: its channel, its output, the access log


def main(channel_fd: int) -> NoReturn:
    """Be the zygote of the task on standard input."""
    serve(Task.read(sys.stdin.buffer), channel_fd)


def serve(task: Task, channel_fd: int) -> NoReturn:
    """Import, report, then fork workers until the master closes the channel."""
    environment, directory = dict(os.environ), os.getcwd()
    channel = _settle_in(task, channel_fd)
    sys.path.insert(0, os.getcwd())  # app_dir, where the master has started this
    os.chdir(task.pool.chdir or ".")
    applications, elsewhere = task.work.read_applications(), json.loads(task.work.elsewhere)
    sources = _watch_sources(applications) if task.pool.reload_on_change else None
    errors = ErrorStream(functools.partial(log.line, level=log.Level.WARNING))
    sys.stdout = sys.stderr = errors
    load = in_time(functools.partial(_build, task, applications, elsewhere, errors), task.pool.start_timeout)
    if task.pool.preload:
        census = Census()
        loaded = load()
        if _is_unsafe(census, task.name):
            os.chdir(directory)
            _start_over(task, channel_fd, environment)
        load = functools.partial(lambda: loaded)
        applications = ()
    task = replace(task, work=Work())  # which may be of ten thousand bindings, and is done
    worker = Worker(task, load)
    if task.pool.preload:
        worker.load()
    _fork_workers(channel, worker, sources)


def fork_from_here(task: Task, channel_fd: int, load: Load) -> NoReturn:
    """Be the zygote of what this process, a fork of the master's, has in memory already: report, then fork workers."""
    channel = _settle_in(task, channel_fd)
    errors = ErrorStream(functools.partial(log.line, level=log.Level.WARNING))
    sys.stdout = sys.stderr = errors
    worker = Worker(task, load)
    worker.load()
    _fork_workers(channel, worker, None)


def _fork_workers(channel: socket.socket, worker: Worker, sources: Sources | None) -> NoReturn:
    """Let the probe answer, report that, and fork workers until the master closes the channel."""
    _look_ahead()
    # What is imported now is shared by all workers: the collector must not touch its pages. Nor is it asked to collect
    # first: there is hardly anything, and each worker would fill the holes for itself.
    gc.freeze()
    report = _probe(worker, sources)
    try:
        channel.send(report)
    except OSError:
        os._exit(0)  # the master has given it up meanwhile
    message = json.loads(report)
    if message["error"]:
        os._exit(1)
    worker.known = frozenset(row["name"] for row in message["failures"])
    while True:
        _wait(channel, sources)
        _fork_worker(channel, worker)


def _look_ahead() -> None:
    """Import what a framework that is here imports with its first request: each worker would do so for itself."""
    if "werkzeug.routing" in sys.modules:
        codecs.lookup("idna")  # for the request's host


def _watch_sources(applications: Iterable[Application]) -> Sources:
    # A compiled file is taken for its source's as long as second and size agree: not when one is saved again and again.
    sys.dont_write_bytecode = True
    from gateway.process.sources import Sources

    return Sources(sys.path[0], [application.script for application in applications if application.script])


def _build(
    task: Task, applications: tuple[Application, ...], elsewhere: dict[str, list[str]], errors: ErrorStream
) -> tuple[AnyDispatcher, list[Failure]]:
    return build(
        applications,
        errors=errors,
        log=log.line,
        port_from=task.pool.port_from,
        unknown_host=task.pool.unknown_host,
        max_body=task.pool.max_body,
        files=Files(task.pool.x_accel, task.pool.x_sendfile),
        multithread=task.pool.threads > 1,
        authorizer=task.pool.authorizer,
        elsewhere=elsewhere,
        pool=task.name,
    )


def _let_inherit(task: Task, channel_fd: int, inheritable: bool) -> None:
    for fd in (channel_fd, *task.descriptors):
        os.set_inheritable(fd, inheritable)


def _settle_in(task: Task, channel_fd: int) -> socket.socket:
    """Take the signals, name and descriptors that the zygote and, after it, the workers have; return the channel."""
    channel = socket.socket(fileno=channel_fd)
    if task.relayed:
        log.through_master()
    schedule(task.pool)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        # They are the master's to act on, whoever else they reach. Not SIG_IGN: programs that the application starts
        # would inherit it.
        signal.signal(number, lambda *_: None)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    set_name(f"gateway: {task.name}")
    set_dumpable(task.pool.process_dumpable)
    _let_inherit(task, channel_fd, False)  # what an application starts must not keep them open
    return channel


def _is_unsafe(census: Census, pool: str) -> bool:
    """Warn of each thing that importing has left; say whether workers must not be forked from this process."""
    remains = census.added()
    for found in remains:
        advice = (
            "so each worker imports for itself (preload = false); on_worker_start is the place for it"
            if found.unsafe
            else "and workers are forked beside it"
        )
        log.line(f"pool {pool}: importing its applications left {found.text}, {advice}", log.Level.WARNING)
    return any(found.unsafe for found in remains)


def _start_over(task: Task, channel_fd: int, environment: dict[str, str]) -> NoReturn:
    """Become a zygote without preload, by exec: the same process and channel, and nothing of the application."""
    with anonymous_file("task") as file:
        replace(task, pool=replace(task.pool, preload=False)).write(file)
        file.seek(0)
        os.dup2(file.fileno(), 0)
    _let_inherit(task, channel_fd, True)
    command = [*sys.orig_argv[:2], __name__, str(channel_fd)]
    os.execve(sys.executable, command, environment)


def _probe(worker: Worker, sources: Sources | None) -> bytes:
    """Let a forked throw-away go all the way of a worker but for serving; the zygote itself stays clean.

    Return its report to the master. `sources` are told the files of what it has imported.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    zygote = os.getpid()
    pid = os.fork()
    if pid == 0:
        die_with(zygote)
        report = _report(worker)
        if sources is not None:
            from gateway.process.sources import imported_files

            sources.note(imported_files())
        theirs.send(report)
        os._exit(0)
    theirs.close()
    report = ours.recv(2 * _LONGEST_REPORT)
    ours.close()
    _, status = os.waitpid(pid, 0)
    if not report:
        sys.exit(f"the probe worker failed with status {os.waitstatus_to_exitcode(status)}")
    if sources is not None:
        sources.take_up()
    return report


def _report(worker: Worker) -> bytes:
    error, traceback = "", ""
    failures: list[Failure] = []
    try:
        failures = worker.probe()
    except LoadError as raised:
        error, traceback = str(raised), raised.traceback[-_LONGEST_TRACEBACK:]
    rows = [{"name": f.name, "message": f.message, "traceback": f.traceback[-_LONGEST_TRACEBACK:]} for f in failures]
    report = {"failures": rows, "error": error, "traceback": traceback}
    message = json.dumps(report).encode()
    if len(message) > _LONGEST_REPORT:
        message = json.dumps(report | {"failures": [{**row, "traceback": ""} for row in rows]}).encode()
    return message


def _wait(channel: socket.socket, sources: Sources | None) -> None:
    """Wait for the master's next message; tell it meanwhile of a file that has changed."""
    waiting = select.poll()
    waiting.register(channel, select.POLLIN)
    while not waiting.poll(_LOOK_EVERY if sources is not None else None):
        if sources is not None and (path := sources.changed()):
            channel.send(json.dumps({"changed": path}).encode())


def _fork_worker(channel: socket.socket, worker: Worker) -> None:
    """Fork the worker that the master asks for: the master's child by the time it begins."""
    message, fds, _, _ = socket.recv_fds(channel, 1024, _MOST_DESCRIPTORS)
    if not message:
        os._exit(0)
    for fd in fds:
        os.set_inheritable(fd, False)
    slot = int(json.loads(message)["slot"])
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
        worker.run(slot, fds[0], fds[1:])
    os.waitpid(parent, 0)  # from here on the worker's parent is the master
    os.write(tell, b"\0")
    for fd in (reparented, tell, *fds):
        os.close(fd)
