"""From a request's head to its result: who gets it, who is refused, and what is said about it."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from gateway.app.answer import REASONS
from gateway.app.asyncdispatch import AsyncDispatcher
from gateway.app.bindings import BindingConflict
from gateway.app.dispatch import Site, build
from gateway.app.exchange import Exchange, Result
from gateway.protocol.events import Role
from gateway.settings import Application, Binding
from tests.app.memory import MemoryExchange, Served, answering


def showing(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [])
    return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}|{environ['wsgi.url_scheme']}".encode("latin-1")]


def site(name: str) -> Site:
    return Site(name, answering([name.encode()]))


def test_each_application_gets_its_own() -> None:
    served = Served(
        entries=[
            (Binding(hostname="a.example", port=8080), site("a")),
            (Binding(hostname="a.example", port=8080, path="/hello"), site("hello")),
            (Binding(hostname="*.example"), site("others")),
        ]
    )
    for params, expected in [
        ({"PATH_INFO": "/"}, b"a"),
        ({}, b"hello"),
        ({"HTTP_HOST": "A.Example.:1"}, b"hello"),
        ({"SERVER_PORT": "81"}, b"others"),
        ({"HTTP_HOST": "b.example"}, b"others"),
    ]:
        assert served.ask(**params) == Result(200, complete=True)
        assert served.exchange.body == expected
    assert served.log == []


@pytest.mark.parametrize(
    ("path", "params", "expected"),
    [
        ("", {}, b"|/hello|http"),
        ("/", {"SCRIPT_NAME": "/hello", "PATH_INFO": "/x", "REQUEST_URI": "/hello/x"}, b"|/hello/x|http"),
        ("", {"SCRIPT_NAME": "/hello", "PATH_INFO": "/x", "REQUEST_URI": "/hello/x"}, b"/hello|/x|http"),
        ("/hello", {}, b"/hello||http"),
        ("/hello", {"PATH_INFO": "/hello/", "HTTPS": "on"}, b"/hello|/|https"),
    ],
)
def test_where_the_application_is_mounted(path: str, params: dict[str, str], expected: bytes) -> None:
    served = Served(entries=[(Binding(path=path), Site("x", showing))])
    assert served.ask(**params).complete
    assert served.exchange.body == expected


@pytest.mark.parametrize("unknown_host", [503, 421])
def test_nothing_bound(unknown_host: int) -> None:
    served = Served(entries=[(Binding(hostname="a.example", port=80), site("a"))], unknown_host=unknown_host)
    assert served.ask() == Result(unknown_host, complete=True)
    assert served.exchange.head.startswith(f"Status: {unknown_host} {REASONS[unknown_host]}\r\n".encode())
    assert served.exchange.body == f"{REASONS[unknown_host]}\n".encode()
    assert served.log == [f"answered {unknown_host} {REASONS[unknown_host]}: nothing is bound to a.example:8080"]


def test_the_words_for_nothing_bound_are_those_of_old() -> None:
    served = Served(entries=[])
    served.ask()
    assert served.exchange.body == b"Service unavailable\n"


@pytest.mark.parametrize(
    ("error", "line"), [("application 'x': why", "application 'x': why"), (None, "application 'x'")]
)
def test_an_application_that_did_not_load(error: str | None, line: str) -> None:
    served = Served(entries=[(Binding(), Site("x", None, error))])
    assert served.ask() == Result(503, complete=True)
    assert len(served.log) == 1
    assert line in served.log[0]
    assert b"why" not in served.exchange.answer


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"HTTP_HOST": "a@b"}, 400),
        ({"HTTP_X": "a\nb"}, 400),
        ({"CONTENT_LENGTH": "x"}, 400),
        ({"SERVER_PORT": "x"}, 400),
        ({"CONTENT_LENGTH": "11"}, 413),
        ({"CONTENT_LENGTH": "9" * 100}, 413),
    ],
)
@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_refused_before_any_application(params: dict[str, str], status: int, method: str) -> None:
    called: list[int] = []
    served = Served(lambda environ, start_response: called.append(1) or [], max_body=10)
    assert served.ask(REQUEST_METHOD=method, **params) == Result(status, complete=True)
    assert served.exchange.head.startswith(f"Status: {status} ".encode())
    assert served.exchange.body == (b"" if method == "HEAD" else f"{REASONS[status]}\n".encode())
    assert len(served.log) == 1
    assert not called


def test_repeats_count() -> None:
    served = Served(answering([b"x"]))
    assert served.ask(repeats=[("HTTP_HOST", "b.example")]) == Result(400, complete=True)


@pytest.mark.parametrize(("max_body", "status"), [(0, 200), (10, 200), (9, 413)])
def test_the_limit_of_a_body(max_body: int, status: int) -> None:
    served = Served(answering([b"x"]), max_body=max_body)
    assert served.ask(CONTENT_LENGTH="10") == Result(status, complete=True)


def test_the_body_arrives() -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    served = Served(application)
    assert served.ask(MemoryExchange([b"abc", b"de", b"f"]), CONTENT_LENGTH="5").complete
    assert served.exchange.body == b"abcde"
    assert served.ask(MemoryExchange([b"abc", b"def"]), CONTENT_LENGTH="").complete
    assert served.exchange.body == b"abcdef"


def test_a_refusal_by_the_protocol() -> None:
    served = Served(answering([b"x"]))
    exchange = MemoryExchange()
    assert served.dispatcher.refuse(431, "too many parameters", exchange) == Result(431, complete=True)
    assert exchange.body == b"Request Header Fields Too Large\n"
    assert served.log == ["answered 431 Request Header Fields Too Large: too many parameters"]
    assert served.dispatcher.refuse(431, "", MemoryExchange(leaves_after=0)) == Result(431, complete=False)


def test_the_driver_learns_what_runs_before_it_runs() -> None:
    begun: list[Any] = []

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        begun.extend(served.exchange.begun)
        return answering([])(environ, start_response)

    site = Site("it", application, label=7)
    served = Served(entries=[(Binding(hostname="a.example"), site)])
    served.ask(REQUEST_METHOD="PUT", REQUEST_URI="/hello?x")
    assert begun == [("a.example", 7)]
    served.ask(HTTP_HOST="unknown.example")
    assert served.exchange.begun == []


def test_what_an_application_prints_reaches_the_front_end_to_the_last_character() -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        environ["wsgi.errors"].write("line\npartial")
        return answering([])(environ, start_response)

    served = Served(application)
    served.ask()
    assert served.exchange.errors == served.log == ["line", "partial"]
    served.stream.write("between requests\n")
    assert served.exchange.errors == ["line", "partial"]


def test_the_base_is_what_pep_3333_wants_and_stays_as_it_is() -> None:
    served = Served(answering([b"x"]), multiprocess=False)
    before = dict(served.dispatcher.base)
    assert before["wsgi.version"] == (1, 0)
    assert before["wsgi.errors"] is served.stream
    assert [before["wsgi." + name] for name in ("multithread", "multiprocess", "run_once")] == [False, False, False]
    assert Served(answering([])).dispatcher.base["wsgi.multiprocess"] is True
    served.ask(HTTPS="on")
    assert served.dispatcher.base == before


def test_ten_thousand_hosts_leave_nothing_behind() -> None:
    served = Served(entries=[(Binding(hostname="a.example"), site("a"))])
    before = repr(vars(served.dispatcher.router._bindings))
    for n in range(10_000):
        assert served.ask(HTTP_HOST=f"h{n}.test").status == 503
        served.log.clear()
    assert repr(vars(served.dispatcher.router._bindings)) == before


def test_conflicts_are_refused() -> None:
    with pytest.raises(BindingConflict, match=r"^a and b are both bound to"):
        Served(entries=[(Binding(), site("a")), (Binding(), site("b"))])


# -- build ------------------------------------------------------------------------------------------------------------


def built(*applications: Application, **options: Any) -> tuple[Served, list[Any]]:
    served = Served(entries=[])
    dispatcher, failures = build(applications, errors=served.stream, log=served.log.append, **options)
    served.dispatcher = dispatcher
    return served, failures


@pytest.fixture
def module(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good_site.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'good']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("module")
def test_a_single_application_answers_everything() -> None:
    served, failures = built(Application(app="good_site:app"), max_body=5)
    assert failures == []
    assert served.ask(HTTP_HOST="whatever.test", SERVER_PORT="1").status == 200
    assert served.exchange.body == b"good"
    assert served.ask(CONTENT_LENGTH="6").status == 413


@pytest.mark.usefixtures("module")
def test_one_bad_application_leaves_the_others_served() -> None:
    served, failures = built(
        Application(name="good", app="good_site:app", bindings=(Binding(hostname="a.example"),)),
        Application(name="bad", app="no_such_site:app", bindings=(Binding(hostname="b.example"),)),
    )
    assert [(failure.name, failure.traceback.split()[:2]) for failure in failures] == [
        ("bad", ["tried", "no_such_site:app"])
    ]
    assert failures[0].message.startswith("application 'bad': there is no module 'no_such_site'")
    assert served.ask().status == 200
    assert served.ask(HTTP_HOST="b.example").status == 503
    assert served.log == [f"answered 503 Service unavailable: {failures[0].message}"]


@pytest.mark.usefixtures("module")
def test_bindings_that_cannot_be_leave_the_rest_served() -> None:
    served, failures = built(
        Application(name="first", app="good_site:app", bindings=(Binding(hostname="a.example"),)),
        Application(
            name="second", app="good_site:app", bindings=(Binding(hostname="A.example"), Binding(hostname="c"))
        ),
        Application(name="third", app="good_site:app", bindings=(Binding(hostname="a b"),)),
        Application(name="fourth", app="good_site:app"),
    )
    assert [failure.name for failure in failures] == ["second", "third", "fourth"]
    assert "first and second are both bound to a.example:*" in failures[0].message
    assert "'a b' is no host name" in failures[1].message
    assert "has no bindings" in failures[2].message
    assert served.ask(HTTP_HOST="c").status == 200


@pytest.mark.usefixtures("module")
def test_requests_are_counted_by_the_host_of_their_binding() -> None:
    bindings = (Binding(hostname="a.example"), Binding(hostname="a.example", path="/x"), Binding(hostname="*.b"))
    served, failures = built(Application(name="it", app="good_site:app", bindings=bindings))
    assert failures == []
    seen = []
    for host, path in (("a.example", "/"), ("a.example", "/x/y"), ("c.b", "/")):
        served.ask(HTTP_HOST=host, REQUEST_URI=path, PATH_INFO=path)
        seen += served.exchange.begun
    assert seen == [("a.example", 1), ("a.example", 1), ("c.b", 2)]


def test_a_site_is_known_by_its_name() -> None:
    assert str(Site("shop", None)) == "shop"


def test_the_contract_of_an_exchange_has_no_side_effects_of_its_own() -> None:
    """The drivers fill it in; declared as a Protocol it is never made."""
    with pytest.raises(TypeError, match="Protocols cannot be instantiated"):
        Exchange()  # type: ignore[misc]


def test_without_an_authorizer_what_is_bound_there_is_asked() -> None:
    served = Served(showing)
    assert served.ask(role=Role.AUTHORIZER, FCGI_ROLE="AUTHORIZER", PATH_INFO=None, REQUEST_URI="/secret").complete
    assert served.exchange.body == b"|/secret|http"


def test_an_authorizer_is_asked_about_any_host_and_the_whole_path() -> None:
    entries = [(Binding(hostname="a.example", path="/hello"), site("a"))]
    served = Served(entries=entries, authorizer=Site("authorizer", showing))
    asked = {"FCGI_ROLE": "AUTHORIZER", "SCRIPT_NAME": None, "PATH_INFO": None}
    for params, expected in [
        ({"REQUEST_URI": "/hello/x"}, b"|/hello/x|http"),
        ({"REQUEST_URI": "/a/../%41?b"}, b"|/A|http"),
        ({"HTTP_HOST": "b.example"}, b"|/hello|http"),
    ]:
        assert served.ask(role=Role.AUTHORIZER, **asked | params).complete
        assert served.exchange.body == expected
    assert served.ask().complete
    assert served.exchange.body == b"a"
    assert served.ask(role=Role.AUTHORIZER, **asked, HTTP_HOST="a@b").status == 400


def test_the_application_is_told_whether_others_run_beside_it() -> None:
    for multithread in (False, True):
        served = Served(answering([b""]), multithread=multithread)
        assert served.dispatcher.base["wsgi.multithread"] is multithread


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `mixed` with applications of both interfaces."""

    async def asynchronous(scope: Any, receive: Any, send: Any) -> None: ...

    module = types.ModuleType("mixed")
    vars(module).update(wsgi=answering([b"x"]), asgi=asynchronous)
    monkeypatch.setitem(sys.modules, "mixed", module)


@pytest.mark.usefixtures("mixed")
def test_pool_of_asgi_applications() -> None:
    served, failures = built(Application(app="mixed:asgi"))
    assert isinstance(served.dispatcher, AsyncDispatcher)
    assert failures == []


@pytest.mark.usefixtures("mixed")
@pytest.mark.parametrize(("first", "second"), [("wsgi", "asgi"), ("asgi", "wsgi")])
def test_pool_runs_one_interface(first: str, second: str) -> None:
    served, [failure] = built(
        Application(name="a", app=f"mixed:{first}", bindings=(Binding(hostname="a.example"),)),
        Application(name="b", app=f"mixed:{second}", bindings=(Binding(hostname="b.example"),)),
    )
    assert failure.message == (
        f"application 'b' is one of {second.upper()}, and 'a' of the same pool one of {first.upper()}: "
        "give one of them a pool of its own"
    )
    assert isinstance(served.dispatcher, AsyncDispatcher) is (first == "asgi")


@pytest.mark.usefixtures("mixed")
def test_asgi_has_no_use_for_threads() -> None:
    served, [failure] = built(Application(name="a", app="mixed:asgi"), multithread=True)
    assert (
        "leave `threads` out of the pool; max_concurrency bounds how many requests it runs at once" in failure.message
    )
    assert served.ask().status == 503


@pytest.mark.usefixtures("mixed")
def test_authorizer_of_a_pool() -> None:
    bound = Application(name="a", app="mixed:wsgi", bindings=(Binding(hostname="a.example"),))
    served, failures = built(bound, authorizer="mixed:wsgi")
    assert failures == []
    assert served.ask(role=Role.AUTHORIZER, HTTP_HOST="b.example").status == 200
    assert served.ask(HTTP_HOST="b.example").status == 503


@pytest.mark.usefixtures("mixed")
def test_an_authorizer_that_did_not_load_lets_nobody_through() -> None:
    served, [failure] = built(Application(name="a", app="mixed:wsgi"), authorizer="mixed:missing")
    assert failure.message.startswith("application 'authorizer': module 'mixed' has no 'missing'")
    assert served.ask(role=Role.AUTHORIZER).status == 503
    assert served.ask().status == 200


@pytest.mark.usefixtures("mixed")
def test_authorizer_of_an_asgi_pool() -> None:
    served, failures = built(Application(name="a", app="mixed:asgi"), authorizer="mixed:asgi")
    assert failures == []
    assert isinstance(served.dispatcher, AsyncDispatcher)
    assert len(served.dispatcher.lifespans) == 1


def test_the_log_names_the_pool_that_should_have_been_asked() -> None:
    entries = [(Binding(hostname="a.example", path="/hello"), site("a"))]
    elsewhere = {"the pool shop": ["shop.example"], "the pool a and the pool b": ["*.example"]}
    served = Served(entries=entries, elsewhere=elsewhere)
    for host in ("shop.example", "x.example", "x.test"):
        assert served.ask(HTTP_HOST=host).status == 503
        assert served.exchange.body == b"Service unavailable\n"
    said = "answered 503 Service unavailable: nothing is bound to"
    assert served.log == [
        f"{said} shop.example:8080 in this pool, but in the pool shop: the front-end sends it to the wrong one",
        f"{said} x.example:8080 in this pool, but in the pool a and the pool b: "
        "the front-end sends it to the wrong one",
        f"{said} x.test:8080",
    ]
