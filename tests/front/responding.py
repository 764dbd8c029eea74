"""A small FastCGI application that tells front-ends' configurations apart: it answers with what it was passed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from gateway.protocol.events import Body, BodyEnd, RequestHead
from gateway.protocol.fastcgi import FastCGIConnection

STREAMED = b"Status: 200 OK\r\nContent-Type: text/plain\r\nX-Accel-Buffering: no\r\n\r\n"


class Responder:
    """Listens on a Unix socket. The query of a request says how it is answered:

    "" in JSON: its parameters, repeats and body's digest; "stream" a line now and one when `gate` opens; "cut" a line
    now and a visible abort when `gate` opens; "head" nothing but a 304; "status" 418; "silent" nothing while
    `gate` is closed; "nonsense" no CGI head; "error" a page of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.gate = threading.Event()
        self.connections = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        path.chmod(0o666)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self.gate.set()
        with contextlib.suppress(OSError):  # it has been closed before
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        protocol = FastCGIConnection({})
        digest, size = hashlib.sha256(), 0
        head: RequestHead | None = None
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65_536):
                events = protocol.receive_data(data)
                if values := protocol.data_to_send():
                    connection.sendall(values)
                for event in events:
                    if isinstance(event, RequestHead):
                        head, digest, size = event, hashlib.sha256(), 0
                    elif isinstance(event, Body):
                        digest.update(event.data)
                        size += len(event.data)
                    elif isinstance(event, BodyEnd):
                        assert head
                        self._answer(connection, protocol, head, f"{size} {digest.hexdigest()}")
                        if not head.keep_conn:
                            return

    def _answer(self, connection: socket.socket, protocol: FastCGIConnection, head: RequestHead, body: str) -> None:
        def send(data: bytes) -> None:
            for part in protocol.stdout(head.id, data):
                connection.sendall(part)

        match head.params.get("QUERY_STRING", ""):
            case "stream":
                send(STREAMED + b"first\n")
                self.gate.wait(20)
                send(b"last\n")
            case "cut":
                send(STREAMED + b"first\n")
                self.gate.wait(20)
                connection.sendall(protocol.abort())
                connection.shutdown(socket.SHUT_RDWR)
                return
            case "silent":
                self.gate.wait(20)
                return
            case "head":
                send(b"Status: 304 Not Modified\r\nETag: x\r\n\r\n")
            case "status":
                send(b"Status: 418 Short and stout\nContent-Type: text/plain\n\nteapot\n")
            case "nonsense":
                send(b"Traceback (most recent call last):\n  File\n\n")
            case "error":
                send(
                    b"Status: 500 Internal Server Error\r\nContent-Type: text/plain\r\n\r\nthe application's own page\n"
                )
            case _:
                text = json.dumps({"params": head.params, "repeats": head.repeats, "body": body})
                send(b"Content-Type: application/json\r\n\r\n" + text.encode())
        connection.sendall(protocol.end(head.id))


@contextlib.contextmanager
def responding(path: Path) -> Iterator[Responder]:
    responder = Responder(path)
    try:
        yield responder
    finally:
        responder.close()
