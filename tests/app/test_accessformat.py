"""Every atom of the access log's format, what is escaped in it, and formats that are refused."""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

import pytest

from gateway.app.accessformat import Entry, compile_format, spends_cpu

PARAMS: dict[str, Any] = {
    "REQUEST_METHOD": "POST",
    "REQUEST_URI": "/shop/item%20one?id=7",
    "QUERY_STRING": "id=7",
    "CONTENT_LENGTH": "12",
    "SCRIPT_FILENAME": "/srv/shop.fcgi",
    "REMOTE_ADDR": "192.0.2.7",
    "REMOTE_USER": "ann",
    "HTTP_HOST": "shop.example.com",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "gateway.application": "shop",
    "wsgi.version": (1, 0),
}
HEAD = b"Status: 201 Created\r\nContent-Type: text/html; charset=utf-8\r\nX-Empty: \r\n"
BEGAN = 1_700_000_000.25
NONE = Entry({}, 431, False, b"", 0, BEGAN, 0.0, (0.0, 0.0))
STAMP = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(BEGAN))


def changed(**changes: Any) -> Entry:
    """A request, but for some of what is told of it."""
    usual: dict[str, Any] = {"params": PARAMS, "status": 201, "complete": True, "head": HEAD, "size": 345}
    return Entry(**usual | {"began": BEGAN, "seconds": 0.5, "cpu": (0.1, 0.05)} | changes)


ENTRY = changed()


def line(text: str, entry: Entry = ENTRY) -> str:
    return compile_format(text, "main")(entry)


@pytest.mark.parametrize(
    ("atom", "shown", "shown_of_nothing"),
    [
        ("%%", "%", "%"),
        ("%C", "30.00", "0.00"),
        ("%{total}C", "30.00", "0.00"),
        ("%{user}C", "20.00", "0.00"),
        ("%{system}C", "10.00", "0.00"),
        ("%d", "0.500", "0.000"),
        ("%{seconds}d", "0.500", "0.000"),
        ("%{milli}d", "500.000", "0.000"),
        ("%{miliseconds}d", "500.000", "0.000"),
        ("%{milliseconds}d", "500.000", "0.000"),
        ("%{micro}d", "500000", "0"),
        ("%{microseconds}d", "500000", "0"),
        ("%{HTTP_HOST}e", "shop.example.com", "-"),
        ("%{wsgi.version}e", "-", "-"),
        ("%f", "/srv/shop.fcgi", "-"),
        ("%l", "12", "0"),
        ("%m", "POST", "-"),
        ("%n", "main", "main"),
        ("%{Content-Type}o", "text/html; charset=utf-8", "-"),
        ("%{content-type}o", "text/html; charset=utf-8", "-"),
        ("%{X-Empty}o", "-", "-"),
        ("%{Type}o", "-", "-"),
        pytest.param("%p", str(os.getpid()), str(os.getpid()), id="%p"),
        ("%P", str(os.getppid()), str(os.getppid())),
        ("%q", "id=7", ""),
        ("%Q", "?", ""),
        ("%r", "/shop/item%20one", "-"),
        ("%r%Q%q", "/shop/item%20one?id=7", "-"),
        ("%R", "192.0.2.7", "-"),
        ("%s", "201", "431"),
        ("%t", STAMP, STAMP),
        ("%T", STAMP, STAMP),
        ("%{%H:%M}t", time.strftime("%H:%M", time.localtime(BEGAN)), time.strftime("%H:%M", time.localtime(BEGAN))),
        ("%u", "ann", "-"),
        ('100 %% of "%m"', '100 % of "POST"', '100 % of "-"'),
    ],
)
def test_each_atom(atom: str, shown: str, shown_of_nothing: str) -> None:
    assert line(atom) == shown
    assert line(atom, NONE) == shown_of_nothing


def test_the_default_is_that_of_php_fpm() -> None:
    assert line('%R - %u %t "%m %r" %s') == f'192.0.2.7 - ann {STAMP} "POST /shop/item%20one" 201'


def test_peak_memory_in_each_unit() -> None:
    size, kilo, mega = (int(line(f"%{unit}M")) for unit in ("", "{kilo}", "{mega}"))
    assert size >> 10 == pytest.approx(kilo, rel=0.1)
    assert kilo >> 10 == pytest.approx(mega, rel=0.1)
    assert mega > 1


def test_the_end_is_later_than_the_beginning() -> None:
    assert line("%{%s}t %{%s}T", changed(seconds=2.0)) == "1700000000 1700000002"


def test_a_time_is_that_of_its_own_request() -> None:
    render = compile_format("%{%s}t", "main")
    assert [render(changed(began=BEGAN + n)) for n in (0.0, 0.5, 1.0, 0.0)] == [
        "1700000000", "1700000000", "1700000001", "1700000000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\nb\r\x00\x1b[2J", r"a\x0ab\x0d\x00\x1b[2J"),
        ('" 200 "', r"\x22 200 \x22"),
        ("back\\slash", r"back\x5cslash"),
        ("caf\xc3\xa9\x85", r"caf\xc3\xa9\x85"),
        ("of an application: \u20ac", r"of an application: \u20ac"),
        ("", "-"),
    ],
)
def test_what_a_client_sends_cannot_forge_a_line(value: str, shown: str) -> None:
    assert line("%{X}e", changed(params={"X": value})) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("%R %z", '"%z" is no atom; there are: %% %C %d %e'),
        ("%{x}d", '"%{x}d": write one of: {seconds}, {milli}'),
        ("%{x}C", '"%{x}C": write one of: {total}, {user}, {system}'),
        ("%{x}M", '"%{x}M": write one of: {bytes}, {kilo}'),
        ("%e", '"%e": write the parameter\'s name, as in %{HTTP_HOST}e'),
        ("%o", '"%o": write the header\'s name'),
        ("%{\xe9}o", "write the header's name"),
        ("%{a\nb}o", "write the header's name"),
        ("%{x}s", '"%{x}s": this one takes no {…}; write %s'),
        ("%{x}n", '"%{x}n": this one takes no {…}; write %n'),
        ("100 %", '"%": an atom that is not complete'),
        ("%{milli", '"%{": an atom that is not complete'),
        ("a\nb", "there is a control character in it"),
    ],
)
def test_a_format_that_is_wrong_names_the_atom(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        compile_format(text, "main")


def test_cpu_time_is_asked_for_only_where_it_is_shown() -> None:
    assert [spends_cpu(text) for text in ("%C", "%{user}C", "%%C %s", "json")] == [True, True, False, False]


def test_json_is_one_object_a_line() -> None:
    text = line("json")
    assert text.isascii()
    assert json.loads(text) == {
        "time": "2023-11-14T22:13:20.250Z",
        "pool": "main",
        "pid": os.getpid(),
        "status": 201,
        "complete": True,
        "bytes": 345,
        "seconds": 0.5,
        "remote_addr": "192.0.2.7",
        "remote_user": "ann",
        "method": "POST",
        "host": "shop.example.com",
        "uri": "/shop/item%20one?id=7",
        "protocol": "HTTP/1.1",
        "application": "shop",
    }


def test_json_shows_utf_8_and_escapes_the_rest() -> None:
    entry = changed(params={"REQUEST_URI": "/caf\xc3\xa9\n\xff\u20ac", "REMOTE_USER": ""})
    text = line("json", entry)
    assert text.isprintable()
    assert json.loads(text)["uri"] == "/caf\xe9\n\\xff\\u20ac"
    assert "remote_user" not in json.loads(text)


def test_a_line_about_another_process_has_its_ids_and_not_the_memory_of_this_one() -> None:
    entry = changed(pid=4711, parent=47)
    assert line("%p %P %M", entry) == "4711 47 -"
    assert json.loads(line("json", entry))["pid"] == 4711
