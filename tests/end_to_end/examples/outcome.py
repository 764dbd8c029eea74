"""What came of trying a feature of an example behind a front-end."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """A cell of the page."""

    table: str
    example: str
    front: str
    feature: str
    failure: str = ""  # the traceback, where there is one


def tried(
    table: str, example: str, front: str, features: Mapping[str, Callable[[T], None]], where: T
) -> Iterator[Outcome]:
    """Try each feature, given where the example is."""
    for feature, check in features.items():
        try:
            check(where)
            failure = ""
        except Exception:
            failure = traceback.format_exc()
        yield Outcome(table, example, front, feature, failure)
