"""A worker by itself, without master or zygote: a process that was handed its listening socket and is supervised by
whoever spawned it (lighttpd's `bin-path`, spawn-fcgi), or a start script that names an address of its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from gateway import log
from gateway.app.dispatch import AnyDispatcher, Dispatcher, build
from gateway.app.errors import ErrorStream
from gateway.app.files import Files
from gateway.app.loader import LoadError, call
from gateway.net.accesslog import AccessLog, access_log, open_log
from gateway.net.address import InheritedAddress
from gateway.net.blocking import Driver
from gateway.net.kept import KeptQueue
from gateway.net.noboard import NoBoard
from gateway.net.orders import GO_ON
from gateway.process.foreman import Foreman
from gateway.process.identity import become
from gateway.process.limits import bound, schedule
from gateway.process.prctl import occupy_standard_descriptors, set_dumpable, set_name
from gateway.process.start import open_pool_listeners, pool_identity, working_directory
from gateway.process.worker import asgi_worker, driver_factory, run_threads
from gateway.settings import Application, Pool

if TYPE_CHECKING:
    from gateway.process.asgiworker import AsgiWorker

_EXIT_TRY_AGAIN = 111
Stop = Callable[[bool], None]  # told whether it is to count as a hang-up

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


def settle_in(pool: Pool) -> None:
    """Do what a master does for its zygotes: limits, user, environment, directory. Raises ConfigError and OSError."""
    directory = working_directory(pool)
    bound(pool)
    if identity := pool_identity(pool):
        become(identity)
    os.environ.update(pool.env)
    if pool.umask:
        os.umask(int(pool.umask, 8))
    sys.path.insert(0, os.path.abspath(pool.app_dir or "."))
    os.chdir(directory)
    set_dumpable(pool.process_dumpable)


def serve(pool: Pool, applications: tuple[Application, ...]) -> int:
    """Load the applications and serve what the pool listens on until a stop signal; return the exit code.

    Raises ListenError, and SystemExit as `serve_until_stopped`.
    """
    errors = ErrorStream(functools.partial(log.line, level=log.Level.WARNING))
    dispatcher, failures = build(
        applications,
        errors=errors,
        log=log.line,
        port_from=pool.port_from,
        unknown_host=pool.unknown_host,
        max_body=pool.max_body,
        files=Files(pool.x_accel, pool.x_sendfile),
        multithread=pool.threads > 1,
        multiprocess=False,
        authorizer=pool.authorizer,
    )
    for failure in failures:
        log.line(failure.message, log.Level.ERROR)
        log.lines(failure.traceback, log.Level.ERROR)
    if failures and len(failures) == len(applications) + bool(pool.authorizer):
        return 100
    serve_until_stopped(pool, dispatcher, errors)
    return 0


def serve_until_stopped(
    pool: Pool, dispatcher: AnyDispatcher, errors: ErrorStream, on_start: Callable[[Stop], object] = lambda stop: None
) -> bool:
    """Serve what the pool listens on until a stop signal; say whether that was SIGHUP, after which the process may go
    on: it has its signal handlers, and the socket on fd 0, as before.

    `on_start` is given what stops it as well: the only way where this is not the main thread, which alone has signals.
    Raises ListenError, and SystemExit (111) where `on_worker_start` fails.
    """
    schedule(pool)
    if pool.on_worker_start and not _start_hook(pool.on_worker_start):
        sys.exit(_EXIT_TRY_AGAIN)
    occupy_standard_descriptors()
    access = access_log(open_log(pool.access_log), pool, "", _nobody_notes) if pool.access_log else None
    reopen = functools.partial(_reopen_logs, pool, access)
    listeners = open_pool_listeners(pool, None, {})
    kept = KeptQueue.create() if pool.threads > 1 else None
    set_name("gateway: single")
    # The spawner's standard output is nobody's to write to: lighttpd closes it, an inetd would send it to the peer.
    with contextlib.redirect_stdout(errors), contextlib.redirect_stderr(errors), _wakeups(pool, reopen) as wakeups:
        on_start(wakeups.stop)
        sockets = [listener.socket for listener in listeners]
        if isinstance(dispatcher, Dispatcher):
            _serve_wsgi(pool, dispatcher, wakeups, driver_factory(pool, dispatcher, sockets, access, kept))
        else:
            _serve_asgi(asgi_worker(pool, dispatcher), sockets, wakeups, access)
    for listener in listeners:
        if listener.address == InheritedAddress(0):
            os.dup2(listener.socket.fileno(), 0)
        listener.close()
    if kept is not None:
        kept.close()
    return wakeups.hung_up


def _serve_wsgi(pool: Pool, dispatcher: Dispatcher, wakeups: _Wakeups, make_driver: Callable[..., Driver]) -> None:
    if pool.threads > 1:
        run_threads(Foreman(wakeups, [NoBoard()] * pool.threads, dispatcher, make_driver, _nobody_notes))
    else:
        driver = make_driver(wakeups, NoBoard(), dispatcher)
        driver.watch()
        driver.run()


def _serve_asgi(
    worker: AsgiWorker, listeners: Sequence[socket.socket], wakeups: _Wakeups, access: AccessLog | None
) -> None:
    try:
        worker.start()
    except LoadError as error:
        log.line(str(error), log.Level.ERROR)
        log.lines(error.traceback, log.Level.ERROR)
        sys.exit(_EXIT_TRY_AGAIN)
    slow = functools.partial(log.lines, level=log.Level.WARNING)
    driver = worker.make_driver(listeners, wakeups, NoBoard(), slow, access=access)
    driver.watch()
    driver.run()
    worker.end()


def _start_hook(target: str) -> bool:
    try:
        call(target, "on_worker_start")
    except LoadError as error:
        log.line(str(error), log.Level.ERROR)
        log.lines(error.traceback, log.Level.ERROR)
        return False
    return True


def _reopen_logs(pool: Pool, access: AccessLog | None) -> None:
    """Open the log files anew by their names; one that cannot be opened goes on as it was."""
    try:
        log.reopen_file()
        if access is not None:
            access.reopen(open_log(pool.access_log))
    except OSError as error:
        log.line(f"cannot open {error.filename} anew: {error.strerror}", log.Level.ERROR)


def _nobody_notes() -> None:
    """A line of the access log is lost, or the worker leaves: there is no master to be told."""


class _Wakeups:
    """The driver's control: the numbers of the signals that have come, of which the application may have its own."""

    def __init__(self, reading: socket.socket, writing: socket.socket, reopen_logs: Callable[[], None]) -> None:
        self._reading = reading
        self._writing = writing
        self._reopen_logs = reopen_logs
        self.hung_up = False  # the signal that has ended it is SIGHUP

    def fileno(self) -> int:
        """See `net.blocking.Control`."""
        return self._reading.fileno()

    def recv(self, size: int, /) -> bytes:
        """See `net.blocking.Control`."""
        numbers = self._reading.recv(size)
        if signal.SIGUSR1 in numbers:
            self._reopen_logs()
        return numbers if set(numbers) & set(_STOP_SIGNALS) else GO_ON

    def stop(self, hang_up: bool) -> None:
        """Stop as by a signal; from any thread."""
        self.hung_up = hang_up
        with contextlib.suppress(OSError):  # it has stopped already
            self._writing.send(bytes([signal.SIGTERM]))


@contextlib.contextmanager
def _wakeups(pool: Pool, reopen_logs: Callable[[], None]) -> Iterator[_Wakeups]:
    """Give what becomes readable when the driver is to stop."""
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    wakeups = _Wakeups(reading, writing, reopen_logs)
    is_main = threading.current_thread() is threading.main_thread()
    with reading, writing, _signals(pool, wakeups, writing) if is_main else contextlib.nullcontext():
        yield wakeups


@contextlib.contextmanager
def _signals(pool: Pool, wakeups: _Wakeups, writing: socket.socket) -> Iterator[None]:
    """Stop with the first stop signal. A running request then has `process_control_timeout` seconds; SIGALRM ends what
    takes longer. Repeated signals change nothing (lighttpd sends its own until the process is gone). USR1, by which
    lighttpd ends programs only where its `kill-signal` says so, reopens the log files.
    """
    before = {number: signal.getsignal(number) for number in (*_STOP_SIGNALS, signal.SIGUSR1, signal.SIGALRM)}

    def tell(number: int, frame: object) -> None:
        # The wakeup fd says the same, and earlier, but an event loop (uvloop) may have put its own in its place.
        with contextlib.suppress(BlockingIOError):
            writing.send(bytes([number]))

    def stop(number: int, frame: object) -> None:
        wakeups.hung_up = number == signal.SIGHUP
        tell(number, frame)
        for repeated in (signal.SIGHUP,) if wakeups.hung_up else _STOP_SIGNALS:
            signal.signal(repeated, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, pool.process_control_timeout)

    for number in _STOP_SIGNALS:
        signal.signal(number, stop)
    signal.signal(signal.SIGUSR1, tell)
    # A handler in Python waits for the next bytecode: a signal that comes right before the driver begins to wait would
    # be noticed with the next request alone.
    wakeup_before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if wakeups.hung_up:
            for number, handler in before.items():
                signal.signal(number, handler)
