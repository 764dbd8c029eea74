"""The scoreboard between processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from gateway.process import scoreboard
from gateway.process.scoreboard import BOUNDS, NOTHING, Counts, Row, Scoreboard, Slot
from tests.compiling import ROW, compile_extension, load
from tests.waiting import wait_until

PID = os.getpid()
GET = {"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "gateway.application": "shop"}


@pytest.fixture(scope="module", params=["python", "c"], autouse=True)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[Row]]:
    """Which rows workers have meanwhile."""
    found = Row
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "c":
            patch.delenv("GATEWAY_PURE", raising=False)
            compiled = load("gateway.process._row", compile_extension(ROW, tmp_path_factory.mktemp("row")))
            assert compiled.LAYOUT == (scoreboard._WORDS, scoreboard._COUNTERS_START, 5, scoreboard._BOUNDS_NS)
            found = compiled.Row
        patch.setattr(scoreboard, "row_type", lambda: found)
        yield found


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    board = Scoreboard(2, ["", "a.example", "*.example"])
    yield board
    board.close()


def rows(board: Scoreboard, slot: int = 0) -> tuple[Row, ...]:
    """The rows of a new worker in this process."""
    board.use(slot)
    return Slot(board.fd, board.layout).take(slot)


def test_a_new_slot_says_nothing(board: Scoreboard) -> None:
    assert board.read(2, PID) == (NOTHING, NOTHING)
    assert board.counts(2, PID) == Counts()
    assert board.accepted() == 0


def test_what_a_worker_writes_is_read(board: Scoreboard) -> None:
    row, _ = rows(board, 2)
    request = {
        "REQUEST_METHOD": "POST",
        "REQUEST_URI": "/cart?item=caf\xe9",
        "CONTENT_LENGTH": "12",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_USER": "eve",
    }
    row.begin(GET | request, "a.example")
    found, other = board.read(2, PID)
    assert (found.pid, found.busy, found.requests, found.length) == (PID, True, 0, 12)
    assert (found.method, found.host, found.uri) == ("POST", "a.example", "/cart?item=caf\xe9")
    assert (found.application, found.address, found.user) == ("shop", "192.0.2.1", "eve")
    assert 0 <= found.seconds < 5
    assert not other.busy
    row.end(1, 200, None)
    found, _ = board.read(2, PID)
    assert (found.busy, found.requests, found.uri) == (False, 1, "/cart?item=caf\xe9")
    assert 0 < found.lasted < 5
    assert found.ran == found.lasted
    assert board.read(1, PID) == (NOTHING, NOTHING)


def test_what_another_process_has_written_is_not_read(board: Scoreboard) -> None:
    row, _ = rows(board)
    row.begin(GET, "a.example")
    row.end(1, 200, None)
    assert board.read(0, PID + 1) == (NOTHING, NOTHING)
    assert board.counts(0, PID + 1) == Counts()


def test_requests_are_counted_by_host_and_class_and_time(board: Scoreboard) -> None:
    first, second = rows(board)
    for row, label, status, waited in ((first, 1, 200, 0.004), (first, 2, 404, None), (second, 1, 204, 70.0)):
        row.begin(GET, "a.example")
        row.end(label, status, waited)
    second.end(0, 503, None)  # never run
    second.begin(GET, "a.example")
    first.shed()
    first.gone()
    second.lose()
    counts = board.counts(0, PID)
    assert counts.answers == {("a.example", "2xx"): 2, ("*.example", "4xx"): 1, ("", "5xx"): 1}
    assert (counts.requests, counts.shed, counts.gone, counts.lost) == (5, 1, 1, 1)
    assert (sum(counts.run), sum(counts.wait)) == (3, 2)
    assert (counts.wait[BOUNDS.index(0.005)], counts.wait[-1]) == (1, 1)
    assert counts.wait_sum == pytest.approx(70.004)
    assert 0 < counts.run_sum < 5


def test_counts_add_up() -> None:
    total = Counts(answers={("a", "2xx"): 1})
    total.add(Counts(requests=2, shed=1, gone=3, lost=4, run_sum=0.5, answers={("a", "2xx"): 2, ("b", "5xx"): 1}))
    assert (total.requests, total.shed, total.gone, total.lost, total.run_sum) == (2, 1, 3, 4, 0.5)
    assert total.answers == {("a", "2xx"): 3, ("b", "5xx"): 1}


def test_a_status_that_is_none_is_counted_as_an_error(board: Scoreboard) -> None:
    row, _ = rows(board)
    row.end(0, 999, None)
    assert board.counts(0, PID).answers == {("", "5xx"): 1}


def test_a_connection_is_stale_up_to_the_count_that_the_master_names(board: Scoreboard) -> None:
    first, second = *rows(board, 0)[:1], *rows(board, 3)[:1]
    assert not first.accepted()
    board.expire(3)
    assert [second.accepted(), first.accepted(), second.accepted()] == [True, True, False]
    assert board.accepted() == 4
    board.expire(0)
    assert not first.accepted()


def test_a_uri_longer_than_the_row_is_cut(board: Scoreboard) -> None:
    row, _ = rows(board)
    row.begin(GET | {"REQUEST_URI": "/" + "x" * 5_000, "CONTENT_LENGTH": "9" * 30}, "a")
    uri = board.read(0, PID)[0].uri
    assert uri.startswith("/xxx")
    assert len(uri) < 1_024


def test_a_successor_begins_anew(board: Scoreboard) -> None:
    row, _ = rows(board)
    row.accepted()
    row.begin(GET, "a")
    row.end(1, 200, 1.0)
    row.begin(GET, "a")
    rows(board)
    assert not board.read(0, PID)[0].busy
    assert board.counts(0, PID) == Counts()
    assert board.accepted() == 1


def test_no_worker_can_shrink_it_under_the_master(board: Scoreboard) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(board.fd, 0)


def test_garbage_is_read_without_harm(board: Scoreboard) -> None:
    start = board.layout.start(0)
    os.pwrite(board.fd, b"\x01" + b"\xff" * (board.layout.slot - 1), start)
    assert board.read(0, PID)[0] == NOTHING
    os.pwrite(board.fd, b"\x02" + b"\xff" * (board.layout.row - 1), start)
    [found] = [thread for thread in board.read(0, (1 << 64) - 1) if thread.busy]
    assert found.requests > 0
    assert board.counts(0, (1 << 64) - 1).requests > 0
    os.pwrite(board.fd, b"\xff" * board.layout.header, 0)
    assert board.accepted() == 0  # none has been used as far as the master knows


def test_a_reader_never_sees_half_of_a_change(board: Scoreboard) -> None:
    board.use(0)
    pid = os.fork()
    if pid == 0:
        row, _ = Slot(board.fd, board.layout).take(0)
        while True:
            for letter in "ab":
                row.begin(GET | {"REQUEST_URI": letter * 200}, letter * 200)
    seen = set()

    def both_seen() -> bool:
        activities = (board.read(0, pid)[0] for _ in range(5_000))
        seen.update((activity.host, activity.uri) for activity in activities if activity.busy)
        return len(seen) >= 2

    try:
        wait_until(both_seen)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert seen == {("a" * 200, "a" * 200), ("b" * 200, "b" * 200)}


def test_a_request_is_meant_only_while_it_runs(board: Scoreboard) -> None:
    _, row = rows(board, 1)
    board.mean(1, 1, 0)
    assert not row.is_meant()
    row.begin(GET, "a")
    assert row.is_meant()
    assert board.read(1, PID)[1].uri == "/"
    row.end(0, 200, None)
    row.begin(GET, "a")
    assert not row.is_meant()
    board.mean(1, 1, board.read(1, PID)[1].requests)
    assert row.is_meant()
    assert not rows(board, 1)[1].is_meant()


def test_a_count_that_no_worker_can_have_does_no_harm(board: Scoreboard) -> None:
    board.mean(0, 0, 2**64 - 1)
    assert not rows(board)[0].is_meant()


def run(row: Row, seconds: float) -> None:
    """A request that takes so long."""
    row.begin(GET, "a.example")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    row.end(0, 200, None)


def test_sharing_helps_where_others_wait_for_work(board: Scoreboard) -> None:
    mine, other = rows(board)
    assert not mine.should_share()
    run(mine, 0.001)
    assert mine.should_share()
    other.begin(GET, "a.example")
    assert not mine.should_share()
    third, fourth = rows(board, 1)
    assert mine.should_share()
    third.begin(GET, "a.example")
    assert mine.should_share()
    fourth.begin(GET, "a.example")
    assert not mine.should_share()
    third.end(0, 200, None)
    assert mine.should_share()
    board.leave(1)
    assert not mine.should_share()


def test_sharing_does_not_help_where_requests_take_less_than_it_costs(board: Scoreboard) -> None:
    mine, _ = rows(board)
    run(mine, 0.001)
    for _ in range(1_000):
        run(mine, 0)
        if board.read(0, PID)[0].lasted < 0.0001:
            break
    else:
        pytest.fail("no request of a thousand that do nothing took less than 0.1 ms")
    assert not mine.should_share()


def test_what_is_not_latin_1_is_shown_all_the_same(board: Scoreboard) -> None:
    row, _ = rows(board)
    row.begin(GET | {"REQUEST_URI": "/\u20ac", "REMOTE_USER": "\xe9" * 2_000}, "a.example")
    found, _ = board.read(0, PID)
    assert set(found.user) == {"\xe9"}
    row.begin(GET | {"REQUEST_URI": "/\u20ac"}, "a.example")
    assert board.read(0, PID)[0].uri == "/?"


def test_bounds_of_histograms_and_the_longest_body(board: Scoreboard) -> None:
    row, _ = rows(board)
    for seconds in (0.0, 0.001, 0.0011, 60.0, 1e6):
        row.begin(GET | {"CONTENT_LENGTH": "9" * 18}, "a.example")
        row.end(1, 599, seconds)
    assert board.read(0, PID)[0].length == 10**18 - 1
    counts = board.counts(0, PID)
    assert (counts.wait[0], counts.wait[1], counts.wait[-2], counts.wait[-1]) == (2, 1, 1, 1)
    assert counts.answers == {("a.example", "5xx"): 5}
