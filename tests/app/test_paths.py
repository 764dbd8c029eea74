"""SCRIPT_NAME and PATH_INFO come out the same behind every front-end, by what each was recorded to send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.app.environ import mount, request_path

RECORDED: dict[str, dict[str, dict[str, str]]] = {}
for _line in (Path(__file__).parent / "fronts.tsv").read_text().splitlines():
    if not _line.startswith("#"):
        _front, _target, *_values = _line.split("\t")
        _params = zip(("SCRIPT_NAME", "PATH_INFO", "REQUEST_URI"), map(json.loads, _values), strict=True)
        RECORDED.setdefault(_front, {})[_target] = {name: value for name, value in _params if value is not None}

# mod_proxy_fcgi with fcgi://: no PATH_INFO; it answers 404 to %2F by itself.
RECORDED["apache"] = {target: sent for target, sent in RECORDED["nginx-stock"].items() if "%2F" not in target}

EVERYWHERE = ["haproxy", "apache", "lighttpd-rewrite", "lighttpd-root-fixed", "nginx-cookbook", "nginx-path-info"]
UNSPLIT = [*EVERYWHERE, "nginx-stock"]
AT_APP = ["lighttpd-prefix", "nginx-prefix", "haproxy-path-info", "lighttpd-root-unfixed", *UNSPLIT]

# HAProxy resolves neither dot segments nor double slashes, and what it let pass is not for the gateway to resolve.
RESOLVED_BY_OTHERS = {target for target in RECORDED["haproxy"] if "//" in target or "/." in target or "%2e" in target}
# lighttpd takes %FF and the other bytes that are no UTF-8 for a bad request.
TARGETS = [target for target in RECORDED["nginx-path-info"] if target not in RESOLVED_BY_OTHERS]


def placed(params: dict[str, str], bound: str) -> tuple[str, str]:
    """SCRIPT_NAME and PATH_INFO under a binding's path."""
    environ: dict[str, Any] = {"REQUEST_URI": "", **params}
    path, prefix = request_path(environ)
    mount(environ, path, bound or prefix)
    assert environ["SCRIPT_NAME"] or environ["PATH_INFO"]
    assert not environ["SCRIPT_NAME"].endswith("/")
    assert environ["PATH_INFO"][:1] in ("", "/")
    return environ["SCRIPT_NAME"], environ["PATH_INFO"]


def test_there_are_enough_targets() -> None:
    assert len(TARGETS) >= 40
    assert len(UNSPLIT) >= 7


@pytest.mark.parametrize("front", UNSPLIT)
@pytest.mark.parametrize("bound", ["", "/"])
def test_at_the_root(front: str, bound: str) -> None:
    for target in TARGETS:
        if target in RECORDED[front]:
            expected = ("", RECORDED["nginx-path-info"][target]["PATH_INFO"])
            assert placed(RECORDED[front][target], bound) == expected, target


@pytest.mark.parametrize("front", ["lighttpd-root-unfixed", "haproxy-path-info"])
def test_a_binding_to_the_root_undoes_a_split(front: str) -> None:
    for target in TARGETS:
        if target in RECORDED[front]:
            assert placed(RECORDED[front][target], "/") == ("", RECORDED["nginx-path-info"][target]["PATH_INFO"]), (
                target
            )


@pytest.mark.parametrize("front", AT_APP)
def test_under_a_prefix(front: str) -> None:
    tested = 0
    for target in TARGETS:
        whole = RECORDED["nginx-path-info"][target]["PATH_INFO"]
        if target in RECORDED[front] and (whole == "/app" or whole.startswith("/app/")):
            assert placed(RECORDED[front][target], "/app") == ("/app", whole[4:]), target
            tested += 1
    assert tested >= 5


@pytest.mark.parametrize("front", ["lighttpd-prefix", "nginx-prefix", "haproxy-path-info"])
def test_the_front_ends_own_prefix_counts_where_the_binding_has_none(front: str) -> None:
    sent = RECORDED[front]
    assert placed(sent["/app/x/y?z"], "") == ("/app", "/x/y")
    assert placed(sent["/app/"], "") == ("/app", "/")
    assert placed(sent["/apple"], "") == ("", "/apple")
    assert placed(sent["/app/%C3%BC/x"], "") == ("/app", "/\xc3\xbc/x")


@pytest.mark.parametrize("front", [f for f in AT_APP if not f.startswith("haproxy")])
def test_dot_segments_that_the_front_end_resolved(front: str) -> None:
    for target in RESOLVED_BY_OTHERS:
        if target in RECORDED[front]:
            whole = RECORDED["nginx-path-info"][target]["PATH_INFO"]
            assert placed(RECORDED[front][target], "/") == ("", whole), target


def test_dot_segments_that_the_front_end_left_stay() -> None:
    assert placed(RECORDED["haproxy"]["/x/../y"], "") == ("", "/x/../y")


def test_a_prefix_cannot_be_left_by_dot_segments() -> None:
    """The front-end sent /app/admin here by its rules for /app; /admin may have rules of its own."""
    for uri in ("/x/../app/admin", "/x/%2e%2e/app/admin", "//app/admin", "/%61pp/admin", "/elsewhere"):
        assert placed({"SCRIPT_NAME": "/app", "PATH_INFO": "/admin", "REQUEST_URI": uri}, "") == ("/app", "/admin")


@pytest.mark.parametrize(
    ("script", "info", "uri", "expected"),
    [
        ("", "", "/x%20y?q", ("", "/x y")),
        ("", "", "", ("", "/")),
        ("/", "", "/", ("", "/")),
        ("/", "/x", "/x", ("", "/x")),
        ("//", "/x", "/x", ("", "/x")),
        ("/app/", "/x", "/app/x", ("/app", "/x")),
        ("app", "/x", "/app/x", ("/app", "/x")),
        ("x", "", "/x", ("", "/x")),
        ("", "x", "/x", ("", "/x")),
        ("*", "", "*", ("", "/*")),
        ("", "", "*", ("", "/*")),
        ("/app", "/x", "http://h/app/x?y=/z", ("/app", "/x")),
        ("/app.fcgi", "/x", "http://h/x?y=/z", ("", "/x")),
        ("/app.fcgi", "/", "http://h", ("", "/")),
        ("/app.fcgi", "/x", "/x#fragment", ("", "/x")),
        ("/app.fcgi", "/%2F", "/%252F", ("", "/%2F")),
        ("/blog.fcgi", "/x", "/blog/x", ("/blog.fcgi", "/x")),
        ("/a", "/a/b", "/a/b", ("", "/a/b")),
        ("/a", "/a/b", "/a/a/b", ("/a", "/a/b")),
        ("/x", "/x", "/x", ("", "/x")),
        ("/x", "/x", "/x/x", ("/x", "/x")),
        ("/x y", "/x y", "/x;odd", ("", "/x y")),
    ],
)
def test_single_cases(script: str, info: str, uri: str, expected: tuple[str, str]) -> None:
    assert placed({"SCRIPT_NAME": script, "PATH_INFO": info, "REQUEST_URI": uri}, "") == expected


APACHE = {"CONTEXT_PREFIX": "", "CONTEXT_DOCUMENT_ROOT": "/var/www"}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (APACHE | {"SCRIPT_FILENAME": "proxy:fcgi://localhost//var/www/a"}, ("", "/a/b")),
        (
            {"CONTEXT_PREFIX": "/a", "CONTEXT_DOCUMENT_ROOT": "/srv/x", "SCRIPT_FILENAME": "proxy:fcgi://h//srv/x"},
            ("", "/a/b"),
        ),
        # ProxyPass, and then ProxyFCGISetEnvIf with a mount of the administrator's own.
        (APACHE | {"SCRIPT_FILENAME": "proxy:fcgi://localhost/a/b"}, ("/a", "/b")),
        (APACHE | {"SCRIPT_FILENAME": "/var/www/a"}, ("/a", "/b")),
        ({}, ("/a", "/b")),
    ],
)
def test_what_apache_splits_by_its_files_is_no_mount(params: dict[str, str], expected: tuple[str, str]) -> None:
    assert placed({"SCRIPT_NAME": "/a", "PATH_INFO": "/b", "REQUEST_URI": "/a/b", **params}, "") == expected
