"""The master: opens listeners, runs the pools, answers the control socket. It imports no application and parses no
request.

Signal handlers only wake the loop, which acts on what has come: TERM and INT stop at once, QUIT stops gracefully, HUP
and USR2 reload, USR1 opens the log files anew (PHP-FPM's meanings); TTIN and TTOU change the number of workers.
"""

from __future__ import annotations

import contextlib
import functools
import os
import selectors
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway import __version__, log
from gateway.net.control import Caller, Command
from gateway.net.handover import Keep, State
from gateway.net.listeners import ListenError
from gateway.net.notify import Notifier
from gateway.process import policy, signals, upgrade
from gateway.process.announce import Announcer
from gateway.process.callers import Callers
from gateway.process.console import Console
from gateway.process.handles import Source
from gateway.process.pace import milliseconds
from gateway.process.pool import PoolRunner
from gateway.process.prctl import become_subreaper
from gateway.process.reaping import described, reap
from gateway.process.reloading import Changes, name_what_waits, set_up, work_out
from gateway.process.reloads import Read, Reader, Reload, Reloads, Reply, What
from gateway.process.runner import MakeRunner, Runner
from gateway.process.setup import Setups
from gateway.process.start import EXIT_OK, EXIT_SETTINGS, remove, write_pid
from gateway.process.triggers import Triggers
from gateway.process.upgrade import Upgrades
from gateway.settings import Brief, ConfigError, to_json

_COMMANDS = "status, reload, upgrade, reopen-logs, stop, quit"


class Master:
    """The loop that joins signals, control socket and pools."""

    def __init__(
        self,
        brief: Brief,
        resources: contextlib.ExitStack,
        reader: Reader | None = None,
        *,
        make_runner: MakeRunner = PoolRunner,
        command: Sequence[str] = (),
        handed: State | None = None,
        order: Callable[[int], signals.Order | None] = signals.order,
    ) -> None:
        self._selector = resources.enter_context(selectors.DefaultSelector())
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._started = time.time()
        settings = brief.settings.gateway
        self._brief = brief
        self._reloads = Reloads(reader, self, self._apply_read)
        self._make_runner = make_runner
        self._order = order
        self._exit_code = EXIT_OK
        self._stopping = False
        self._judged = False  # whether the outcome of the first loads is known
        self._lines_lost = 0  # by masters before this one
        self._handed = handed
        self._triggers = Triggers()
        self._drain_at: float | None = None  # when a graceful stop begins that was asked for, on the monotonic clock
        self._callers: Callers | None = None
        self._stop_callers: list[Caller] = []
        self._notifier = Notifier.from_environment()
        resources.callback(self._notifier.close)
        self._wake_up = signals.catch(resources)
        self.watch(self._wake_up, self._on_signals)
        self._upgrades = Upgrades(command, self, self._hand_over, self._notifier.environment())
        become_subreaper()
        self._pools: list[Runner] = []
        resources.callback(self._close_pools)
        if handed is not None:
            self._take_over(handed)
        else:
            self._pools += [self._runner(name, setups) for name, setups in set_up(brief).items()]
        self._announcer = Announcer(self._notifier, [pool.name for pool in self._pools], handed and handed["announcer"])
        first = self._pools[0].setups.current.pool
        self._console = Console(settings, first, self, self._status, handed and handed["console"])
        resources.callback(self._console.close)
        if settings.control:
            self._callers = Callers(settings.control, self, self._obey, handed and handed["callers"])
            resources.callback(self._callers.close)
        if settings.pid_file:
            resources.callback(remove, settings.pid_file)
            if handed is None:
                write_pid(settings.pid_file)

    def run(self) -> int:
        """Serve until every pool has ended."""
        log.line(f"gateway {__version__} {'goes on' if self._handed else 'starts'}, master {os.getpid()}")
        if self._handed is not None:
            self._go_on(self._handed)
        else:
            self._console.start()
            for pool in self._pools:
                pool.start()
        while not self._ended():
            for key, _ in self._selector.select(self._patience()):
                # An earlier event of this round may have ended this watch, and begun another of the same number.
                if self._selector.get_map().get(key.fd) is key:
                    with contextlib.suppress(BlockingIOError):  # it was not readable after all (select(2), BUGS)
                        self._callbacks[key.fd]()
            for pool in self._pools:
                if milliseconds() >= pool.policy.next_deadline(milliseconds()):
                    pool.tick()
                if milliseconds() >= pool.next_look:
                    pool.look(*self._room(pool))
                if pool.policy.standing_in and pool.first_load:
                    self._announcer.unserved(pool.name, reloading=self._reloads.loading)
            self._console.tick()
            self._look_at_the_clock()
            self._judge_first_loads()
            self._forget_removed()
            self._upgrades.go_on(self._wake_up, self._is_running(), self._reloads.under_way)
        self._reloads.give_up()
        for caller in self._stop_callers:
            caller.reply({"ok": True})
        log.line("gateway has stopped")
        return self._exit_code

    # -- the pools' Loop -----------------------------------------------------------------------------------------------

    def watch(self, source: Source, callback: Callable[[], None]) -> None:
        """See `handles.Loop`."""
        self._selector.register(source, selectors.EVENT_READ)
        self._callbacks[source.fileno()] = callback

    def forget(self, source: Source) -> None:
        """See `handles.Loop`; a source that is not watched, or closed, is forgotten already."""
        if self._callbacks.pop(source.fileno(), None) is not None:
            self._selector.unregister(source)

    def owns(self, pid: object) -> bool:
        """See `pool.Loop`."""
        return self._console.owns(pid) or any(pool.owns(pid) for pool in self._pools)

    # -- start ---------------------------------------------------------------------------------------------------------

    def _runner(self, name: str, setups: Setups) -> Runner:
        return self._make_runner(name, setups, loop=self, on_loaded=functools.partial(self._on_loaded, name))

    def _close_pools(self) -> None:
        for pool in self._pools:
            pool.close()

    def _forget_removed(self) -> None:
        """Free what pools held that are gone from the settings and have ended now."""
        for pool in [pool for pool in self._pools if pool.leaving and pool.ended]:
            self._pools.remove(pool)
            pool.close()

    def _ended(self) -> bool:
        """Every pool has ended, and after them the console."""
        if all(pool.ended for pool in self._pools):
            self._console.end()
        return self._console.ended

    def _judge_first_loads(self) -> None:
        """Give up if at the very first start not one application of any pool could be loaded."""
        loading = self._reloads.under_way or any(pool.first_load is None for pool in self._pools)
        if self._judged or self._stopping or loading:
            return
        self._judged = True
        if not any(pool.first_load for pool in self._pools):
            log.line("no application could be loaded; nothing to serve", log.Level.ERROR)
            self._exit_code = EXIT_SETTINGS
            self._terminate()

    def _patience(self) -> float | None:
        """Seconds until the first deadline of any pool, or the next sign of life for the watchdog."""
        now = milliseconds()
        pools = (min(pool.policy.next_deadline(now), pool.next_look) for pool in self._pools)
        first = min(self._console.deadline, *pools)
        waits = [
            None if first == policy.NEVER else max(0, first - now) / 1000,
            None if self._drain_at is None else max(0.0, self._drain_at - time.monotonic()),
            None if self._callers is None else self._callers.patience(),
            self._triggers.patience(self._pools),
            self._announcer.sign_of_life(),
        ]
        return min((wait for wait in waits if wait is not None), default=None)

    def _look_at_the_clock(self) -> None:
        """Do what is due, other than the pools' own."""
        if self._callers is not None:
            self._callers.look()
        if self._drain_at is not None and time.monotonic() >= self._drain_at:
            self._drain_at = None
            for pool in self._pools:
                pool.drain()
        for name, path in list(self._triggers.look(self._pools, self._brief.settings)):
            where = f"pool {name}: " if name else ""
            log.line(f"{where}{path} has changed: reloading")
            self._reload(lambda answer: None, name, only_changed=not name)

    def _room(self, pool: Runner) -> tuple[int, int]:
        """How many workers process_max leaves to a pool, and how many it keeps from the others."""
        if not (process_max := self._brief.settings.gateway.process_max):
            return policy.NEVER, 0
        others = [other.policy for other in self._pools if other is not pool]
        return process_max - sum(other.wanted for other in others), sum(other.lacking for other in others)

    # -- signals -------------------------------------------------------------------------------------------------------

    def _on_signals(self) -> None:
        for order in (orders := [self._order(number) for number in self._wake_up.recv(256)]):
            match order:
                case signals.Order.STOP:
                    self._terminate()
                case signals.Order.DRAIN:
                    self._drain()
                case signals.Order.REOPEN_LOGS:
                    self._reopen_logs()
                case signals.Order.ADD | signals.Order.TAKE as change:
                    self._adjust(1 if change is signals.Order.ADD else -1)
        if signals.Order.RELOAD in orders:  # once: what has come meanwhile asks for the same
            if self._callers is not None:
                self._callers.listen_again()  # or nobody could ask for a reload
            self._reload(lambda answer: None)
        self._reap()

    def _reopen_logs(self) -> dict[str, Any]:
        """Open every log file anew by its name; return what to answer to whoever has asked for it."""
        errors = [f"pool {pool.name}: {reason}" for pool in self._pools if (reason := pool.reopen_logs())]
        path = self._brief.settings.gateway.error_log
        try:
            if path != "stderr":
                log.open_file(path)
        except OSError as error:
            errors.append(f"cannot open {path}: {error.strerror}")
        for message in errors:
            log.line(message, log.Level.ERROR)
        return {"ok": False, "error": "\n".join(errors)} if errors else {"ok": True}

    def _terminate(self) -> None:
        self._stopping = True
        self._announcer.stopping()
        self._drain_at = None
        for pool in self._pools:
            pool.terminate()

    def _drain(self) -> None:
        """Stop gracefully after `drain_delay`, in which whoever asks learns of it; the second time, now."""
        self._drain_at = time.monotonic() + (0 if self._stopping else self._brief.settings.gateway.drain_delay)
        self._stopping = True
        self._announcer.stopping()

    def _adjust(self, by: int) -> None:
        """Change the number of workers of each static pool."""
        for pool in self._pools:
            before = pool.policy.wanted
            pool.adjust(by)
            if pool.policy.wanted != before:
                log.line(f"pool {pool.name}: {pool.policy.wanted} workers are wanted")

    def _reap(self) -> None:
        for pid, code in reap(self.owns):
            status = described(code)
            if not self._reloads.reaped(pid, code) and not any(pool.reaped(pid, status) for pool in self._pools):
                self._console.reaped(pid, status)

    # -- upgrade -------------------------------------------------------------------------------------------------------

    def _hand_over(self, keep: Keep) -> State:
        return {
            "brief": to_json(self._brief),
            "started": self._started,
            "judged": self._judged,
            "lines_lost": self._lost(),
            "announcer": self._announcer.hand_over(),
            "callers": self._callers and self._callers.hand_over(keep),
            "console": self._console.hand_over(keep),
            "pools": [pool.hand_over(keep) for pool in self._pools if isinstance(pool, PoolRunner)],
        }

    def _take_over(self, state: State) -> None:
        self._started, self._judged, self._lines_lost = state["started"], state["judged"], state["lines_lost"]
        for row in state["pools"]:
            name, on_loaded = row["name"], functools.partial(self._on_loaded, row["name"])
            setups = Setups.take_over(name, row["setups"])
            self._pools.append(PoolRunner(name, setups, loop=self, on_loaded=on_loaded, handed=row))

    def _go_on(self, state: State) -> None:
        """Replace the workers that were taken over."""
        signals.let_come()  # before anything is started, for what is held back here would be there, too
        upgrade.end_zygotes(state["pools"])
        reply = functools.partial(upgrade.answer, Caller.take_over(*state["caller"]))
        self._reloads.ask_first(reply, ("", False), self._brief)
        self._reap()

    # -- control -------------------------------------------------------------------------------------------------------

    def _obey(self, command: Command, caller: Caller) -> None:
        match command.get("command"):
            case "status":
                caller.reply(self._status())
            case "reload":
                self._reload(caller.reply, str(command.get("pool", "")))
            case "upgrade":
                self._upgrades.ask(caller)
            case "reopen-logs":
                caller.reply(self._reopen_logs())
            case "stop":
                self._stop_callers.append(caller)
                self._terminate()
            case "quit":
                self._stop_callers.append(caller)
                self._drain()
            case unknown:
                caller.reply({"ok": False, "error": f"unknown command {unknown!r}: {_COMMANDS}"})

    def _reload(self, reply: Reply, name: str = "", *, only_changed: bool = False) -> None:
        """Reload the pool called `name`, or all for "", with what the settings say once they are read again; `reply` is
        called when the last outcome is known.
        """
        if self._is_running():
            self._reloads.ask(reply, (name, only_changed), self._brief)
        else:
            self._apply_read(reply, (name, only_changed), (self._brief, ()))

    def _apply_read(self, reply: Reply, what: What, read: Read | ConfigError | OSError) -> None:
        name, only_changed = what
        running = {pool.name: pool for pool in self._pools if not pool.leaving}
        problems: Sequence[str] = ()
        try:
            if isinstance(read, Exception):
                raise read
            brief, problems = read if self._is_running() else (self._brief, ())
            if name not in ("", *running, *brief.settings.pools):
                raise ConfigError(
                    "\n".join([*problems, f"no pool is called {name!r}; there are: {', '.join(running)}"])
                )
            setups = {n: pool.setups for n, pool in running.items()}
            changes = work_out(brief, setups, name, only_changed=only_changed)
            problems = [*problems, *changes.problems]
        except (ConfigError, ListenError, OSError) as error:
            log.lines(f"reload refused: {error}", log.Level.ERROR)
            self._announcer.refused(str(error), reloading=self._reloads.loading)
            reply({"ok": False, "error": str(error)})
            return
        for problem in problems:
            log.line(problem, log.Level.ERROR)
        if not name and not only_changed:
            self._console.start()
        self._apply(changes, running, Reload(reply, [*changes.changed, *changes.added, *changes.removed], problems))

    def _apply(self, changes: Changes, running: Mapping[str, Runner], reload: Reload) -> None:
        """Make the changes: new pools start, those that are gone end, the others load anew."""
        name_what_waits(self._brief.settings.gateway, changes.brief.settings.gateway)
        log.use_json(changes.brief.settings.gateway.error_log_format == "json")
        self._brief = changes.brief
        if not reload.waiting:
            if changes.problems:
                self._announcer.refused(changes.problems[0], reloading=self._reloads.loading)
            reload.answer()  # nothing that a pool is made from has changed, or can
            return
        self._announcer.reloading()
        for name in changes.removed:
            running[name].remove()
        self._reloads.expect(reload)
        for name, setups in changes.added.items():
            self._announcer.added(name)
            self._pools.append(self._runner(name, setups))
            reload.expect(name, 1)
            self._pools[-1].start()
        for name, setup in changes.changed.items():
            running[name].reload(functools.partial(reload.expect, name), setup)
        for name in changes.removed:
            self._announcer.removed(name)
            self._on_loaded(name, policy.NEVER - 1, "")  # whatever generation was waited for
        reload.expect_no_more()

    def _status(self) -> dict[str, Any]:
        pools = [pool.status() for pool in self._pools]
        master = {"version": __version__, "pid": os.getpid(), "started": self._started, "stopping": self._stopping}
        master["log_lines_lost"] = self._lost()
        return {"ok": True, **master, "pools": pools}

    def _lost(self) -> int:
        return self._lines_lost + log.lost()

    def _on_loaded(self, name: str, generation: int, error: str) -> None:
        self._reloads.loaded(name, generation, error)
        self._announcer.loaded(name, error, reloading=self._reloads.loading)

    def _is_running(self) -> bool:
        return any(pool.policy.phase is policy.Phase.RUNNING for pool in self._pools)
