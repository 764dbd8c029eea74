"""Bindings: which one wins, what settings may write, and what it costs."""

from __future__ import annotations

import itertools
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app.bindings import (
    MOST_LABELS,
    BindingConflict,
    Bindings,
    canonical_host,
    canonical_path,
    canonical_port,
    elsewhere,
    hosts_of_pools,
    labels,
    place,
)
from gateway.settings import Application, Binding, Settings

SHOP = [
    Binding(hostname="a.example", port=80),
    Binding(hostname="a.example", port=80, path="/api"),
    Binding(hostname="a.example", port=80, path="/api/v2"),
    Binding(hostname="a.example", port="*"),
    Binding(hostname="b.example", port=8080, path="/only"),
    Binding(hostname="*.example", port=80),
    Binding(hostname="*.sub.example", port="*"),
    Binding(hostname="*.sub.example", port=80, path="/x"),
    Binding(hostname="[::1]", port="*"),
    Binding(hostname="*", port=80),
    Binding(hostname="*", port=80, path="/everywhere"),
    Binding(hostname="*", port=81),
]


def name(binding: Binding) -> str:
    return f"{binding.hostname}:{binding.port}{binding.path}"


FOUND = [
    ("a.example", 80, "/", "a.example:80"),
    ("a.example", 80, "/api", "a.example:80/api"),
    ("a.example", 80, "/api/", "a.example:80/api"),
    ("a.example", 80, "/api/x", "a.example:80/api"),
    ("a.example", 80, "/apis", "a.example:80"),
    ("a.example", 80, "/ap", "a.example:80"),
    ("a.example", 80, "/api/v2", "a.example:80/api/v2"),
    ("a.example", 80, "/api/v2/x/y", "a.example:80/api/v2"),
    ("a.example", 80, "/api/v22", "a.example:80/api"),
    ("a.example", 80, "/API", "a.example:80"),
    ("a.example", 80, "/x/api", "a.example:80"),
    ("a.example", 443, "/api", "a.example:*"),
    ("b.example", 8080, "/only/x", "b.example:8080/only"),
    ("b.example", 80, "/", "*.example:80"),
    ("b.example", 8080, "/", None),
    ("x.y.example", 80, "/", "*.example:80"),
    ("example", 80, "/", "*:80"),
    ("evilexample", 80, "/", "*:80"),
    ("sub.example", 80, "/", "*.example:80"),
    ("x.sub.example", 80, "/", "*.sub.example:*"),
    ("x.sub.example", 80, "/x", "*.sub.example:80/x"),
    ("x.sub.example", 81, "/x", "*.sub.example:*"),
    ("y.x.sub.example", 5, "/", "*.sub.example:*"),
    ("[::1]", 9, "/", "[::1]:*"),
    ("[::2]", 9, "/", None),
    ("other.test", 80, "/", "*:80"),
    ("other.test", 80, "/everywhere/x", "*:80/everywhere"),
    ("other.test", 81, "/everywhere", "*:81"),
    ("other.test", 82, "/", None),
    ("127.0.0.1", 80, "/", "*:80"),
]


@pytest.mark.parametrize(("host", "port", "path", "expected"), FOUND)
@pytest.mark.parametrize("backwards", [False, True])
def test_one_binding_wins(host: str, port: int, path: str, expected: str | None, backwards: bool) -> None:
    order = SHOP[::-1] if backwards else SHOP
    found = Bindings((binding, name(binding)) for binding in order).find(host, port, path)
    assert (found and found[0]) == expected


def test_the_prefix_comes_with_the_target() -> None:
    bindings = Bindings([(Binding(path="/café/"), 1), (Binding(hostname="a", path="/"), 2), (Binding(hostname="b"), 3)])
    assert bindings.find("x", 80, "/caf\xc3\xa9/x") == (1, "/caf\xc3\xa9")
    assert bindings.find("a", 80, "/x") == (2, "/")
    assert bindings.find("b", 80, "/x") == (3, "")


def test_no_bindings_find_nothing() -> None:
    assert Bindings[str](()).find("a", 80, "/") is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Binding(hostname="A.example."), Binding(hostname="a.example")),
        (Binding(hostname="bücher.example"), Binding(hostname="xn--bcher-kva.example")),
        (Binding(hostname="::1"), Binding(hostname="[0:0::1]")),
        (Binding(hostname="*.a", port="80"), Binding(hostname="*.A", port=80)),
        (Binding(path="/"), Binding(path="")),
        (Binding(path="/x/"), Binding(path="/x")),
    ],
)
def test_two_targets_on_one_place_are_a_conflict(first: Binding, second: Binding) -> None:
    with pytest.raises(BindingConflict, match=r"^shop and blog are both bound to .*: change") as caught:
        Bindings([(first, "shop"), (second, "blog")])
    assert (caught.value.first, caught.value.second, caught.value.place) == ("shop", "blog", place(first))
    assert Bindings([(first, "shop"), (second, "shop")])


def test_a_place_reads_as_it_is_written() -> None:
    assert str(place(Binding(hostname="A.example", port=80, path="/x/"))) == "a.example:80/x"
    assert str(place(Binding())) == "*:*"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("*", "*"),
        ("Shop.Example.COM", "shop.example.com"),
        ("shop.example.com.", "shop.example.com"),
        ("*.Example.com", "*.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.BÜCHER.example", "*.xn--bcher-kva.example"),
        ("localhost", "localhost"),
        ("_", "_"),
        ("under_score.example", "under_score.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "[::1]"),
        ("[2001:DB8:0::1]", "[2001:db8::1]"),
    ],
)
def test_host_names_of_settings(written: str, canonical: str) -> None:
    assert canonical_host(written) == canonical


@pytest.mark.parametrize(
    "written",
    [
        "", ".", "a..b", ".a", "*.", "**", "*.*", "a.*", "*a", "a b", "a/b", "a:80", "http://a", "a@b", "a,b", "a\n",
        "x" * 64, ".".join(["x" * 63] * 5), "ü" * 64, "[::1", "[::1%eth0]", "[1.2.3.4]", "[]", "::g", "a..ü",
    ],
)  # fmt: skip
def test_what_is_no_host_name(written: str) -> None:
    with pytest.raises(ValueError, match="write "):
        canonical_host(written)


@pytest.mark.parametrize(("written", "canonical"), [("*", None), (80, 80), ("8080", 8080), (1, 1), (65535, 65535)])
def test_ports_of_settings(written: int | str, canonical: int | None) -> None:
    assert canonical_port(written) == canonical


@pytest.mark.parametrize("written", [0, -1, 65536, "", "0", "http", "+80", "8 0", "²", "999999999", True])
def test_what_is_no_port(written: int | str) -> None:
    with pytest.raises(ValueError, match=r"is no port: write a number"):
        canonical_port(written)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [("", ""), ("/", "/"), ("/x", "/x"), ("/x/", "/x"), ("/x/y z", "/x/y z"), ("/ü", "/\xc3\xbc")],
)
def test_paths_of_settings(written: str, canonical: str) -> None:
    assert canonical_path(written) == canonical


@pytest.mark.parametrize("written", ["x", "//", "/x//y", "/x/../y", "/./x", "/x?y", "/x#y", "/%20", "/x\n", "x/"])
def test_what_is_no_path_prefix(written: str) -> None:
    with pytest.raises(ValueError, match=r"is no path prefix: write it"):
        canonical_path(written)


def calls(find: object, *arguments: object) -> int:
    """How many Python functions one look-up calls: a measure of its work that no other process disturbs."""
    counted = itertools.count()
    sys.setprofile(lambda frame, event, argument: next(counted) if event in ("call", "c_call") else None)
    try:
        find(*arguments)  # type: ignore[operator]
    finally:
        sys.setprofile(None)
    return next(counted)


def test_ten_thousand_bindings_cost_what_one_does() -> None:
    few = Bindings([(Binding(hostname="h1.example", port=80, path="/p1"), 1), (Binding(hostname="*.example"), 2)])
    many = Bindings(
        [(Binding(hostname=f"h{n}.example", port=80, path=f"/p{n}"), n) for n in range(10_000)]
        + [(Binding(hostname="*.example"), -1)]
        + [(Binding(hostname="one.example", path=f"/p{n}"), -2 - n) for n in range(10_000)]
    )
    for host, path in (("h1.example", "/p1/x"), ("other.example", "/"), ("other.test", "/")):
        assert calls(many.find, host, 80, path) <= calls(few.find, host, 80, path)
    assert many.find("one.example", 80, "/p77/x") == (-79, "/p77")


def test_a_path_of_many_segments_costs_no_more_than_the_longest_binding() -> None:
    bindings = Bindings([(Binding(path="/a/b"), 1)])
    assert calls(bindings.find, "h", 80, "/" * 100_000) < 50


def test_look_ups_leave_nothing_behind() -> None:
    bindings = Bindings([(Binding(hostname="a.example"), 1), (Binding(hostname="*.b.example"), 2)])
    before = repr(vars(bindings))
    for n in range(10_000):
        assert bindings.find(f"{n}.test", 80, "/") is None
    assert repr(vars(bindings)) == before


PATHS = st.lists(st.sampled_from(["a", "b", "ab", "c"]), max_size=4).map(lambda parts: "".join("/" + p for p in parts))


@given(st.sets(PATHS, min_size=1), PATHS)
def test_the_longest_prefix_wins_as_a_scan_finds_it(bound: set[str], path: str) -> None:
    found = Bindings((Binding(path=p), p) for p in bound).find("h", 80, path or "/")
    fitting = [p for p in bound if p == "" or path == p or path.startswith(p + "/")]
    assert (found and found[0]) == max(fitting, key=len, default=None)


def test_ten_thousand_hosts_take_little_more_than_their_names() -> None:
    target = object()
    names = [f"host{number}.example" for number in range(10_000)]
    tracemalloc.start()
    try:
        bindings = Bindings([(Binding(hostname=name), target) for name in names])
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / len(names) < 200  # bytes: the name in canonical form, and its place in a dictionary
    assert {bindings.find(name, 80, "/") for name in names} == {(target, "")}


def test_hosts_share_only_what_is_the_same() -> None:
    bindings = Bindings(
        [
            (Binding(hostname="a.example", port=80), "one"),
            (Binding(hostname="b.example", port=80), "one"),
            (Binding(hostname="b.example", port=80, path="/x"), "two"),
            (Binding(hostname="*.example", port=80), "one"),
            (Binding(hostname="c.example", port=443), "one"),
        ]
    )
    found = {
        (host, port, path): bindings.find(f"{host}.example", port, path)
        for host, port, path in itertools.product("abcd", (80, 443), ("/", "/x", "/x/y"))
    }
    at_80 = {(host, 80, path): ("one", "") for host, path in itertools.product("abcd", ("/", "/x", "/x/y"))}
    at_80 |= {("b", 80, path): ("two", "/x") for path in ("/x", "/x/y")}
    at_443 = {("c", 443, path): ("one", "") for path in ("/", "/x", "/x/y")}
    assert {asked: answer for asked, answer in found.items() if answer} == at_80 | at_443


def test_what_one_pool_is_told_of_the_others() -> None:
    shop = (Binding(hostname="Shop.Example", path="/b"), Binding(hostname="*.example"))
    applications = (
        Application(name="1", pool="main", bindings=(Binding(hostname="a.example"),)),
        Application(name="2", pool="shop", bindings=shop),
        Application(name="3", pool="shop", bindings=shop),
        Application(name="4", pool="blog", bindings=(Binding(hostname="shop.example."),)),
        Application(name="5", pool="alone"),
    )
    hosts = hosts_of_pools(Settings(applications=applications))
    assert elsewhere(hosts, "main") == {
        "the pool shop and the pool blog": ["shop.example"], "the pool shop": ["*.example"], "the pool alone": ["*"],
    }  # fmt: skip
    assert elsewhere(hosts, "shop") == {
        "the pool main": ["a.example"], "the pool blog": ["shop.example"], "the pool alone": ["*"],
    }  # fmt: skip


def test_requests_are_counted_apart_for_so_many_hosts_and_no_more() -> None:
    hosts = [f"host{number}.example" for number in range(300)]
    bound = tuple(Binding(hostname=host) for host in hosts)
    found = labels([Application(bindings=bound), Application(bindings=bound[:2])])
    assert found == {"": 0} | {host: number for number, host in enumerate(hosts[: MOST_LABELS - 1], 1)}
