"""Handing connections from process to process."""

from __future__ import annotations

import socket

from gateway.net.kept import KeptQueue


def test_a_connection_goes_through_with_what_was_not_read_of_it() -> None:
    queue = KeptQueue.create()
    front, ours = socket.socketpair()
    front.sendall(b"next request")
    assert queue.give(ours, kept=True)
    ours.close()
    handed = queue.take()
    assert handed is not None
    taken, had_request = handed
    assert had_request
    assert taken.socket.recv(100) == b"next request"
    taken.socket.sendall(b"answer")
    assert front.recv(100) == b"answer"
    for end in (front, taken):
        end.close()
    queue.close()


def test_an_empty_queue_gives_none() -> None:
    queue = KeptQueue.create()
    assert queue.take() is None
    queue.close()


def test_a_full_queue_refuses_and_loses_nothing() -> None:
    queue = KeptQueue.create()
    front, ours = socket.socketpair()
    given = 0
    while queue.give(ours, kept=True):
        given += 1
        assert queue.waiting() == given
    taken = []
    while (handed := queue.take()) is not None:
        taken.append(handed[0])
    assert len(taken) == given > 0
    for end in (front, ours, *taken):
        end.close()
    queue.close()


def test_the_end_of_the_queue_ends_what_is_in_it() -> None:
    queue = KeptQueue.create()
    front, ours = socket.socketpair()
    queue.give(ours, kept=True)
    ours.close()
    queue.close()
    assert front.recv(1) == b""
    front.close()
