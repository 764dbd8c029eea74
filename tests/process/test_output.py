"""What a process writes becomes whole records of the error log with its process ID, however it comes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from gateway.process.handles import Source
from gateway.process.output import Output, PoolLogs
from gateway.settings import Pool


class Watching:
    """A loop that only notes what it watches."""

    def __init__(self) -> None:
        self.watched: set[int] = set()

    def watch(self, source: Source, callback: Callable[[], None]) -> None:
        self.watched.add(source.fileno())

    def forget(self, source: Source) -> None:
        self.watched.discard(source.fileno())

    def owns(self, pid: object) -> bool:
        return False


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """The records of the error log since it was asked last, without their times."""
    return lambda: [line.partition(" [")[2] for line in capfd.readouterr().err.splitlines()]


@pytest.fixture
def loop() -> Watching:
    return Watching()


@pytest.fixture
def logs(loop: Watching) -> Iterator[PoolLogs]:
    logs = PoolLogs("main", loop)
    yield logs
    logs.close()
    assert loop.watched == set()


def of_process(output: Output, pid: int = 42) -> None:
    output.process = SimpleNamespace(pid=pid)


def test_records_are_whole_lines(logs: PoolLogs, said: Callable[[], list[str]]) -> None:
    with logs.catch() as (output, writing):
        of_process(output)
        os.write(writing, b"one\ntw")
        output.hear()
        assert said() == ["42] one"]
        os.write(writing, b"o\n\nthree \xff\x07\n<4>four\n")
        output.hear()
        assert said() == ["42] two", "42] ", r"42] three \xff\x07", "42] four"]
        with pytest.raises(BlockingIOError):
            os.read(output.fileno(), 1)


def test_the_end_ends_the_last_line(logs: PoolLogs, loop: Watching, said: Callable[[], list[str]]) -> None:
    with logs.catch() as (output, writing):
        of_process(output)
        os.write(writing, b"unfinished")
        output.hear()
    assert said() == []
    assert loop.watched == {output.fileno()}
    output.hear()
    assert said() == ["42] unfinished"]
    assert (output.fileno(), loop.watched) == (-1, set())
    output.drain()
    output.close()


def test_nothing_is_read_before_it_is_known_whose_it_is(logs: PoolLogs, said: Callable[[], list[str]]) -> None:
    with logs.catch() as (output, writing):
        os.write(writing, b"early\n")
        output.hear()
        assert said() == []
        output.drain()  # it has ended before it could say
        assert said() == ["0] early"]
        os.write(writing, b"of a child that outlives it\n")
        output.hear()
        assert said() == ["0] of a child that outlives it"]


def test_a_process_that_could_not_be_started_leaves_nothing(logs: PoolLogs, loop: Watching) -> None:
    with pytest.raises(FileNotFoundError), logs.catch() as (output, _):
        raise FileNotFoundError
    assert (output.fileno(), loop.watched) == (-1, set())


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_long_lines_are_several_records(logs: PoolLogs, said: Callable[[], list[str]], end: bytes) -> None:
    with logs.catch() as (output, writing):
        of_process(output)
        os.write(writing, b"x" * 20_000 + end)
        output.drain()
    assert [len(line) for line in said()] == [8192 + 4, 8192 + 4, 3616 + 4]


def test_one_round_reads_no_more_than_its_share(logs: PoolLogs, said: Callable[[], list[str]]) -> None:
    with logs.catch() as (output, writing):
        of_process(output)
        os.write(writing, b"1234567\n" * 5000)
        output.hear()
        assert len(said()) == 2048
        output.drain()
        assert len(said()) == 5000 - 2048


def test_a_log_that_cannot_be_opened_leaves_the_old_one(
    tmp_path: Path, loop: Watching, said: Callable[[], list[str]]
) -> None:
    logs = PoolLogs("main", loop)
    logs.take_up(Pool(access_log=str(tmp_path / "log")))
    (tmp_path / "log").unlink()
    logs.take_up(Pool(access_log=str(tmp_path / "none" / "log")))
    assert said()[0].endswith(f"pool main: access log: cannot open {tmp_path}/none/log: No such file or directory")
    assert logs.reopen([]) == ""
    assert (tmp_path / "log").exists()
    logs.take_up(Pool())
    assert logs.reopen([]) == ""
    logs.close()
