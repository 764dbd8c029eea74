"""Lines of the access log rendered in C beside Python: the same bytes, or left to Python."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.app.accessformat import Entry, compile_format, encode, items
from tests.app.test_accessformat import BEGAN, ENTRY, NONE, changed

Render = Callable[[str, Entry], bytes | None]
NAMES = ["SCRIPT_FILENAME", "REQUEST_METHOD", "REMOTE_ADDR", "REMOTE_USER", "REQUEST_URI", "QUERY_STRING",
         "CONTENT_LENGTH", "HTTP_HOST", "gateway.application", "wsgi.version"]  # fmt: skip
# But for memory, which may grow between one look and the other.
ATOMS = ["%%", "%C", "%{total}C", "%{user}C", "%{system}C", "%d", "%{seconds}d", "%{milli}d", "%{miliseconds}d",
         "%{milliseconds}d", "%{micro}d", "%{microseconds}d", *(f"%{{{name}}}e" for name in NAMES[:-1]), "%f", "%l",
         "%m", "%n", "%{Content-Type}o", "%{content-type}o", "%{X-Empty}o", "%{Type}o", "%{Status}o", "%{X}o", "%p",
         "%P", "%q", "%Q", "%r", "%R", "%s", "%t", "%T", "%{%s}t", "%{%s}T", "%{%H \"%M\\}t", "%{}t", "%u"]  # fmt: skip
FPM = '%R - %u %t "%m %r%Q%q" %s %f %{milli}d %C%%'
LONG = 4_096  # bytes of a line, with its end


class Text(str):
    """What is text, but not exactly."""


@pytest.fixture(scope="module")
def render(compiled: ModuleType) -> Render:
    """An entry's line by C, or None."""

    def by_c(text: str, entry: Entry, pool: str = "main") -> bytes | None:
        line = compiled.Line(items(text, pool))
        found: bytes | None = line.render(
            entry.params, entry.status, entry.complete, entry.head, entry.size, entry.began, entry.seconds, *entry.cpu
        )
        return found

    return by_c


def by_python(text: str, entry: Entry, pool: str = "main") -> bytes:
    return encode(compile_format(text, pool)(entry)) + b"\n"


@pytest.mark.parametrize("atom", [*ATOMS, "json"])
@pytest.mark.parametrize("entry", [ENTRY, NONE])
def test_each_atom(render: Render, atom: str, entry: Entry) -> None:
    text = atom if atom == "json" else f"a {atom} \u20ac"
    assert render(text, entry) == by_python(text, entry)


@pytest.mark.parametrize(("unit", "size"), [("", 1), ("{kilo}", 1 << 10), ("{megabytes}", 1 << 20)])
def test_peak_memory(render: Render, unit: str, size: int) -> None:
    shown = int(render(f"%{unit}M", ENTRY) or b"")
    assert shown == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / size, rel=0.1)


ASCII = st.text(st.characters(max_codepoint=127), max_size=30)
ODD = st.one_of(st.text(max_size=5), st.sampled_from([None, 3, b"x", Text("x"), Text(""), "x" * 4_000, "x" * 2_000]))
VALUES = st.one_of(ASCII, ASCII, ASCII, ODD)
TOKENS = st.sampled_from(["Content-Type", "X", "X-Empty", "x-empty", "Type"])
BLANKS = st.text(" \t", max_size=2)
HEADERS = st.tuples(
    TOKENS, BLANKS, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20), BLANKS
)  # fmt: skip
SECONDS = st.one_of(
    st.floats(0, 1e5), *(st.integers(0, most).map(lambda number: number / 1e9) for most in (10**6, 10**9))
)
CPU = st.floats(0, 100)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    headers = "".join(f"{name}:{before}{value}{after}\r\n" for name, before, value, after in draw(st.lists(HEADERS)))
    return Entry(
        draw(st.dictionaries(st.sampled_from(NAMES), VALUES)),
        draw(st.integers(200, 999)),
        draw(st.booleans()),
        f"Status: 200 OK\r\n{headers}".encode(),
        draw(st.integers(0, 1 << 40)),
        draw(st.floats(0, 4e9)),
        draw(SECONDS),
        (draw(CPU), draw(CPU)),
    )


LITERALS = st.text(max_size=5).filter(lambda text: text.isprintable() and "%" not in text)
FORMATS = st.one_of(
    st.sampled_from([FPM, "json"]), st.lists(st.one_of(st.sampled_from(ATOMS), LITERALS), max_size=12).map("".join)
)


def is_for_c(text: str, entry: Entry) -> bool:
    """Whether C is to render it: nothing in it is longer, or not plain text of ASCII."""
    plain = all(type(value) is str and value.isascii() for value in entry.params.values())
    return plain and len(by_python(text, entry)) < LONG - 4


@settings(max_examples=500, deadline=None)
@given(text=FORMATS, entry=entries(), pool=st.sampled_from(["main", "", "caf\xe9"]))
def test_any_line(render: Callable[..., bytes | None], text: str, entry: Entry, pool: str) -> None:
    line = render(text, entry, pool)
    if line is None:
        assert not is_for_c(text, entry)
    else:
        assert line == by_python(text, entry, pool)
        assert len(line) <= LONG


@pytest.mark.parametrize("value", ["caf\xe9", "\u20ac", "\ud800", Text("text"), 3, b"x"])
@pytest.mark.parametrize("atom", ["%m", "%r", "%q", "%Q", "%l", "%{HTTP_HOST}e", "json"])
def test_what_is_not_ascii_is_left_to_python(render: Render, atom: str, value: Any) -> None:
    params = dict.fromkeys(NAMES, value)
    assert render(atom, changed(params=params)) is None


@pytest.mark.parametrize("text", ["%r", "%r%%", "%r%s", "%m%r", "%r%d", "%r%t", "%r%{X-Empty}o", "%r%Q"])
def test_no_line_is_longer_than_a_pipe_takes(render: Render, text: str) -> None:
    rendered = 0
    for size in range(LONG - 60, LONG + 3):
        for mark in ("x", '"'):
            uri = ("/" + "x" * size)[: -3 if mark == '"' else None]
            entry = changed(params={"REQUEST_URI": uri[:-1] + mark, "REQUEST_METHOD": "GET"})
            line = render(text, entry)
            assert line is None or (line == by_python(text, entry) and len(line) <= LONG)
            rendered += line is not None
    assert rendered > 20


def test_a_second_is_made_text_once(compiled: ModuleType) -> None:
    seconds: list[int] = []

    def text_of(second: int) -> str:
        seconds.append(second)
        return str(second)

    line = compiled.Line((("t", text_of, 0, 0), ("", b" ", 0, 0), ("T", text_of, 0, 0)))
    for later in (0.0, 0.5, 0.8, 1.0):
        rendered = line.render({}, 200, True, b"", 0, BEGAN + later, 0.1, 0.0, 0.0)
        assert rendered == b"%d %d\n" % (int(BEGAN + later), int(BEGAN + later + 0.1))
    assert seconds == [1_700_000_000, 1_700_000_000, 1_700_000_001, 1_700_000_001]


def test_what_fails_for_a_second_fails_for_the_line(compiled: ModuleType) -> None:
    def text_of(second: int) -> str:
        raise LookupError(second)

    with pytest.raises(LookupError):
        compiled.Line((("t", text_of, 0, 0),)).render({}, 200, True, b"", 0, BEGAN, 0.1, 0.0, 0.0)


@pytest.mark.parametrize(
    "item",
    [
        ("x", None, 0, 0), ("", "text", 0, 0), ("o", None, 0, 0), ("e", b"X", 0, 0), ("t", None, 0, 0),
        ("M", None, 0, 0), ("C", None, 3, 0), ("C", None, -1, 0),
        ("j", (b"", b""), 0, 0), ("j", ("", "X"), 0, 0), ("j", (), 0, 0),
        ("j", None, 0, 0), ("\xe9", None, 0, 0),
    ],
)  # fmt: skip
def test_no_other_item_is_taken(compiled: ModuleType, item: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="no item of a line"):
        compiled.Line((("s", None, 0, 0), item))


def test_many_lines_leave_nothing_behind(compiled: ModuleType) -> None:
    def render_many() -> int:
        for number in range(2_000):
            line = compiled.Line(items("%t %T %r %{X}o %d %C" if number % 2 else "json", "main"))
            line.render(ENTRY.params, 200, True, ENTRY.head, 0, BEGAN + number, 1.5, 0.0, 0.0)
        return sys.getallocatedblocks()

    counts = [render_many() for _ in range(4)]
    assert counts[-1] - counts[1] < 100
