"""Reloads under way: the settings that are read for them, in a child, while the master goes on; then what comes of them
in each pool.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from gateway.process.apart import Apart, Outcome
from gateway.process.handles import Loop
from gateway.process.policy import NEVER
from gateway.settings import Brief, ConfigError

Read = tuple[Brief, Sequence[str]]  # settings and problems as of now
Answer = dict[str, Any]
Reply = Callable[[Answer], None]  # to who has asked for a reload
What = tuple[str, bool]  # the name of a pool, "" for all; whether only what has changed
Apply = Callable[[Reply, What, Read | ConfigError | OSError], None]
Asked = dict[What, list[Reply]]
_STOPPED = "the gateway has stopped"


class Reader(Protocol):
    """Where a master has its settings from (`serving.Source`)."""

    def begin_again(self) -> Apart:
        """Begin to read them for a reload. Raises OSError."""

    def take_up_again(self, outcome: Outcome) -> Read:
        """What was read. Raises ConfigError."""


class Reload:
    """A reload that was asked for, and waits for its outcome in every pool."""

    def __init__(self, reply: Reply, pools: Sequence[str], problems: Sequence[str] = ()) -> None:
        """`problems` are what is wrong already, and does not keep the rest from being applied."""
        self._reply = reply
        self._generations = dict.fromkeys(pools, 0)  # that hold the new code; 0: the pool has not taken the reload
        self._errors = list(problems)

    @property
    def waiting(self) -> bool:
        """Some pool's outcome is still to come."""
        return bool(self._generations)

    def expect(self, name: str, generation: int) -> None:
        """Note which generation of a pool is waited for."""
        self._generations[name] = generation

    def give_up(self) -> None:
        """The gateway has stopped before the outcome was known."""
        self._reply({"ok": False, "error": _STOPPED})

    def expect_no_more(self) -> None:
        """Every pool was asked: one that did not take the reload is about to end."""
        for name, generation in list(self._generations.items()):
            if not generation:
                self.loaded(name, generation, "the gateway is stopping")

    def loaded(self, name: str, generation: int, error: str) -> None:
        """Note that a pool's generation is loaded or refused; answer when it was the last."""
        if generation < self._generations.get(name, NEVER):
            return
        del self._generations[name]
        if error:
            self._errors.append(f"pool {name}: {error}")
        if not self._generations:
            self.answer()

    def answer(self) -> None:
        """Tell the outcome."""
        errors = "\n".join(self._errors)
        self._reply({"ok": False, "error": errors} if errors else {"ok": True})


class Reloads:
    """One reading at a time: whoever asks meanwhile gets the next, for what is read already may have changed since."""

    def __init__(self, reader: Reader | None, loop: Loop, apply: Apply) -> None:
        """`apply` is told what the settings say once they are read again; without a reader, at once what they said."""
        self._reader = reader
        self._loop = loop
        self._apply = apply
        self._child: Apart | None = None
        self._served: Asked = {}  # by what the child reads
        self._asked: Asked = {}
        self._waiting: list[Reload] = []

    @property
    def loading(self) -> bool:
        """Some pool loads what was read."""
        return bool(self._waiting)

    @property
    def under_way(self) -> bool:
        """Somebody waits for settings, or for what comes of them."""
        return self._child is not None or self.loading

    def ask(self, reply: Reply, what: What, current: Brief) -> None:
        """Have the settings read, and applied to `what`; the `current` ones where there is no reader."""
        if self._reader is None:
            self._apply(reply, what, (current, ()))
            return
        self._asked.setdefault(what, []).append(reply)
        if self._child is None:
            self._begin()

    def ask_first(self, reply: Reply, what: What, current: Brief) -> None:
        """The same for a master whose loop does not turn yet: wait until they are read."""
        self.ask(reply, what, current)
        if (child := self._child) is not None:
            self._loop.forget(child)
            self._told(child.result())

    def expect(self, reload: Reload) -> None:
        """Remember one whose outcome is still to come in some pool."""
        self._waiting.append(reload)

    def loaded(self, name: str, generation: int, error: str) -> None:
        """A pool's generation is loaded or refused."""
        for reload in self._waiting:
            reload.loaded(name, generation, error)
        self._waiting = [reload for reload in self._waiting if reload.waiting]

    def give_up(self) -> None:
        """The gateway has stopped; what reads ends with it."""
        for asked in (self._served, self._asked):
            self._tell(asked, ConfigError(_STOPPED))
        for reload in self._waiting:
            reload.give_up()

    def reaped(self, pid: int, code: int) -> bool:
        """Say whether a process that has ended was reading; `code` as of `Apart.outcome`."""
        child = self._child
        if child is None or child.pid != pid:
            return False
        self._loop.forget(child)
        self._told(child.outcome(code))
        return True

    def _begin(self) -> None:
        assert self._reader is not None
        self._served, self._asked = self._asked, {}
        try:
            self._child = self._reader.begin_again()
        except OSError as error:
            self._tell(self._served, error)
        else:
            self._loop.watch(self._child, self._receive)

    def _receive(self) -> None:
        assert self._child is not None
        if not self._child.receive():
            self._loop.forget(self._child)  # what it has to say is said; how it ends is still to come

    def _told(self, outcome: Outcome) -> None:
        assert self._reader is not None
        self._child = None
        try:
            read: Read | ConfigError = self._reader.take_up_again(outcome)
        except ConfigError as error:
            read = error
        self._tell(self._served, read)
        if self._asked:
            self._begin()

    def _tell(self, asked: Asked, read: Read | ConfigError | OSError) -> None:
        """Apply it once for all who have asked for the same."""
        everyone = dict(asked)
        asked.clear()
        for what, replies in everyone.items():
            self._apply(functools.partial(_reply_to_all, replies), what, read)


def _reply_to_all(replies: Iterable[Reply], answer: Answer) -> None:
    for reply in replies:
        reply(answer)
