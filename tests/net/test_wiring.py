"""What the quick way is made of: C and Python take it from the same record, or refuse what lacks a part of it."""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.app.errors import ErrorStream
from gateway.app.interruption import Interruption
from gateway.net.accesslog import access_log, open_log
from gateway.net.mover import Mover
from gateway.net.wiring import Wiring
from gateway.protocol.events import Limits
from gateway.record import as_dict, fields
from gateway.settings import Pool
from tests.net.driving import Board, listening

NAMES = [field.name for field in fields(Wiring)]
IN_C_ALONE = ["request_path", "mount", "whole_body", "file_wrapper"]  # Python imports them


class Parts:
    """Has the attributes of a Wiring, and notes which of them are taken."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.taken: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.taken.append(name)
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None


@pytest.fixture
def values(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Those of a whole Wiring, none of which is shared with anything else."""
    board = Board()
    access = access_log(open_log(str(tmp_path / "log")), Pool(), "main", lambda: None)
    with listening(tmp_path / "s") as listener:
        yield as_dict(
            Wiring(
                fallback=object(),  # type: ignore[arg-type] # nothing is asked of it
                interruption=Interruption(),
                mover=Mover(lambda: None),
                access=access,
                listeners=(listener,),
                queue_timeout=1.5,
                base={},
                hosts={},
                known=lambda environ: None,
                max_body=1_000_000,
                line=ErrorStream(print).shared,
                begin=board.begin,
                end=board.end,
                accepted=board.accepted,
                should_share=board.should_share,
                limits=Limits(params_size=1_000_000, params_count=1_000_000, name_size=1_000_000),
            )
        )
    access.close()


def counts(values: dict[str, Any]) -> dict[str, int]:
    """How many references there are to each."""
    gc.collect()
    return {name: sys.getrefcount(value) for name, value in values.items()}


def test_c_takes_each_attribute_once(extension: type, values: dict[str, Any]) -> None:
    parts = Parts(values)
    extension(parts)
    assert sorted(parts.taken) == sorted(NAMES)


def test_either_lets_go_of_all_that_it_has_taken(quick_type: type, values: dict[str, Any]) -> None:
    before = counts(values)
    for _ in range(10):
        quick_type(Parts(values))
    assert counts(values) == before


def check_refusals(quick_type: type, values: dict[str, Any], error: type[Exception], match: str) -> None:
    """It cannot be made of these, and then leaves none of them held."""
    before = counts(values)
    for _ in range(10):
        with pytest.raises(error, match=match):
            quick_type(Parts(values))
    assert counts(values) == before


@pytest.mark.parametrize("name", [name for name in NAMES if name not in IN_C_ALONE])
def test_either_names_the_attribute_that_is_missing(quick_type: type, values: dict[str, Any], name: str) -> None:
    del values[name]
    check_refusals(quick_type, values, AttributeError, name)


@pytest.mark.parametrize("name", IN_C_ALONE)
def test_c_names_the_attribute_that_is_missing(extension: type, values: dict[str, Any], name: str) -> None:
    del values[name]
    check_refusals(extension, values, AttributeError, name)


@pytest.mark.parametrize(
    ("name", "value", "error", "match"),
    [
        ("limits", object(), AttributeError, "params_size"),
        ("max_body", "much", TypeError, "str"),
        ("max_body", 1 << 64, OverflowError, "too big"),
        ("queue_timeout", "long", TypeError, "str"),
        ("listeners", (socket,), TypeError, "fileno"),
        ("listeners", (-1,), ValueError, "descriptor"),
        ("access", object(), AttributeError, "suppressed"),
    ],
)
def test_c_refuses_what_it_cannot_take(
    extension: type, values: dict[str, Any], name: str, value: Any, error: type[Exception], match: str
) -> None:
    check_refusals(extension, values | {name: value}, error, match)
