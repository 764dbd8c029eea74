"""When the next start may be: the policy's tests play it through; these are its numbers."""

from __future__ import annotations

from gateway.process.backoff import Backoff


def test_failures_double_the_pause_up_to_half_a_minute() -> None:
    starts = Backoff()
    pauses = []
    for _ in range(11):
        starts.failed(0)
        pauses.append(starts.earliest(0, 1))
    assert pauses == [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]
    starts.go_on()
    assert starts.earliest(0, 1) == 0


def test_failures_for_a_fifth_of_a_second_are_for_long() -> None:
    starts = Backoff()
    assert [starts.failed(now) for now in (0, 100, 199, 200, 10_000)] == [False] * 3 + [True] * 2
    starts = Backoff()
    assert not any(starts.failed(now) for now in range(0, 100_000, 30_000))  # each is forgotten by the next


def test_a_worker_that_serves_makes_failures_forgotten() -> None:
    starts = Backoff()
    assert not starts.failed(0)
    starts.served()
    assert starts.failures == 0
    assert not starts.failed(1_000)


def test_fifty_starts_a_second_or_twice_max_children() -> None:
    for max_children, most in ((4, 50), (40, 80)):
        starts = Backoff()
        for _ in range(most):
            assert starts.earliest(5, max_children) == 0
            starts.started(5)
        assert starts.earliest(6, max_children) == 1_006
        assert starts.earliest(1_006, max_children) == 0
