"""Parameters become an environ: what is dropped, what is refused, what repeats mean, what is supplied."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app.environ import USUAL, Rejected, normalise
from tests.app.memory import NGINX


def normalised(repeats: Any = (), **params: str | None) -> dict[str, Any]:
    environ: dict[str, Any] = {k: v for k, v in (NGINX | params).items() if v is not None}
    normalise(environ, repeats)
    return environ


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"])
def test_dropped_always(name: str) -> None:
    assert name not in normalised(**{name: "77"})
    assert name not in normalised([(name, "78")], **{name: "77"})


def test_what_nginx_sends_for_get_keeps_all_but_the_empty_ones() -> None:
    environ = normalised()
    assert NGINX.keys() - environ.keys() == {"CONTENT_LENGTH", "CONTENT_TYPE"}
    assert environ.keys() - NGINX.keys() == {"wsgi.url_scheme", "wsgi.input_terminated"}
    assert environ["wsgi.input_terminated"] is True


@pytest.mark.parametrize("value", ["", "on", "off", "ON", "1", "x"])
@pytest.mark.parametrize("name", [*USUAL, "HTTP_X"])
def test_usual_values_are_left_as_they_are(name: str, value: str) -> None:
    if name not in USUAL or USUAL[name](value):
        environ = normalised(**{name: value})
        assert environ[name] == value
        assert environ["wsgi.url_scheme"] == ("https" if (name, value) == ("HTTPS", "on") else "http")


@pytest.mark.parametrize(("name", "value"), [("HTTP_PROXY", "x"), ("REQUEST_URI", ""), ("HTTPS", "1"), ("HTTPS", "ON")])
def test_other_values_are_not(name: str, value: str) -> None:
    assert not USUAL[name](value)


def test_what_is_known_to_be_plain_is_not_searched_again() -> None:
    environ: dict[str, Any] = {**NGINX, "HTTP_X": "\n"}
    normalise(environ, (), plain=True)
    assert environ["HTTP_X"] == "\n"


@pytest.mark.parametrize("bad", ["\0", "\r", "\n", "a\r\nb"])
def test_nul_cr_and_lf_are_refused_in_values_and_names(bad: str) -> None:
    for params in ({"PATH_INFO": "/a" + bad}, {"HTTP_X": bad}, {"X" + bad: ""}, {"SERVER_SOFTWARE": bad}):
        with pytest.raises(Rejected, match="NUL, CR or LF") as caught:
            normalised(**params)
        assert caught.value.status == 400
    with pytest.raises(Rejected, match="NUL, CR or LF"):
        normalised([("HTTP_ACCEPT", "b" + bad)])


@given(st.text(st.characters(max_codepoint=255), max_size=20))
def test_other_characters_pass_as_they_are(value: str) -> None:
    if not set(value) & set("\0\r\n"):
        assert normalised(HTTP_X=value)["HTTP_X"] == value


@pytest.mark.parametrize("length", ["", "-1", None])
def test_an_unknown_length_is_absent(length: str | None) -> None:
    assert "CONTENT_LENGTH" not in normalised(CONTENT_LENGTH=length)


@pytest.mark.parametrize("length", ["0", "3", "003", "9" * 18])
def test_a_length_of_digits_stays(length: str) -> None:
    assert normalised(CONTENT_LENGTH=length)["CONTENT_LENGTH"] == length


@pytest.mark.parametrize(
    "length", ["+3", "-3", "3,3", "3, 3", "0x3", "1e3", "3 ", " 3", "3.0", "\xb2", "\xb3\xb2", "x"]
)
def test_any_other_length_is_refused(length: str) -> None:
    with pytest.raises(Rejected, match="CONTENT_LENGTH is") as caught:
        normalised(CONTENT_LENGTH=length)
    assert caught.value.status == 400


def test_a_length_beyond_all_sense_is_too_large() -> None:
    with pytest.raises(Rejected) as caught:
        normalised(CONTENT_LENGTH="9" * 5000)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("name", "first", "second", "joined"),
    [
        ("HTTP_ACCEPT", "a", "b", "a, b"),
        ("HTTP_X_A", "1", "2", "1, 2"),
        ("HTTP_X_A", "1", "1", "1, 1"),
        ("HTTP_X_FORWARDED_FOR", "192.0.2.1", "192.0.2.2", "192.0.2.1, 192.0.2.2"),
        ("HTTP_VIA", "1.1 a", "1.1 b", "1.1 a, 1.1 b"),
        ("HTTP_COOKIE", "a=1", "b=2", "a=1; b=2"),
        ("HTTP_HOST", "a.example", "a.example", "a.example"),
        ("HTTP_IF_NONE_MATCH", '"x"', '"x"', '"x"'),
        ("SCRIPT_NAME", "/hello", "", ""),
        ("REMOTE_USER", "a", "b", "b"),
        ("https", "a", "b", "b"),
    ],
)
def test_repeated_names(name: str, first: str, second: str, joined: str) -> None:
    assert normalised([(name, second)], **{name: first})[name] == joined


def test_a_header_that_lighttpd_repeats_has_two_spellings() -> None:
    lighttpd = {"SERVER_SOFTWARE": "lighttpd/1.4.69", "HTTP_X_FORWARDED_FOR": "192.0.2.1"}
    assert normalised([("HTTP_X_FORWARDED_FOR", "192.0.2.1")], **lighttpd)["HTTP_X_FORWARDED_FOR"] == "192.0.2.1"
    with pytest.raises(Rejected, match="HTTP_X_FORWARDED_FOR came twice") as caught:
        normalised([("HTTP_X_FORWARDED_FOR", "192.0.2.9")], **lighttpd)
    assert caught.value.status == 400


def test_many_repeats_keep_their_order() -> None:
    assert normalised([("HTTP_X", str(n)) for n in range(3)], HTTP_X="first")["HTTP_X"] == "first, 0, 1, 2"


@pytest.mark.parametrize(
    "name",
    [
        "HOST", "AUTHORIZATION", "REFERER", "RANGE", "IF_RANGE", "IF_MATCH", "IF_MODIFIED_SINCE", "IF_NONE_MATCH",
        "X_REAL_IP", "X_FORWARDED_HOST", "X_FORWARDED_PROTO", "X_FORWARDED_PORT", "USER_AGENT",
    ],
)  # fmt: skip
def test_single_valued_headers_that_differ_are_refused(name: str) -> None:
    with pytest.raises(Rejected, match=f"HTTP_{name} came twice") as caught:
        normalised([("HTTP_" + name, "b")], **{"HTTP_" + name: "a"})
    assert caught.value.status == 400


HOSTILE = ["wsgi.input", "wsgi.url_scheme", "wsgi.errors", "LD_PRELOAD", "PYTHONPATH", "PATH", "PHP_VALUE", "gateway.x"]


def test_no_parameter_replaces_a_key_of_ours_or_reaches_the_process() -> None:
    ours = {"wsgi.input": None, "wsgi.url_scheme": "http", "wsgi.errors": object(), "gateway.x": "ours"}
    before = dict(os.environ)
    for _ in range(100):
        environ: dict[str, Any] = ours | NGINX | {"LD_PRELOAD": "1", "PYTHONPATH": "1", "PATH": "1", "PHP_VALUE": "1"}
        normalise(environ, [(name, "evil") for name in HOSTILE], len(ours))
        assert {name: environ[name] for name in ours} == ours
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("params", "scheme"),
    [
        ({}, "http"),
        ({"HTTPS": "on"}, "https"),
        ({"HTTPS": "ON"}, "https"),
        ({"HTTPS": "1"}, "https"),
        ({"HTTPS": "https"}, "https"),
        ({"HTTPS": ""}, "http"),
        ({"HTTPS": "off"}, "http"),
        ({"REQUEST_SCHEME": "https"}, "https"),
        ({"REQUEST_SCHEME": "ftp"}, "http"),
        ({"HTTP_X_FORWARDED_PROTO": "https"}, "http"),
        ({"HTTP_HTTPS": "on"}, "http"),
    ],
)
def test_the_scheme(params: dict[str, str], scheme: str) -> None:
    assert normalised(**params)["wsgi.url_scheme"] == scheme


@pytest.mark.parametrize(
    ("params", "name", "value"),
    [
        ({"REQUEST_METHOD": None}, "REQUEST_METHOD", "GET"),
        ({"REQUEST_METHOD": ""}, "REQUEST_METHOD", "GET"),
        ({"SERVER_PROTOCOL": None}, "SERVER_PROTOCOL", "HTTP/1.0"),
        ({"SERVER_PORT": None}, "SERVER_PORT", "80"),
        ({"SERVER_PORT": "0", "HTTPS": "on"}, "SERVER_PORT", "443"),
        ({"SERVER_NAME": "", "HTTP_HOST": "b.example:81"}, "SERVER_NAME", "b.example"),
        ({"SERVER_NAME": None, "HTTP_HOST": "[::1]:81"}, "SERVER_NAME", "[::1]"),
        ({"SERVER_NAME": "", "HTTP_HOST": ""}, "SERVER_NAME", "127.0.0.1"),
        ({"SERVER_NAME": "", "HTTP_HOST": "", "SERVER_ADDR": "::1"}, "SERVER_NAME", "[::1]"),
        ({"SERVER_NAME": "", "HTTP_HOST": None, "SERVER_ADDR": "unix:/x"}, "SERVER_NAME", "localhost"),
        ({"QUERY_STRING": None, "REQUEST_URI": "/x?a=b?c"}, "QUERY_STRING", "a=b?c"),
        ({"QUERY_STRING": None}, "QUERY_STRING", ""),
        ({"REQUEST_URI": None}, "REQUEST_URI", "/hello"),
        ({"REQUEST_URI": "", "QUERY_STRING": "a=b"}, "REQUEST_URI", "/hello?a=b"),
        ({"REQUEST_URI": None, "PATH_INFO": "/caf\xc3\xa9 %\xff?"}, "REQUEST_URI", "/caf%C3%A9%20%25%FF%3F"),
        ({"REQUEST_URI": None, "SCRIPT_NAME": "/app"}, "REQUEST_URI", "/app/hello"),
        ({"REQUEST_URI": None, "SCRIPT_NAME": "/hello"}, "REQUEST_URI", "/hello"),
        ({"REQUEST_URI": None, "SCRIPT_NAME": "/all", "PATH_INFO": None}, "REQUEST_URI", "/all"),
        ({"REQUEST_URI": None, "PATH_INFO": None}, "REQUEST_URI", "/"),
    ],
)
def test_what_is_supplied(params: dict[str, str | None], name: str, value: str) -> None:
    assert normalised(**params)[name] == value


def test_an_empty_host_is_none() -> None:
    assert "HTTP_HOST" not in normalised(HTTP_HOST="")
