"""What each generation of a pool is made from, and the listeners that generations share."""

from __future__ import annotations

import os

from gateway import log
from gateway.net.accesslog import open_log
from gateway.net.address import InheritedAddress
from gateway.net.handover import Keep, State
from gateway.net.kept import KeptQueue
from gateway.net.listeners import Heir, Listener
from gateway.process.handles import Start, execute
from gateway.process.identity import Identity
from gateway.process.scoreboard import SLOTS, Scoreboard
from gateway.process.start import open_pool_listeners, pool_identity, socket_file
from gateway.process.task import Task
from gateway.record import Record
from gateway.settings import ConfigError, Pool, Work, pool_from_json, to_json, work_from_json


class Setup(Record):
    """A pool's settings and work, with what they name: user, listeners."""

    pool: Pool
    work: Work
    identity: Identity | None
    listeners: tuple[Listener, ...]

    @property
    def loads(self) -> int:
        """How many callables its zygote loads."""
        return self.work.count + bool(self.pool.authorizer)

    def scoreboard(self) -> Scoreboard:
        """Make the scoreboard of a generation. Raises OSError."""
        return Scoreboard(self.pool.threads, self.work.hosts)

    def task(self, name: str, board: Scoreboard, kept: KeptQueue, slowlog: int) -> Task:
        """What a zygote of the pool called `name` gets; `slowlog` is a descriptor, or -1."""
        return Task(
            name,
            self.pool,
            self.work,
            os.getpid(),
            listeners=tuple(listener.socket.fileno() for listener in self.listeners),
            kept=(kept.giving.fileno(), kept.taking.fileno()),
            scoreboard=board.fd,
            hosts=board.layout.hosts,
            slowlog=slowlog,
        )


class Setups:
    """The setup of a pool's current generation, and of those that reloads have asked for."""

    def __init__(
        self,
        name: str,
        pool: Pool,
        work: Work,
        handed: State | None = None,
    ) -> None:
        """`handed` is what another master has opened. Raises ConfigError and ListenError."""
        self._name = name
        self._opened: dict[str, tuple[Listener, ...]] = {}  # by address: also those that have lost their file
        self._planned: dict[int, Setup] = {}  # by generation
        self._retiring: list[Listener] = []  # at which somebody still waits
        self._standing_in: list[Listener] = []  # for those of the current generation that have lost their file
        self.closed = False
        self.start: Start = execute  # of its zygotes
        if handed is not None:
            self._take_over(pool, work, handed)
            return
        try:
            self.current = self.prepare(pool, work)
        except BaseException:
            self.close()
            raise

    def hand_over(self, keep: Keep) -> State:
        """What the master that goes on needs, beside the pool's name."""
        opened = {key: [listener.hand_over(keep) for listener in found] for key, found in self._opened.items()}
        for listener in self._retiring:
            opened.setdefault(str(listener.address), []).append(listener.hand_over(keep))
        pool, work = to_json(self.current.pool), to_json(self.current.work)
        return {"pool": pool, "work": work, "opened": opened, "closed": self.closed}

    @classmethod
    def take_over(cls, name: str, state: State) -> Setups:
        """Go on with what was handed over. Raises ConfigError."""
        return cls(name, pool_from_json(state["pool"]), work_from_json(state["work"]), state)

    def _take_over(self, pool: Pool, work: Work, state: State) -> None:
        self.closed = state["closed"]
        for address, rows in state["opened"].items():
            self._opened[address] = tuple(Listener.take_over(*row) for row in rows)
        # A file that is gone is made again by the reload that follows: a rehearsal would take it along.
        listeners = tuple(listener for found in self._opened.values() for listener in found)
        self.current = Setup(pool, work, pool_identity(pool), listeners)

    def prepare(self, pool: Pool, work: Work) -> Setup:
        """Find the pool's user, and open what is not open yet, or has lost its file.

        Raises ConfigError and ListenError.
        """
        if 2 * pool.max_children > SLOTS:  # during a reload there are so many
            raise ConfigError(f"max_children: a pool has at most {SLOTS // 2} workers")
        if pool.access_log:
            _try_to_open("access_log", pool.access_log)
        identity = pool_identity(pool)
        return Setup(pool, work, identity, open_pool_listeners(pool, identity, self._opened))

    def plan(self, generation: int, setup: Setup | None) -> None:
        """A reload was asked for, and `generation` will hold it."""
        if setup is not None:
            self._planned[generation] = setup

    def of(self, generation: int) -> Setup:
        """What a generation is to be made from."""
        return self._planned.get(generation, self.current)

    def change_to(self, generation: int) -> bool:
        """A generation has become the current one; return whether it has a setup of its own."""
        setup = self._planned.pop(generation, None)
        if setup is not None:
            before, self.current = self.current, setup
            self._change_listeners(before)
        return setup is not None

    def _change_listeners(self, before: Setup) -> None:
        """Let listeners that stay be what the settings say of them now."""
        wanted, was = (
            (setup.pool.listen_backlog, socket_file(setup.pool, setup.identity)) for setup in (self.current, before)
        )
        made_before = [*self._standing_in, *(before.listeners if wanted != was else ())]
        change = {id(listener) for listener in made_before}  # one that stands in was made as refused settings said
        for listener in self.current.listeners:
            if id(listener) in change and not isinstance(listener.address, InheritedAddress):
                try:
                    listener.change(*wanted)
                except OSError as error:
                    reason = f"listen_mode, listen_owner, listen_group and listen_backlog: {error.strerror}"
                    log.line(f"pool {self._name}: {listener.address} does not get its {reason}", log.Level.ERROR)

    def settle(self, generation: int, heir: Heir | None) -> bool:
        """A generation serves, or was refused: close the listeners that no other one needs (see `Listener.retire`).

        What a generation that was refused has put in the place of a listener without a file stays: by it alone can
        the current one be reached. Return whether there is anything to `pass_on`.
        """
        self._planned.pop(generation, None)
        current = () if heir is None or self.closed else self.current.listeners
        lost = {str(each.address) for each in current if each.loss}
        self._standing_in = [each for address in lost for each in self._opened[address] if not each.loss]
        self._retiring = [each for each in [*self._retiring, *self._unneeded()] if not each.retire(heir)]
        return bool(self._retiring or self._standing_in)

    def pass_on(self, heir: Heir) -> bool:
        """Give `heir` what waits at listeners that the current generation has not; return whether there are any."""
        self._retiring = [each for each in self._retiring if not each.retire(heir)]
        for listener in self._standing_in:
            listener.pass_on(heir)
        return bool(self._retiring or self._standing_in)

    def forget_unplanned(self) -> None:
        """A reload was called off before it began: close the listeners that were opened for it."""
        for listener in self._unneeded():
            listener.close()

    def close(self) -> None:
        """Close every listener; the workers' copies stay open."""
        self.closed = True
        self._planned.clear()
        self._standing_in = []
        for listener in [*self._retiring, *self._unneeded()]:
            listener.close()
        self._retiring = []

    def _unneeded(self) -> list[Listener]:
        """Take out the listeners that nobody needs."""
        setups = [] if self.closed else [self.current, *self._planned.values()]
        needed = {id(listener) for setup in setups for listener in setup.listeners} | set(map(id, self._standing_in))
        rest: list[Listener] = []
        for address, listeners in list(self._opened.items()):
            rest += [listener for listener in listeners if id(listener) not in needed]
            self._opened[address] = tuple(listener for listener in listeners if id(listener) in needed)
            if not self._opened[address]:
                del self._opened[address]
        return rest


def _try_to_open(setting: str, path: str) -> None:
    """Open a log file as it will be opened. Raises ConfigError."""
    try:
        os.close(open_log(path))
    except OSError as error:
        raise ConfigError(f"{setting}: cannot open {path}: {error.strerror}") from None
