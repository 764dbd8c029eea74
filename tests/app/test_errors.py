"""What an application prints: whole lines, escaped, to both logs."""

from __future__ import annotations

import io
import sys
import threading
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app.errors import ErrorStream
from tests.app.memory import MemoryExchange


def written(*texts: str) -> list[str]:
    log: list[str] = []
    stream = ErrorStream(log.append)
    for text in texts:
        assert stream.write(text) == len(text)
    stream.flush()
    return log


@pytest.mark.parametrize(
    ("texts", "lines"),
    [
        (["one\n"], ["one"]),
        (["one\ntwo\n"], ["one", "two"]),
        (["o", "ne", "\nt", "wo"], ["one", "two"]),
        (["\n\n"], ["", ""]),
        ([""], []),
        (["tab\tkept\n"], ["tab\tkept"]),
        (["\x1b[31mred\r\n"], [r"\x1b[31mred\x0d"]),
        (["\0\x7f\x85\x9b\u2028\n"], [r"\x00\x7f\x85\x9b\u2028"]),
        (["café ☕\n"], ["café ☕"]),
        (["\udcff\n"], [r"\udcff"]),
        (["x" * 8192], ["x" * 8192]),
        (["x" * 8193], ["x" * 8192, "x"]),
        (["x" * 20_000 + "\ny"], ["x" * 8192, "x" * 8192, "x" * 3616, "y"]),
    ],
)
def test_lines(texts: list[str], lines: list[str]) -> None:
    assert written(*texts) == lines


@given(st.lists(st.text(max_size=10)))
def test_no_record_holds_a_control_character_and_nothing_is_lost(texts: list[str]) -> None:
    log = written(*texts)
    assert all(unicodedata.category(character) != "Cc" or character == "\t" for character in "".join(log))
    assert len(log) == len([*"".join(texts).split("\n")[:-1], *filter(None, "".join(texts).split("\n")[-1:])])


def test_a_long_partial_line_is_not_held() -> None:
    log: list[str] = []
    stream = ErrorStream(log.append)
    for _ in range(1024):
        stream.write("x" * 1024)
        assert len(stream.shared.text) <= 8192
    assert sum(map(len, log)) + len(stream.shared.text) == 1024 * 1024


def test_lines_go_to_the_front_end_while_a_request_runs() -> None:
    log: list[str] = []
    stream = ErrorStream(log.append)
    exchange = MemoryExchange()
    stream.write("before\n")
    stream.exchange = exchange
    stream.write("dur\x1bing\n")
    stream.exchange = None
    stream.write("after\n")
    assert log == ["before", r"dur\x1bing", "after"]
    assert exchange.errors == [r"dur\x1bing"]


@pytest.mark.parametrize("wrong", [b"bytes", 1, None])
def test_only_text_can_be_written(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"must be str, not"):
        ErrorStream(print).write(wrong)


def test_it_is_a_text_stream_that_stays_open() -> None:
    log: list[str] = []
    stream = ErrorStream(log.append)
    assert isinstance(stream, io.TextIOBase)
    assert (stream.writable(), stream.readable(), stream.isatty()) == (True, False, False)
    assert (stream.encoding, stream.errors, stream.fileno()) == ("utf-8", "backslashreplace", 2)
    stream.write("partial")
    stream.close()
    assert not stream.closed
    print("more", "words", file=stream)
    stream.writelines(["a\n", "b\n"])
    assert log == ["partial", "more words", "a", "b"]


def test_it_can_stand_for_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr(sys, "stdout", ErrorStream(log.append))
    print("hello")
    assert log == ["hello"]


def test_threads_do_not_tear_each_others_lines() -> None:
    log: list[str] = []
    stream = ErrorStream(log.append)

    def write(letter: str) -> None:
        for _ in range(500):
            stream.write(letter * 50 + "\n")

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(log) == sorted(letter * 50 for letter in "abcd" for _ in range(500))


def test_a_signal_handler_may_print_while_its_thread_prints() -> None:
    log: list[str] = []
    stream = ErrorStream(lambda line: log.append(line) or (line == "outer" and stream.write("inner\n")))
    stream.write("outer\nnext\n")
    assert log == ["outer", "inner", "next"]


def test_threads_that_have_entered_have_lines_and_exchanges_of_their_own() -> None:
    log: list[str] = []
    stream = ErrorStream(log.append)
    exchanges = {name: MemoryExchange() for name in "ab"}
    together = threading.Barrier(2)

    def request(name: str) -> None:
        stream.enter()
        stream.exchange = exchanges[name]
        stream.write(f"{name} on")
        together.wait(10)
        stream.write("e\n")
        stream.write(f"{name} rest")
        stream.flush()

    stream.write("nobody's ")
    threads = [threading.Thread(target=request, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stream.exchange is None
    stream.write("line\n")
    assert sorted(log) == ["a one", "a rest", "b one", "b rest", "nobody's line"]
    for name, exchange in exchanges.items():
        assert exchange.errors == [f"{name} one", f"{name} rest"]
