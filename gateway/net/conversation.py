"""One request on one connection: what a driver offers the application side (`app.exchange.Exchange`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from gateway import log
from gateway.app.exchange import BodyCutShort, Disconnected, Result
from gateway.app.interruption import Interruption
from gateway.net.stream import Stream, StreamClosed
from gateway.protocol.events import Abort, Body, BodyEnd, Connection, Event, RequestHead, Violation
from gateway.record import Record

_BUFFERED_ANSWER = 65_536  # bytes of an answer that are kept back to be sent at once
_ABORT_SECONDS = 0.1  # how long the front-end has to read what came before an abort
_ABORTED = "the front-end aborted the request"
_TAKEN_OVER = "the request was ended"


class Timeouts(Record):
    """How long a peer may take, in seconds, and how long a kept connection may be idle."""

    head: float
    body: float
    response: float
    keepalive: float


class Board(Protocol):
    """Where a thread shows what it does (`process.scoreboard.Row`)."""

    def accepted(self) -> bool:
        """A connection was taken from a listen queue; say whether it is known to have waited there for too long."""

    def should_share(self) -> bool:
        """Say whether it helps to give another worker one of several requests that wait."""

    def begin(self, environ: Mapping[str, Any], host: str) -> None:
        """A request begins to run."""

    def end(self, label: int, status: int, waited: float | None) -> None:
        """A request is over: the label of its host, its status, and for how many seconds it waited before, if known."""

    def shed(self) -> None:
        """A request was answered 503 because it has waited for too long."""

    def gone(self) -> None:
        """A request was not run because its client has left."""


class Handler(Protocol):
    """What answers requests (`app.dispatch.Dispatcher`)."""

    def handle(self, head: RequestHead, exchange: Conversation, /) -> Result:
        """Answer one request."""

    def refuse(self, status: int, reason: str, exchange: Conversation, /) -> Result:
        """Answer without any application."""


class Conversation:
    """The exchange of one request: body pieces in, framed answer out in as few writes as possible."""

    __slots__ = (
        "_answer",
        "_answer_size",
        "_board",
        "_body",
        "_connection",
        "_gone",
        "_id",
        "_pieces",
        "_stream",
        "_timeouts",
        "_writable",
        "begun",
        "body_ended",
        "interruption",
        "label",
    )

    def __init__(
        self,
        stream: Stream,
        connection: Connection,
        request_id: int,
        events: Iterable[Event],
        *,
        timeouts: Timeouts,
        board: Board,
        interruption: Interruption,
    ) -> None:
        self._stream = stream
        self._connection = connection
        self._id = request_id
        self._timeouts = timeouts
        self._board = board
        self.interruption = interruption
        self.label = 0  # of the request's host, once that is known
        self._pieces: deque[bytes] = deque()
        self._answer: list[bytes | memoryview] = []  # framed, and
        self._body: list[bytes] = []  # what follows it, not framed yet
        self._answer_size = 0
        self._gone = ""  # why the front-end no longer wants, or can take, the answer
        self._writable = True
        self.begun = False  # a part of the answer is on its way
        self.body_ended = False
        self._take(events)

    def begin(self, environ: Mapping[str, Any], host: str, label: int) -> None:
        """See `Exchange.begin`."""
        self.label = label
        self._board.begin(environ, host)

    @property
    def is_aborted(self) -> bool:
        """The front-end wants no answer (FastCGI 1.0 §5.4)."""
        return self._gone == _ABORTED

    def receive(self) -> bytes:
        """See `Exchange.receive`."""
        while not self._pieces:
            if self.body_ended:
                return b""
            if self._gone:
                raise BodyCutShort(f"the request's body is incomplete: {self._gone}")
            if self._answer_size:  # a front-end may wait for it before it sends more
                self._try_to_transmit()
            self._read_more()
        return self._pieces.popleft()

    def send(self, data: bytes) -> None:
        """See `Exchange.send`."""
        self._body.append(data)
        self._answer_size += len(data)
        if self._answer_size >= _BUFFERED_ANSWER:
            self.flush()

    def flush(self) -> None:
        """See `Exchange.flush`; also notices a front-end that aborted or left meanwhile."""
        if self.body_ended and (data := self._stream.receive_now()) is not None:
            self._feed(data)
        self._transmit()

    def stderr(self, text: str) -> None:
        """See `Exchange.stderr`; sent with the answer."""
        message = text.encode("utf-8", "backslashreplace")
        self._answer.extend(self._connection.stderr(self._id, message))
        self._answer_size += len(message)
        if self._answer_size >= _BUFFERED_ANSWER:
            self._try_to_transmit()

    def finish(self) -> bool:
        """End a complete answer and send what is left of it; return whether the connection is still of use."""
        if self.is_aborted:
            return self.fail()
        body, self._body = self._body, []
        self._answer.append(self._connection.end(self._id, 0, b"".join(body)))
        return self._try_to_transmit()

    def fail(self) -> bool:
        """End an incomplete answer so that the front-end sees it; return whether the connection is still of use.

        A request that the front-end itself aborted is ended in the ordinary way (FastCGI 1.0 §5.4).
        """
        if self.is_aborted:
            self._gone = ""
            self._answer, self._body = [], []
            return self.finish()
        if not self._writable:
            return False
        self._gone = ""  # whoever sends no more of a body may still read
        if self._try_to_transmit():
            # lighttpd 1.4.69 takes what it reads in one go, abort included, for a whole answer.
            self._stream.wait_until_read(_ABORT_SECONDS)
        self._answer.append(self._connection.abort())
        self._try_to_transmit()
        return False

    def take_over(self) -> Conversation:
        """Give another thread the rest of this exchange; to whoever has this one, the front-end is gone."""
        rest = Conversation(
            self._stream,
            self._connection,
            self._id,
            (),
            timeouts=self._timeouts,
            board=self._board,
            interruption=Interruption(),
        )
        rest.label, rest.begun, rest.body_ended = self.label, self.begun, self.body_ended
        rest._answer, rest._gone, rest._writable = self._answer, self._gone, self._writable
        self._answer, self._gone, self.body_ended = [], _TAKEN_OVER, False
        return rest

    def give_up(self, why: str) -> Disconnected:
        """Nobody takes the answer: nothing more is sent. Return what says so."""
        self._gone = why
        self._writable = False
        return Disconnected(why)

    def hang_up(self) -> None:
        """Let whoever waits for the front-end, in any thread, find it gone."""
        self._stream.hang_up()

    def _try_to_transmit(self) -> bool:
        try:
            self._transmit()
        except Disconnected:
            return False
        return True

    def _transmit(self) -> None:
        if self._body:
            self.begun = True
            body, self._body = self._body, []  # first, lest an interruption leave it to be sent twice
            self._answer.extend(self._connection.stdout(self._id, b"".join(body)))
        parts, self._answer, self._answer_size = self._answer, [], 0
        if self._gone:
            raise Disconnected(self._gone)
        if not parts:
            return
        try:
            self._stream.send(parts, self._timeouts.response)
        except StreamClosed as error:
            raise self.give_up(str(error)) from error

    def _read_more(self) -> None:
        try:
            self._feed(self._stream.receive(self._timeouts.body))
        except TimeoutError as error:
            self._gone = str(error)

    def _feed(self, data: bytes) -> None:
        if data:
            self._take(self._connection.receive_data(data))
            if own := self._connection.data_to_send():
                self._answer.append(own)
                self._answer_size += len(own)
            return
        # A front-end that half-closes after the body still reads its answer; writing tells if it does not.
        if not self.body_ended:
            self._gone = "the front-end closed the connection"

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            if type(event) is Body:
                self._pieces.append(event.data)
            elif type(event) is BodyEnd:
                self.body_ended = True
            elif type(event) is Abort:
                self._gone = _ABORTED
            elif type(event) is Violation:
                self._gone = event.reason
                log.line(f"connection closed: {event.reason}")
