"""flup's servers: what they take, what they make of an application, and how they come into flup's modules."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.app import flup, script
from gateway.app.exchange import Disconnected
from gateway.app.loader import LoadError, load
from gateway.settings import Application
from tests.app.memory import Served, answering

pytestmark = pytest.mark.usefixtures("fresh_interpreter")
hello = answering([b"hello"])


def never(server: flup.Server) -> bool:
    raise AssertionError("nobody is to be served")


def made(module: str = "fcgi", *arguments: Any, **options: Any) -> flup.Server:
    return flup.server_class(module, never)(*(arguments or (hello,)), **options)


# -- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["fcgi", "fcgi_fork", "fcgi_single"])
def test_parameters_are_flup6s(module: str) -> None:
    theirs = inspect.signature(importlib.import_module(f"flup.server.{module}").WSGIServer)
    ours = inspect.signature(flup.server_class(module, never))
    positional = [p for p in theirs.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert list(ours.parameters.values())[: len(positional)] == positional


def test_what_the_script_names_is_known_apart() -> None:
    server = made("fcgi_fork", hello, {"a": "b"}, maxChildren=3)
    assert server.given == {"application", "environ", "maxChildren"}
    assert (server.options["maxSpare"], server.environ, server.debug) == (5, {"a": "b"}, True)


@pytest.mark.parametrize(
    ("module", "options", "many"),
    [
        ("fcgi", {}, (True, False)),
        ("fcgi", {"multithreaded": False, "multiprocess": True}, (False, True)),
        ("fcgi_single", {"multithreaded": True}, (False, False)),
        ("scgi", {}, (True, False)),
        ("scgi_fork", {"multiprocess": False}, (False, True)),
    ],
)
def test_threads_and_processes(module: str, options: dict[str, Any], many: tuple[bool, bool]) -> None:
    server = made(module, hello, **options)
    assert (server.multithreaded, server.multiprocess) == many


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        ("fcgi", {"maxChildren": 3}, "unexpected keyword argument 'maxChildren'"),
        ("scgi", {"roles": (1,)}, "unexpected keyword argument 'roles'"),
        ("fcgi", {"minSpare": 0}, "minSpare=0, maxSpare=5: at least 1, and maxSpare no less"),
        ("fcgi_fork", {"minSpare": 6}, "minSpare=6, maxSpare=5"),
        ("fcgi", {"roles": (3,)}, "roles=(3,): gateway answers responders (1) and authorizers (2)"),
    ],
)
def test_mistakes(module: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        made(module, hello, **options)
    assert message in str(caught.value)
    made(roles=(2,))


def test_what_is_overridden_in_vain() -> None:
    class Own(flup.server_class("fcgi", never)):  # type: ignore[misc]
        def _isClientAllowed(self, address: object) -> bool:
            return False

    with pytest.raises(TypeError, match=r"_isClientAllowed\(\) would not be called by gateway: name the addresses"):
        Own(hello)


# -- the application --------------------------------------------------------------------------------------------------


def shown(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [])
    return [f"{environ.get('shop')} {environ['wsgi.url_scheme']} {environ['wsgi.version']}".encode()]


@pytest.mark.parametrize(
    ("extra", "body"),
    [
        ({}, b"None http (1, 0)"),
        ({"shop": 1, "wsgi.version": (0, 1)}, b"1 http (1, 0)"),
        ({"HTTPS": "on"}, b"None https (1, 0)"),
        ({"HTTPS": "off"}, b"None http (1, 0)"),
    ],
)
def test_variables_of_the_script(extra: dict[str, Any], body: bytes) -> None:
    served = Served(made("fcgi", shown, extra).wsgifunc())
    served.ask()
    assert served.exchange.body == body


def failing(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    match environ["QUERY_STRING"]:
        case "before":
            raise LookupError("on purpose")
        case "written":
            start_response("200 OK", [])(b"written")
            raise LookupError("on purpose")
        case "written nothing":
            start_response("200 OK", [])(b"")
            raise LookupError("on purpose")
        case "front":
            raise Disconnected("gone")
    start_response("200 OK", [("X-Own", "1")])
    return Chunks(environ["QUERY_STRING"].split(","))


class Chunks:
    closed = 0

    def __init__(self, chunks: list[str]) -> None:
        self.chunks = iter(chunks)

    def __iter__(self) -> Chunks:
        return self

    def __next__(self) -> bytes:
        chunk = next(self.chunks)
        if chunk == "raise":
            raise LookupError("on purpose")
        return chunk.encode()

    def close(self) -> None:
        Chunks.closed += 1


class Page(flup.server_class("fcgi", never)):  # type: ignore[misc]
    def error(self, req: Any) -> None:
        assert isinstance(sys.exc_info()[1], LookupError)
        assert (req.server, req.role, req.requestId) == (self, 1, 1)
        req.stdout.write("Content-Type: text/html\r\nX-Page: 1\r\n\r\n")
        req.stdout.write(b"sorry, " + req.params["PATH_INFO"].encode())


@pytest.mark.parametrize(
    ("query", "status", "complete", "body", "closed"),
    [
        ("before", 500, True, b"sorry, /hello", 0),
        ("raise", 500, True, b"sorry, /hello", 1),
        (",raise", 500, True, b"sorry, /hello", 1),
        ("begun,raise", 200, False, b"begun", 1),
        ("written", 200, False, b"written", 0),
        ("written nothing", 500, True, b"sorry, /hello", 0),
        ("a,b", 200, True, b"ab", 1),
        ("front", 500, False, b"", 0),
    ],
)
def test_error_page(query: str, status: int, complete: bool, body: bytes, closed: int) -> None:
    served, before = Served(Page(failing).wsgifunc()), Chunks.closed
    result = served.ask(QUERY_STRING=query)
    assert (result.status, result.complete, served.exchange.body) == (status, complete, body)
    assert Chunks.closed - before == closed
    assert (b"X-Page: 1" in served.exchange.answer) is body.startswith(b"sorry")
    assert any("LookupError: on purpose" in line for line in served.log) is (query not in ("a,b", "front"))


def test_a_body_that_cannot_be_closed() -> None:
    served = Served(Page(answering([b"x"])).wsgifunc())
    assert (served.ask().status, served.exchange.body) == (200, b"x")


@pytest.mark.parametrize(
    ("written", "status", "body"),
    [
        (b"Status: 418 Teapot\nContent-Type: text/plain\n\na\r\nb", 418, b"a\r\nb"),
        (b"Content-Type: text/plain\r\n\r\n", 500, b""),
        (b"", 500, b""),
    ],
)
def test_error_page_in_cgi_form(written: bytes, status: int, body: bytes) -> None:
    class Own(flup.server_class("fcgi", never)):  # type: ignore[misc]
        def error(self, req: Any) -> None:
            req.stdout.write(written)

    served = Served(Own(failing).wsgifunc())
    assert (served.ask(QUERY_STRING="before").status, served.exchange.body) == (status, body)


def test_page_of_its_own_may_be_extended_and_may_raise() -> None:
    class Own(flup.server_class("fcgi", never)):  # type: ignore[misc]
        def error(self, req: Any) -> None:
            super().error(req)
            if req.params["HTTP_ACCEPT"] == "none":
                raise

    served = Served(Own(failing).wsgifunc())
    assert (served.ask(QUERY_STRING="before").status, served.exchange.body) == (500, b"Internal Server Error\n")
    assert served.ask(QUERY_STRING="before", HTTP_ACCEPT="none").status == 500


@pytest.mark.parametrize(("end", "hang_up"), [(lambda s: s._exit(), False), (lambda s: s._exit(True), True)])
def test_what_serves_a_server_can_be_stopped_by_it(end: Callable[[flup.Server], None], hang_up: bool) -> None:
    server, told = made(), []
    end(server)  # which does nothing before it serves
    server.stop_by(told.append)
    end(server)
    server._keepGoing = True  # type: ignore[attr-defined]
    assert told == [hang_up]
    server._keepGoing = False  # type: ignore[attr-defined]
    server._threadPool.maxSpare = server._threadPool._idleCount
    assert told == [hang_up, False]


def test_error_stream_takes_bytes_as_well() -> None:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        errors = environ["wsgi.errors"]
        errors.write(b"caf\xc3\xa9 \xff\n")
        errors.writelines(["text\n", b"bytes\n"])
        errors.flush()
        start_response("200 OK", [])
        return [errors.encoding.encode()]

    served = Served(made("fcgi", application).wsgifunc())
    for _ in range(2):
        assert (served.ask().status, served.exchange.body) == (200, b"utf-8")
    assert served.log == ["café \\xff", "text", "bytes"] * 2


# -- in flup's modules ------------------------------------------------------------------------------------------------


@pytest.fixture
def without_flup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the end of a test: others go on with the one that they have."""
    for name in [name for name in sys.modules if name == "flup" or name.startswith("flup.")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("without_flup")
@pytest.mark.parametrize("first", [True, False])
def test_flup6s_other_names_stay(first: bool) -> None:
    if first:
        flup.take_the_place_of_flup(never)
    module = importlib.import_module("flup.server.fcgi_fork")
    flup.take_the_place_of_flup(never)
    assert issubclass(module.WSGIServer, flup.Server)
    assert module.BaseFCGIServer is importlib.import_module("flup.server.fcgi_base").BaseFCGIServer
    assert module.__file__
    assert importlib.import_module("flup.client.fcgi_app").FCGIApp


@pytest.mark.usefixtures("without_flup")
@pytest.mark.parametrize("module", ["scgi", "scgi_fork"])
def test_what_flup6_cannot_import_is_made(module: str) -> None:
    flup.take_the_place_of_flup(never)
    assert issubclass(importlib.import_module(f"flup.server.{module}").WSGIServer, flup.Server)
    with pytest.raises(ImportError, match="does not speak AJP"):
        importlib.import_module("flup.server.ajp")


@pytest.mark.usefixtures("without_flup")
def test_without_flup_its_names_are_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    flup.take_the_place_of_flup(never)
    for name in flup.MODULES:
        module = importlib.import_module(f"flup.server.{name}")
        assert issubclass(module.WSGIServer, flup.Server)
    base = importlib.import_module("flup.server.fcgi_base")
    assert (base.FCGI_RESPONDER, base.FCGI_UNKNOWN_ROLE) == (1, 3)
    with pytest.raises(ModuleNotFoundError, match=r"flup\.client"):
        importlib.import_module("flup.client")


@pytest.mark.usefixtures("without_flup")
def test_a_script_offers_what_it_would_serve(tmp_path: Path) -> None:
    ending = "from flup.server.fcgi import WSGIServer\nWSGIServer(app, {'shop': 'it'}, bindAddress='/x').run()\n1 / 0\n"
    (tmp_path / "start.py").write_text(
        f"from {__name__} import shown as app\n".replace(__name__, "application") + ending
    )
    (tmp_path / "application.py").write_text(
        inspect.getsource(shown).replace("dict[str, Any]", "dict").replace("Callable[..., Any]", "object")
    )
    served = Served(load(Application(script="start.py")))
    served.ask()
    assert served.exchange.body == b"it http (1, 0)"


@pytest.mark.usefixtures("without_flup")
def test_run_where_nobody_captures(tmp_path: Path) -> None:
    ran: list[flup.Server] = []
    server = flup.server_class("fcgi", lambda server: bool(ran.append(server)) or True)(hello)
    assert server.run() is True
    assert ran == [server]
    (tmp_path / "start.py").write_text("from flup.server.fcgi import WSGIServer as S\nS(print).run()\n")
    load(Application(script="start.py"))
    with pytest.raises(RuntimeError, match="a pool's worker serves already"):
        importlib.import_module("flup.server.fcgi").WSGIServer(hello).run()


def test_an_offer_that_does_not_come_out(tmp_path: Path) -> None:
    text = "import gateway.app.script as s\ntry:\n    s.offer(print, None)\nexcept:\n    pass\n"
    (tmp_path / "start.py").write_text(text)
    with pytest.raises(LoadError, match="offered its application where nobody could take it"):
        load(Application(script="start.py"))


def test_a_script_is_served_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import sys\nimport gateway.app.script as s\nprint(s.offer(1, None), s.offer(2, None), sys.argv)\n"
    (tmp_path / "start.py").write_text(text)
    printed: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *words: printed.append(" ".join(map(str, words))))
    script.run("start.py", ["a"], lambda offered: offered + 10)
    assert printed == ["11 12 ['start.py', 'a']"]
