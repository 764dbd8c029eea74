"""The console's process: takes its listeners from the master, and serves them until the channel to it ends.

It is started by `process.console`, as a user without privileges where that can be.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path

from gateway import log
from gateway.app import webpy
from gateway.app.dispatch import Dispatcher, Site
from gateway.app.errors import ErrorStream
from gateway.net.blocking import Driver
from gateway.net.conversation import Timeouts
from gateway.net.gate import Gate
from gateway.net.inquiry import Inquirer
from gateway.net.noboard import NoBoard
from gateway.protocol.fastcgi import FastCGIConnection
from gateway.settings import Binding

# One thread answers all: a front-end that is slow to send or to read must not keep it.
_TIMEOUTS = Timeouts(head=2.0, body=2.0, response=2.0, keepalive=75.0)
_NAME = "gateway: consol"  # 15 characters are kept (proc_pid_comm(5))


def main(channel_fd: int) -> None:
    """Serve until the master ends the channel."""
    log.through_master()
    with contextlib.suppress(OSError):  # Linux's alone
        Path("/proc/self/comm").write_text(_NAME)
    master = Inquirer(channel_fd)
    listeners, allowed = master.take_over()
    errors = ErrorStream(functools.partial(log.line, level=log.Level.WARNING))
    sys.stdout = sys.stderr = errors
    webpy.production()
    from gateway.console import pages  # only now: web.py asks standard output and environment what it runs in

    site = Site("console", pages.application(master.status))
    dispatcher = Dispatcher([(Binding(), site)], errors=errors, log=log.line, multiprocess=False)
    driver = Driver(
        listeners,
        master,
        functools.partial(FastCGIConnection, dispatcher.base),
        dispatcher,
        timeouts=_TIMEOUTS,
        board=NoBoard(),
        gate=Gate(),
        allowed=allowed,
    )
    driver.watch()
    master.ready()
    driver.run()
