"""Records: how they are declared, made, refused, compared and changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from gateway.record import MISSING, Record, as_dict, field, fields, replace


class Point(Record):
    """Two numbers."""

    x: int
    y: int = 2
    labels: dict[str, str] = field(factory=dict, text="by language")
    made: ClassVar[int] = 7
    unit = "mm"

    @property
    def total(self) -> int:
        """Both together."""
        return self.x + self.y

    def moved(self, by: int) -> Point:
        """Further to the right."""
        return replace(self, x=self.x + by)

    @classmethod
    def origin(cls) -> Point:
        """Where it begins."""
        return cls(0, 0)


class Other(Record):
    """The same fields in another class."""

    x: int
    y: int = 2
    labels: dict[str, str] = field(factory=dict)


class Tally(Record, frozen=False):
    """One that changes."""

    count: int = 0
    names: list[str] = field(factory=list)


class Nothing(Record):
    """No field at all."""


def values(point: Point) -> tuple[object, ...]:
    return point.x, point.y, point.labels


def test_is_made_by_position_and_by_keyword() -> None:
    assert values(Point(1)) == (1, 2, {})
    assert values(Point(1, 5)) == (1, 5, {})
    assert values(Point(1, labels={"en": "one"})) == (1, 2, {"en": "one"})
    assert values(Point(labels={}, y=4, x=3)) == (3, 4, {})
    assert Point(1).labels is not Point(1).labels
    assert Nothing() == Nothing()


@pytest.mark.parametrize(
    ("arguments", "named", "message"),
    [
        ((), {}, "Point() is missing the argument 'x'"),
        ((1, 2, {}, 4), {}, "Point() takes 3 arguments but 4 were given"),
        ((1,), {"x": 1, "y": 2}, "Point() got two values for the argument 'x'"),
        ((), {"x": 1, "z": 2, "a": 3}, "Point() got an unexpected argument 'a', 'z'"),
        ((), {"z": 2}, "Point() got an unexpected argument 'z'"),
        ((), {"x": 1, "unit": "m"}, "Point() got an unexpected argument 'unit'"),
    ],
)
def test_refuses_wrong_arguments(arguments: tuple[object, ...], named: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError) as refused:
        Point(*arguments, **named)  # type: ignore[arg-type]
    assert str(refused.value) == message


def test_does_not_change() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match=r"^Point\.x cannot be set; gateway\.record\.replace makes"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match=r"^Point\.other cannot be set"):
        point.other = 2
    with pytest.raises(AttributeError, match=r"^Point\.x cannot be deleted$"):
        del point.x
    assert point == Point(1)
    assert not hasattr(point, "__dict__")


def test_changes_where_the_class_says_so() -> None:
    tally = Tally()
    tally.count += 1
    tally.names.append("one")
    assert tally == Tally(1, ["one"])
    assert replace(tally, count=2) == Tally(2, names=["one"])
    with pytest.raises(AttributeError):
        tally.other = 1
    del tally.count
    assert not hasattr(tally, "count")
    with pytest.raises(TypeError, match="unhashable"):
        hash(tally)


def test_replace_makes_a_changed_copy() -> None:
    point = Point(1, labels={"en": "one"})
    assert values(replace(point, x=3)) == (3, 2, {"en": "one"})
    assert values(point) == (1, 2, {"en": "one"})
    with pytest.raises(TypeError, match=r"^Point\(\) got an unexpected argument 'z'$"):
        replace(point, z=1)


def test_is_equal_to_its_like_alone() -> None:
    assert Point(1) == Point(1, 2)
    assert Point(1) != Point(2)
    assert Point(1) != Other(1)
    assert Point(1) != (1, 2, {})
    assert hash(Point(1, labels=None)) == hash(Point(1, labels=None))  # type: ignore[arg-type]
    assert len({Nothing(), Nothing()}) == 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(Point(1))


def test_is_shown_as_it_is_made() -> None:
    assert repr(Point(1)) == "Point(x=1, y=2, labels={})"
    assert repr(Nothing()) == "Nothing()"


def test_the_rest_of_the_class_body_is_as_it_was() -> None:
    assert Point.__doc__ == "Two numbers."
    assert (Point(1).total, Point(1).moved(2).x, Point.origin().y, Point.made, Point(1).unit) == (3, 3, 0, 7, "mm")


def test_matches_by_position_and_by_keyword() -> None:
    match Point(1):
        case Point(1, y=y):
            assert y == 2
        case _:
            pytest.fail("no match")


def test_says_what_was_declared() -> None:
    x, y, labels = fields(Point)
    assert [(f.name, f.default, f.factory, f.metadata) for f in (y, labels)] == [
        ("y", 2, None, {}),
        ("labels", MISSING, dict, {"text": "by language"}),
    ]
    assert (x.name, x.default) == ("x", MISSING)
    assert as_dict(Point(1)) == {"x": 1, "y": 2, "labels": {}}


def test_brings_nothing_beside_typing() -> None:
    code = (
        "import sys, typing; sys.path.insert(0, sys.argv[1]); import gateway; before = set(sys.modules); "
        "import gateway.record; print(set(sys.modules) - before)"
    )
    root = str(Path(__file__).parent.parent)
    shown = subprocess.run([sys.executable, "-S", "-E", "-c", code, root], capture_output=True, text=True, check=True)
    assert shown.stdout == "{'gateway.record'}\n"
