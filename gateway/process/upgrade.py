"""The master executes itself anew: the same process, arguments, sockets and workers, in the code that is installed now.

    running master                              what is installed now
    hand_over ── document, descriptors ──────▶  rehearsal: a throw-away child does all that follows, but for serving
    hand_over ── document, descriptors ──────▶  after the exec: take_over, then a reload replaces the workers

The document is JSON in a file without a name; the environment tells its descriptor and whose it is. While the rehearsal
runs, the master goes on as ever; one that fails, and an exec that fails, have changed nothing.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from gateway import __version__, log
from gateway.net.control import Caller
from gateway.net.handover import Keep, State
from gateway.net.listeners import given_by_systemd
from gateway.net.memory import anonymous_file
from gateway.process import signals
from gateway.process.handles import Loop
from gateway.process.prctl import die_with
from gateway.process.spare import UPGRADE
from gateway.record import Record
from gateway.settings import ConfigError

# Another one wherever this code cannot go on with what older code hands over: the document, the layout of a scoreboard,
# or what goes over a worker's channel, the console's, or the pool's kept queue has changed.
FORMAT = 3
_PATIENCE = 60  # seconds for a rehearsal
_AT_ONCE = 16_384  # bytes
_MOST_TOLD = 16_384  # bytes of what a rehearsal has said, the last ones

HandOver = Callable[[Keep], State]


def command_line() -> tuple[str, ...]:
    """The command that starts this process anew.

    Of a script that has started it, the first line is asked again for the interpreter: it may be another file by then.
    """
    interpreter, *arguments = sys.orig_argv
    if arguments and _runs_by_itself(arguments[0], interpreter):
        return (os.path.abspath(arguments[0]), *arguments[1:])
    return (sys.executable, *arguments)


def _runs_by_itself(script: str, interpreter: str) -> bool:
    try:
        with open(script, "rb") as file:
            return file.readline().strip() == b"#!" + os.fsencode(interpreter) and os.access(script, os.X_OK)
    except OSError:
        return False  # an option, or -m and a module


# -- the running master ------------------------------------------------------------------------------------------------


class Upgrades:
    """Upgrades that are asked for, one at a time: a rehearsal, and the exec when no reload is under way."""

    def __init__(self, command: Sequence[str], loop: Loop, hand_over: HandOver, variables: Mapping[str, str]) -> None:
        """`command` starts the master; () if nothing does. Beside its environment, the next one needs `variables`."""
        self._command = list(command)
        self._loop = loop
        self._hand_over = hand_over
        self._variables = variables
        self._caller: Caller | None = None  # who waits for the outcome
        self._rehearsal: Rehearsal | None = None

    def ask(self, caller: Caller) -> None:
        """Begin with the rehearsal; the caller is answered by the next master, or when this one goes on as it was."""
        if self._caller is not None or not self._command:
            reason = "one is under way" if self._command else "nothing is known that would start this anew"
            caller.reply({"ok": False, "error": f"upgrade refused: {reason}"})
            return
        self._caller = caller
        log.line("an upgrade was asked for: rehearsing it")
        try:
            with _document(self._state) as document:
                self._rehearsal = Rehearsal(self._command, document, self._loop)
        except (OSError, subprocess.SubprocessError) as error:
            self._refuse(f"cannot start {self._command[0]}: {error}")

    def go_on(self, wake_up: socket.socket, running: bool, reloading: bool) -> None:
        """Do what can be done now. A signal that has come to `wake_up` is for this master still."""
        rehearsal = self._rehearsal
        if rehearsal is None:
            return
        if not running:
            self._refuse("gateway is stopping")
        elif rehearsal.error:
            self._refuse(rehearsal.error)
        elif rehearsal.version and not reloading:
            with signals.held_back():
                if not signals.are_waiting(wake_up):
                    self._execute(rehearsal.version)

    def _execute(self, version: str) -> None:
        log.line(f"gateway {__version__} hands over to {version}")
        try:
            with _document(self._state) as document, document.inherited():
                os.execve(self._command[0], self._command, {**document.environment, **self._variables})
        except OSError as error:
            self._refuse(f"cannot execute {self._command[0]}: {error.strerror}")

    def _state(self, keep: Keep) -> State:
        assert self._caller is not None
        return self._hand_over(keep) | {"caller": self._caller.hand_over(keep)}

    def _refuse(self, reason: str) -> None:
        log.lines(f"upgrade refused: {reason}", log.Level.ERROR)
        if self._rehearsal is not None:
            self._rehearsal.close()
        if self._caller is not None:
            self._caller.reply({"ok": False, "error": f"upgrade refused: {reason}"})
        self._caller = self._rehearsal = None


class Document(Record):
    """What is handed over, and the descriptors that go with it."""

    fd: int
    descriptors: Sequence[int]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of who is to read it."""
        return {**os.environ, UPGRADE: f"{os.getpid()}:{self.fd}"}

    @contextlib.contextmanager
    def inherited(self) -> Iterator[None]:
        """Let it and them outlive an exec."""
        try:
            _let_inherit([self.fd, *self.descriptors], True)
            yield
        finally:
            _let_inherit([self.fd, *self.descriptors], False)


class Rehearsal:
    """A child that does what the next master will, up to where it would serve."""

    def __init__(self, command: Sequence[str], document: Document, loop: Loop) -> None:
        """Raises OSError and subprocess.SubprocessError."""
        self.version = ""  # of what takes over, when that is known to go well
        self.error = ""  # why it cannot
        self._loop = loop
        self._told = b""
        self._began = time.monotonic()
        self._reading, writing = os.pipe()
        os.set_blocking(self._reading, False)
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=[document.fd, *document.descriptors],
                env=document.environment,
                process_group=0,
                preexec_fn=functools.partial(_bound, os.getpid()),
            )
        except BaseException:
            os.close(self._reading)
            raise
        finally:
            os.close(writing)
        child.returncode = 0  # the master reaps every child itself
        loop.watch(self, self._hear)

    def fileno(self) -> int:
        """The descriptor to watch; -1 when closed."""
        return self._reading

    def close(self) -> None:
        """Listen to it no longer."""
        if self._reading >= 0:
            self._loop.forget(self)
            os.close(self._reading)
            self._reading = -1

    def _hear(self) -> None:
        data = os.read(self._reading, _AT_ONCE)
        self._told = (self._told + data)[-_MOST_TOLD:]
        if not data:
            self.close()
            self._judge(self._told.decode("utf-8", "backslashreplace").strip())

    def _judge(self, told: str) -> None:
        self.version = _version(told)
        if self.version:
            return
        if time.monotonic() - self._began >= _PATIENCE:
            self.error = f"what is installed now was not ready to take over within {_PATIENCE} s"
        else:
            self.error = f"what is installed now cannot take over:\n{told or 'it ended without a word'}"


@contextlib.contextmanager
def _document(hand_over: HandOver) -> Iterator[Document]:
    """Write down what is handed over. Raises OSError."""
    descriptors = [fd for fd, _ in given_by_systemd()]

    def keep(fd: int) -> int:
        descriptors.append(fd)
        return fd

    text = {"format": FORMAT, "version": __version__, "state": hand_over(keep), "descriptors": descriptors}
    with anonymous_file("upgrade") as file:
        file.write(json.dumps(text).encode())
        file.seek(0)
        yield Document(file.fileno(), descriptors)


def _let_inherit(descriptors: Iterable[int], inheritable: bool) -> None:
    for fd in descriptors:
        os.set_inheritable(fd, inheritable)


def _bound(parent: int) -> None:
    """What a rehearsal may not outlive: the master, and its time (alarm(2) holds over an exec)."""
    die_with(parent)
    signal.alarm(_PATIENCE)


def _version(told: str) -> str:
    """The version of a rehearsal that has ended with `end_rehearsal`; "" for any other."""
    with contextlib.suppress(ValueError):
        message = json.loads(told.rpartition("\n")[2])
        if isinstance(message, dict):
            return str(message.get("takes_over", ""))
    return ""


# -- the next master, and its rehearsal --------------------------------------------------------------------------------


class HandedOver(Record):
    """What a running master has handed to the next one, or to its rehearsal."""

    state: State
    rehearsal: bool

    @property
    def socket_on_fd_0(self) -> bool:
        """Whether this process was started with its listening socket as file descriptor 0."""
        return any("fd:0" in pool["setups"]["opened"] for pool in self.state["pools"])


def handed_over() -> HandedOver | None:
    """Read what was handed over to this process; None at an ordinary start. Raises ConfigError where it is unknown."""
    author, _, fd = os.environ.pop(UPGRADE, "").partition(":")
    if author not in (str(os.getpid()), str(os.getppid())):
        return None  # it was another's
    rehearsal = author != str(os.getpid())
    with open(int(fd), "rb") as file:
        document = json.load(file)
    if document["format"] != FORMAT:
        versions = f"gateway {__version__} cannot go on with the workers of {document['version']}"
        raise ConfigError(f"{versions}: stop gateway and start it")
    _let_inherit(document["descriptors"], False)
    if rehearsal and os.environ.get("LISTEN_PID") == author:
        os.environ["LISTEN_PID"] = str(os.getpid())
    return HandedOver(document["state"], rehearsal)


def end_rehearsal() -> NoReturn:
    """Tell that all went well, and leave: closing the running master's sockets in order would remove their files."""
    print(json.dumps({"takes_over": __version__}), flush=True)
    os._exit(0)


def end_zygotes(pools: Iterable[State]) -> None:
    """End what would fork workers of the last master's code."""
    for pool in pools:
        for pid in pool["zygotes"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def answer(caller: Caller, outcome: dict[str, Any]) -> None:
    """Tell whoever has asked for the upgrade how the reload ended that follows it."""
    if not outcome["ok"]:
        before = f"gateway {__version__} runs now, and the workers from before go on where new ones could not start:\n"
        outcome = outcome | {"error": before + outcome["error"]}
    caller.reply(outcome | {"version": __version__})
