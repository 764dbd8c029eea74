"""A request on the quick way in Python, from its bytes to its answer (`purequick`).

    recv → known pairs → environ → binding → board.begin → application → head, body → send → board.end

What is unusual goes the ordinary way from where it shows: before the application is called by giving the bytes back,
afterwards by giving the answer, as far as it is, to a conversation. Usual requests pass here in as few steps as can be.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.app.answer import Head
from gateway.app.body import RequestBody
from gateway.app.environ import USUAL, mount, request_path
from gateway.app.routing import Known
from gateway.app.wsgi import FileWrapper, Response
from gateway.net.deferred import Later, Over
from gateway.net.wiring import Wiring
from gateway.protocol import records
from gateway.protocol.pairs import KnownPairs, split_pairs

_CHUNK = 65_536  # bytes read at once, as by `stream.Stream`
_RECEIVE = int(socket.MSG_DONTWAIT)
_SEND = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

_BEGINNING = struct.Struct(">20sHBx")  # BEGIN_REQUEST, and the header of PARAMS
_KEEPS = records.BEGINNINGS
_PARAMS_AT = records.PARAMS_AT
_NO_BODY = records.PARAMS_END_1 + records.STDIN_END_1
_BODY = struct.Struct(">12sHBx")  # the end of PARAMS, and the header of STDIN
_BODY_START = _NO_BODY[:12]
_NEEDED = frozenset(("REQUEST_METHOD", "SERVER_PROTOCOL", "REQUEST_URI", "QUERY_STRING"))

_STDOUT = struct.Struct(">IHxx")
_STDOUT_START = int.from_bytes(records.encode_record(records.STDOUT, 1)[:4], "big")
_ANSWER_END = records.encode_answer(1, b"")
_NO_CHUNKS = (list, tuple, bytes, str, FileWrapper)


_NONE: tuple[int, int, Any] = -1, 0, None  # no request
_OVER: Any = Over()
_END: Any = object()  # where there is no further chunk


class Requests:
    """Answers requests of one driver that runs in the main thread, one after the other."""

    def __init__(self, wiring: Wiring) -> None:
        self._fallback = wiring.fallback
        self._base = wiring.base
        self._own = len(wiring.base)
        self._hosts = wiring.hosts
        self._known = wiring.known
        self._begin = wiring.begin
        self._end = wiring.end
        self._interruption = wiring.interruption
        self._line = wiring.line
        self._params_size = wiring.limits.params_size  # names are shorter than any limit
        self._params_count = wiring.limits.params_count
        self._max_body = wiring.max_body
        self._queue_timeout = wiring.queue_timeout
        self._access = wiring.access
        self._pair = KnownPairs(USUAL).__getitem__
        self._later: Any = Later(self, wiring.interruption)
        self._response: Response | None = None  # to the request that runs
        self._running = _NONE  # its connection, label, and what `go_on_slowly` takes
        self._begun = False  # a part of the answer is on its way
        self.thread = 0  # that answers
        self.printed: list[str] = []  # meanwhile by others

    def serve(self, sock: socket.SocketType, trusts_stamp: bool, events: int, /) -> Any:
        """Read and answer what has come on a connection, as `quick.Outcome` says.

        `trusts_stamp`: a stamp of its front-end counts; `events`: by which it is asked whether the front-end has left,
        or -1 where that is known.
        """
        try:
            data = sock.recv(_CHUNK, _RECEIVE)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        waited = None
        try:
            beginning, size, padding = _BEGINNING.unpack_from(data)
            keep_conn = _KEEPS[beginning]
            end = _PARAMS_AT + size
            rest = data[end + padding :]
            body = b"" if rest == _NO_BODY else _whole_body(rest)
            pieces = split_pairs(data, _PARAMS_AT, end + 1)
            if len(pieces.pop()) != 1:
                return data
            environ = self._base.copy()
            environ.update(map(self._pair, pieces))
            try:
                site = self._hosts[environ["HTTP_HOST"]][environ["SERVER_PORT"]]
            except KeyError:
                site = self._known(environ)
            if trusts_stamp and (stamp := environ.get("REQUEST_TIME_FLOAT")) is not None:
                waited = max(0.0, time.time() - float(stamp))
        except (LookupError, ValueError, struct.error):
            return data
        count = len(pieces)
        if (
            site is None
            or len(environ) != self._own + count  # a name came twice
            or count > self._params_count
            or size > self._params_size
            or (waited is not None and 0 < self._queue_timeout < waited)
            or not self._complete(environ, body)
            or (events >= 0 and _has_left(sock, events))
        ):
            return data
        if site.__class__ is not Known and (site := site(environ)) is None:
            return data
        application, name, label, host, server_name = site
        if not environ.get("SERVER_NAME"):
            environ["SERVER_NAME"] = server_name
        environ["gateway.application"] = name
        self._begin(environ, host)
        return self._run(sock, application, label, environ, keep_conn, waited)

    def _complete(self, environ: dict[str, Any], body: bytes) -> bool:
        """Do what `environ.normalise` and `Router.route` do with usual parameters; False where it takes these."""
        get = environ.get
        if not environ.keys() >= _NEEDED or len(body) > self._max_body:
            return False
        if get("HTTPS") == "on" or get("REQUEST_SCHEME") == "https":
            environ["wsgi.url_scheme"] = "https"
        if get("CONTENT_TYPE") == "":
            del environ["CONTENT_TYPE"]
        length = get("CONTENT_LENGTH")
        if length == "":
            del environ["CONTENT_LENGTH"]
        elif length is not None and length != str(len(body)):
            return False
        if body:
            environ["wsgi.input"] = RequestBody.whole(body)
        path, script = get("PATH_INFO"), get("SCRIPT_NAME")
        if script or not path or path[0] != "/":
            path, prefix = request_path(environ)
            mount(environ, path, prefix)
        elif script is None:
            environ["SCRIPT_NAME"] = ""
        return "%" not in path  # it may be malformed

    def _run(
        self,
        sock: socket.SocketType,
        application: Any,
        label: int,
        environ: dict[str, Any],
        keep_conn: bool,
        waited: float | None,
    ) -> Any:
        """Call the application and send what it answers."""
        access, interruption = self._access, self._interruption
        began = access.begin() if access is not None else None
        self._running = sock.fileno(), label, (environ, keep_conn, waited, began)
        head_only = environ["REQUEST_METHOD"] == "HEAD"
        self.thread, self.printed = threading.get_ident(), []
        self._response = response = Response(self._later, head_only)
        body = None
        try:
            interruption.allowed = True
            body = application(environ, response.start_response)
            interruption.allowed = False
        except BaseException as error:
            interruption.allowed = False
            return self._end_slowly(body, error)
        head = response.head
        if head is None or head_only or not head.has_body:
            return self._end_slowly(body, None)
        if body.__class__ is not list and body.__class__ is not tuple:
            return self._send_chunks(sock, head, body)
        data = body[0] if len(body) == 1 else _joined(body)
        if data.__class__ is not bytes or not self._is_undisturbed(response):
            return self._end_slowly(body, None)
        lines = head.lines
        if head.length is None:
            lines += b"Content-Length: %d\r\n" % len(data)
        size = len(lines) + 2 + len(data)
        if size > records.LONGEST_CONTENT or (head.length is not None and head.length != len(data)):
            return self._end_slowly(body, None)
        answer = b"%b%b\r\n%b%b" % (_STDOUT.pack(_STDOUT_START, size), lines, data, _ANSWER_END)
        return self._finish(sock, answer, head.status, lines, len(data))

    def _is_undisturbed(self, response: Response) -> bool:
        """Say whether nothing has come of the answer so far that is for others to see to."""
        return (
            response.exchange is self._later
            and self._interruption.raised is None  # else swallowed by the application
            and not (self._line.text or self.printed)  # else to be flushed
        )

    def _finish(self, sock: socket.SocketType, rest: bytes, status: int, lines: bytes, size: int) -> bool:
        """Send the rest of an answer, whose body has `size` bytes; return whether the connection is to be kept."""
        response = self._response
        assert response is not None
        response.exchange, response.started = _OVER, True
        self._response, self._begun = None, False
        alive = self._send(sock, rest)
        _, label, (environ, keep_conn, waited, began) = self._running
        self._running = _NONE
        self._end(label, status, waited)
        if began is not None:
            self._fallback.log(began, environ, status, lines, size, alive)
        return alive and keep_conn

    def _send_chunks(self, sock: socket.SocketType, head: Head, body: Any) -> Any:
        """Send a body whose first chunk may be all of it, as those of most frameworks are: that is sent before the next
        is asked for. Otherwise the driver goes on with what is to come.
        """
        response, interruption, before = self._response, self._interruption, len(head.lines) + 2
        assert response is not None
        if body is None or isinstance(body, _NO_CHUNKS):
            return self._end_slowly(body, None)
        error: BaseException | None = None
        alive, first, chunks = True, _END, iter(())
        try:
            interruption.allowed = True
            chunks = iter(body)
            first = _next_chunk(chunks)
            fits = first.__class__ is bytes and before + len(first) <= records.LONGEST_CONTENT
            if fits and head.length in (None, len(first)) and response.head is head and self._is_undisturbed(response):
                length = len(first)
                record = b"%b%b\r\n%b" % (_STDOUT.pack(_STDOUT_START, before + length), head.lines, first)
                response.note_sent(length)
                self._begun, first = True, _END  # first of all, lest an interruption leave it to be sent twice
                alive = self._send(sock, record)
                if alive and (first := _next_chunk(chunks)) is _END:
                    closing, body = body, None
                    if (close := getattr(closing, "close", None)) is not None:
                        close()
                    if self._is_undisturbed(response):
                        interruption.allowed = False
                        return self._finish(sock, _ANSWER_END, head.status, head.lines, length)
            interruption.allowed = False
        except BaseException as caught:
            interruption.allowed = False
            error = _without_frames(caught)
        response = self.hand_over()
        done = self._fallback.end_chunks(response, body, () if first is _END else (first,), chunks, error, alive)
        self._response, self._running, self._begun = None, _NONE, False
        return done

    def _send(self, sock: socket.SocketType, answer: bytes) -> bool:
        """Send an answer; False where nobody takes it."""
        try:
            sent = sock.send(answer, _SEND)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        return sent == len(answer) or self._fallback.send_rest(sock.fileno(), answer[sent:])

    def hand_over(self) -> Response:
        """Let a conversation have the answer to the request that runs, as far as it is, from here on."""
        response = self._response
        assert response is not None
        if response.exchange is self._later:
            fd, label, request = self._running
            exchange: Any = self._fallback.go_on_slowly(fd, response.head_only, label, request).exchange
            exchange.begun = self._begun
            response.exchange = exchange
            for text in self.printed:
                exchange.stderr(text)
        return response

    def _end_slowly(self, body: Any, error: BaseException | None) -> object:
        """End what is not simple, or has failed: all is done when this returns."""
        response = self.hand_over()
        if body is not None:
            error = None  # interrupted when the application had returned already: `Response` looks for that
        elif error is not None:
            error = _without_frames(error)
        done = self._fallback.end_slowly(response, body, error)
        self._response, self._running = None, _NONE
        return done

    def stderr(self, text: str, /) -> None:
        """As an exchange's: what the application prints, for the front-end too."""
        if (response := self._response) is not None:
            response.exchange.stderr(text)


def _whole_body(rest: bytes) -> bytes:
    """A small body that came with its head: one record of STDIN, and its end. Raises ValueError and struct.error."""
    start, size, padding = _BODY.unpack_from(rest)
    if start != _BODY_START or not size or rest[_BODY.size + size + padding :] != records.STDIN_END_1:
        raise ValueError("no whole body")
    return rest[_BODY.size : _BODY.size + size]


def _next_chunk(chunks: Iterator[Any]) -> Any:
    """The next chunk that is not empty; _END where there is none."""
    while (chunk := next(chunks, _END)).__class__ is bytes and not chunk:
        pass
    return chunk


def _without_frames(error: BaseException) -> BaseException:
    """An error with the traceback that it has outside this module."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return error.with_traceback(frames)


def _joined(chunks: Sequence[object]) -> bytes | None:
    """Chunks in one piece; None where one of them is not plainly bytes."""
    return b"".join(chunks) if all(chunk.__class__ is bytes for chunk in chunks) else None  # type: ignore[arg-type]


def _has_left(sock: socket.SocketType, events: int) -> bool:
    waiter = select.poll()
    waiter.register(sock.fileno(), events)
    return bool(waiter.poll(0))
