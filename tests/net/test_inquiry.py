"""Both ends of the console's channel: what is handed over, questions and answers, and the end of either side."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.net import inquiry
from gateway.net.inquiry import Inquirer, NoAnswer
from gateway.net.orders import GO_ON


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Inquirer]]:
    """The master's end, and the console's."""
    master, console = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    master.setblocking(False)
    inquirer = Inquirer(console.detach())
    with master, inquirer._socket:
        yield master, inquirer


def question(master: socket.socket) -> int:
    assert select.select([master], [], [], 10)[0]
    number: int = json.loads(master.recv(1000))["status"]
    return number


def test_listeners_are_handed_over_and_not_inherited(ends: tuple[socket.socket, Inquirer]) -> None:
    master, console = ends
    with socket.create_server(("127.0.0.1", 0)) as listener:
        inquiry.hand_over(master, [listener], ["192.0.2.7", "2001:db8::7"])
        (taken,), allowed = console.take_over()
        with taken:
            assert taken.getsockname() == listener.getsockname()
            assert not os.get_inheritable(taken.fileno())
    assert not os.get_inheritable(console.fileno())
    assert [str(address) for address in allowed] == ["192.0.2.7", "2001:db8::7"]


def test_an_answer_of_any_size_is_shared_for_a_while(
    ends: tuple[socket.socket, Inquirer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inquiry, "_SHARED", 20.0)  # longer than any machine takes to ask twenty times
    master, console = ends
    large = {"text": "x" * 1_000_000}
    answering = threading.Thread(target=lambda: inquiry.answer(master, question(master), large))
    answering.start()
    answers = [console.status() for _ in range(20)]
    answering.join(10)
    assert all(answer == large for answer in answers)
    assert not select.select([master], [], [], 0)[0]


def test_the_answer_to_an_earlier_question_is_not_taken_for_this_one(ends: tuple[socket.socket, Inquirer]) -> None:
    master, console = ends
    with pytest.raises(NoAnswer, match="has not answered within 1 s"):
        console.status()
    inquiry.answer(master, question(master), {"late": True})

    def answer() -> None:
        inquiry.answer(master, question(master), {"late": False})

    answering = threading.Thread(target=answer)
    answering.start()
    assert console.status() == {"late": False}
    answering.join(10)


def test_a_late_answer_is_nothing_to_the_driver_and_the_end_is(ends: tuple[socket.socket, Inquirer]) -> None:
    master, console = ends
    inquiry.answer(master, 7, {})
    assert console.recv(64) == GO_ON
    assert console.recv(64) == GO_ON  # nothing is there
    console.ready()
    assert json.loads(master.recv(100)) == {"ready": True}
    master.close()
    assert console.recv(64) == b""
    with pytest.raises(NoAnswer, match="has ended"):
        console.status()


def test_a_console_that_is_to_leave_answers_from_the_last_word(ends: tuple[socket.socket, Inquirer]) -> None:
    master, console = ends
    inquiry.answer(master, inquiry.LAST_WORD, {"said": "at last"})
    master.close()
    assert console.status() == {"said": "at last"}
    assert console.recv(64) == b""


def test_a_last_word_that_the_driver_has_read_is_remembered(ends: tuple[socket.socket, Inquirer]) -> None:
    master, console = ends
    inquiry.answer(master, inquiry.LAST_WORD, {"said": "at last"})
    assert console.recv(64) == GO_ON
    master.close()
    assert console.recv(64) == b""
    assert [console.status() for _ in range(2)] == [{"said": "at last"}] * 2


def test_a_last_word_is_heard_though_the_question_was_not(
    ends: tuple[socket.socket, Inquirer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a channel with something unread is an error, which is told before what was said."""
    master, console = ends
    wait = select.select

    def end(*arguments: Any) -> Any:
        """Let the master end the channel between the question and the wait for its answer."""
        if master.fileno() >= 0:
            inquiry.answer(master, inquiry.LAST_WORD, {"said": "at last"})
            master.close()
        return wait(*arguments)

    monkeypatch.setattr(inquiry.select, "select", end)
    assert console.status() == {"said": "at last"}


def test_a_question_that_was_asked_before_the_last_word_is_answered(ends: tuple[socket.socket, Inquirer]) -> None:
    master, console = ends

    def end() -> None:
        question(master)
        inquiry.answer(master, inquiry.LAST_WORD, {"said": "at last"})
        master.close()

    ending = threading.Thread(target=end)
    ending.start()
    assert console.status() == {"said": "at last"}
    ending.join(10)


def test_a_console_that_reads_nothing_does_not_hold_the_master_up(ends: tuple[socket.socket, Inquirer]) -> None:
    master, console = ends
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5_000):  # far more than the channel holds
        inquiry.answer(master, number, {})
    assert len(os.listdir("/proc/self/fd")) == before
    assert console.recv(64) == GO_ON
