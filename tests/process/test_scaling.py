"""How many workers a pool wants."""

from __future__ import annotations

import pytest

from gateway.process.scaling import Load, Plan, Scaling, dispensable, lacking, needed
from gateway.settings import Pool, ProcessManager

STATIC, DYNAMIC, ONDEMAND = ProcessManager


@pytest.mark.parametrize(("pm", "servers"), [(STATIC, 4), (DYNAMIC, 2), (ONDEMAND, 0)])
def test_the_number_at_the_start(pm: ProcessManager, servers: int) -> None:
    assert Scaling.of(Pool(pm=pm)).at_start == servers


def test_a_plan_is_read_from_the_settings_in_milliseconds() -> None:
    pool = Pool(pm=ONDEMAND, start_timeout=1.5, process_control_timeout=2)
    assert Plan.of(pool) == Plan(Scaling.of(pool), 1_500, 2_000)


def test_start_servers_may_be_given_and_never_exceeds_max_children() -> None:
    assert Scaling.of(Pool(pm=DYNAMIC, start_servers=3)).at_start == 3
    assert Scaling.of(Pool(pm=DYNAMIC, start_servers=9)).at_start == 4


@pytest.mark.parametrize(
    ("pm", "load", "need"),
    [
        (STATIC, Load(3, {}, 9), 12),
        (DYNAMIC, Load(3, {}, 9), 13),
        (DYNAMIC, Load(3, {7: 0}, 9), 4),
        (ONDEMAND, Load(3, {}, 9), 12),
        (ONDEMAND, Load(0, {}, 0), 0),
    ],
)
def test_what_a_load_needs(pm: ProcessManager, load: Load, need: int) -> None:
    assert needed(Scaling.of(Pool(pm=pm)), load) == need


@pytest.mark.parametrize(
    ("pm", "load", "slots"),
    [
        (STATIC, Load(0, {0: 99_000, 1: 99_000}, 0), []),
        (ONDEMAND, Load(0, {0: 10_000, 1: 9_999}, 0), [0]),
        (ONDEMAND, Load(0, {0: 10_000, 1: 9_999}, 1), []),
        (DYNAMIC, Load(0, {0: 11_000, 1: 12_000, 2: 13_000, 3: 14_000}, 0), [3]),
    ],
)
def test_who_is_dispensable(pm: ProcessManager, load: Load, slots: list[int]) -> None:
    assert dispensable(Scaling.of(Pool(pm=pm)), load) == slots


@pytest.mark.parametrize(
    ("sought", "load", "slots"),
    [
        (1, Load(0, {0: 5, 1: 7, 2: 6}, 0), [1]),
        (2, Load(0, {0: 5, 1: 7, 2: 6}, 0), [1, 2]),
        (9, Load(0, {0: 5, 1: 7, 2: 6}, 0), [1, 2]),  # min_spare_servers stay
        (9, Load(0, {0: 5, 1: 7, 2: 6}, 1), []),
        (9, Load(3, {}, 0), []),
        (-1, Load(0, {0: 5, 1: 7, 2: 6}, 0), []),
        (1, Load(0, {0: 11_000, 1: 12_000, 2: 13_000, 3: 14_000, 4: 15_000}, 0), [4, 3]),  # two had to go anyway
    ],
)
def test_who_goes_at_once_for_the_sake_of_other_pools(sought: int, load: Load, slots: list[int]) -> None:
    scaling = Scaling.of(Pool(pm=DYNAMIC, min_spare_servers=1, max_spare_servers=3))
    assert dispensable(scaling, load, sought) == slots


def test_an_ondemand_pool_keeps_no_spare_ones_for_itself() -> None:
    assert dispensable(Scaling.of(Pool(pm=ONDEMAND)), Load(1, {0: 5, 1: 7}, 0), 9) == [1, 0]


@pytest.mark.parametrize(
    ("load", "wanted", "lack"),
    [
        (Load(2, {}, 3), 2, 2),  # max_children is 4
        (Load(2, {}, 1), 2, 1),
        (Load(2, {}, 1), 3, 0),  # one is on its way
        (Load(2, {}, 0), 2, 0),  # a spare one would be idle
        (Load(2, {5: 1}, 3), 3, 0),
    ],
)
def test_how_many_workers_a_pool_lacks(load: Load, wanted: int, lack: int) -> None:
    assert lacking(Scaling.of(Pool(pm=DYNAMIC)), load, wanted) == lack
