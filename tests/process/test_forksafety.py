"""What is found in a process that has imported an application."""

from __future__ import annotations

import _thread
import socket
import threading
from pathlib import Path

from gateway.process.forksafety import Census
from tests.waiting import wait_until


def test_nothing_new_is_nothing() -> None:
    assert Census().added() == []


def test_a_thread_is_named_and_unsafe() -> None:
    end = threading.Event()
    census = Census()
    thread = threading.Thread(target=end.wait, name="poller")
    thread.start()
    try:
        (found,) = census.added()
        assert (found.text, found.unsafe) == ("the thread 'poller'", True)
    finally:
        end.set()
        thread.join()


def test_a_thread_without_a_name_is_found_too() -> None:
    begun, end, over = threading.Event(), threading.Event(), threading.Event()

    def run() -> None:
        begun.set()
        end.wait()
        over.set()

    census = Census()
    _thread.start_new_thread(run, ())
    assert begun.wait(10)
    try:
        (found,) = census.added()
        assert (found.text, found.unsafe) == ("the thread 'without a name'", True)
    finally:
        end.set()
        assert over.wait(10)
    wait_until(lambda: census.added() == [])


def test_a_tcp_connection_is_named_by_its_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        census = Census()
        with socket.create_connection(("127.0.0.1", port)):
            (found,) = census.added()
            assert (found.text, found.unsafe) == (f"a connection to 127.0.0.1:{port}", True)
        assert census.added() == []


def test_a_unix_connection_is_named_by_its_path(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        census = Census()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            assert [found.text for found in census.added()] == [f"a connection to {tmp_path}/s"]


def test_what_cannot_be_read_twice_is_left_alone() -> None:
    """A listener has no peer, and a datagram socket's messages do not mix."""
    census = Census()
    with (
        socket.create_server(("127.0.0.1", 0)),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket() as unconnected,
    ):
        datagrams.connect(("127.0.0.1", 9))
        assert unconnected.fileno() >= 0
        assert census.added() == []
