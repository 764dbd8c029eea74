"""Reads and writes that wait no longer than they may."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.net.stream import Stream, StreamClosed
from tests.waiting import wait_until


@pytest.fixture
def ends() -> Iterator[tuple[Stream, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Stream(ours), theirs


def test_nothing_bytes_and_the_end_are_told_apart(ends: tuple[Stream, socket.socket]) -> None:
    stream, theirs = ends
    assert (stream.has_come(), stream.receive_now()) == (False, None)
    theirs.send(b"bytes")
    assert (stream.has_come(), stream.receive_now()) == (True, b"bytes")
    theirs.close()
    assert (stream.has_come(), stream.receive_now()) == (True, b"")


def test_reset_is_an_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as theirs:
        ours, _ = listener.accept()
        stream = Stream(ours)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        wait_until(stream.has_come)
        assert stream.receive(5) == b""
        stream.end_sending()
        stream.close()


def test_receive_waits_for_bytes_but_not_for_ever(ends: tuple[Stream, socket.socket]) -> None:
    stream, theirs = ends
    later = threading.Timer(0.05, theirs.send, [b"late"])
    later.start()
    assert stream.receive(5) == b"late"
    later.join()
    with pytest.raises(TimeoutError, match=r"0\.05 seconds"):
        stream.receive(0.05)


def test_send_waits_for_a_slow_reader(ends: tuple[Stream, socket.socket]) -> None:
    stream, theirs = ends
    parts = [bytes([number]) * 100_000 for number in range(50)]
    read = bytearray()

    def reading() -> None:
        while piece := theirs.recv(30_000):
            read.extend(piece)

    thread = threading.Thread(target=reading)
    thread.start()
    stream.send(parts, 5)
    stream.end_sending()
    thread.join()
    assert read == b"".join(parts)


def test_send_gives_up_on_who_reads_nothing(ends: tuple[Stream, socket.socket]) -> None:
    stream, _ = ends
    began = time.monotonic()
    with pytest.raises(StreamClosed, match=r"took nothing for 0\.1 seconds"):
        stream.send([bytes(10_000_000)], 0.1)
    assert time.monotonic() - began < 5


def test_send_to_who_is_gone(ends: tuple[Stream, socket.socket]) -> None:
    stream, theirs = ends
    theirs.close()
    with pytest.raises(StreamClosed, match="Broken pipe"):
        stream.send([b"x", b"y"], 5)


def test_waiting_until_all_is_read(ends: tuple[Stream, socket.socket]) -> None:
    stream, theirs = ends
    stream.wait_until_read(5)  # nothing was sent
    stream.send([b"unread"], 5)
    began = time.monotonic()
    stream.wait_until_read(0.05)
    assert time.monotonic() - began >= 0.05
    later = threading.Timer(0.05, theirs.recv, [100])
    later.start()
    stream.wait_until_read(20)
    assert time.monotonic() - began < 10
    later.join()


def test_waiting_ends_with_who_is_gone(ends: tuple[Stream, socket.socket]) -> None:
    stream, theirs = ends
    stream.send([b"unread"], 5)
    theirs.close()
    began = time.monotonic()
    stream.wait_until_read(20)
    assert time.monotonic() - began < 10


def test_default_timeout_does_not_hold(ends: tuple[Stream, socket.socket]) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(15)
    with ours, theirs:
        began = time.monotonic()
        assert Stream(ours).receive_now() is None
        assert time.monotonic() - began < 4
