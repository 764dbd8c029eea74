"""Every way to name an application, and every mistake in it: one message each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.app import script, webpy
from gateway.app.loader import LoadError, failure_of_script, interface_of, load
from gateway.settings import Application
from tests.app.memory import Served

APP = "def app(environ, start_response):\n    return [b'app']\n"


pytestmark = pytest.mark.usefixtures("fresh_interpreter")


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    def write(**modules: str) -> None:
        for name, text in modules.items():
            (tmp_path / f"{name}.py").write_text(text)

    return write


def mistake(app: str = "", **more: Any) -> LoadError:
    with pytest.raises(LoadError) as caught:
        load(Application(name="shop", app=app, **more))
    assert str(caught.value).startswith("application 'shop': ")
    assert "\n" not in str(caught.value)
    return caught.value


def own_traceback(error: LoadError) -> list[str]:
    """Its lines without what was tried."""
    return error.traceback[error.traceback.index("Traceback (most") :].splitlines()


def run(application: Any) -> Any:
    return application({}, lambda *head: None)


# -- what can be named ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("app", "text"),
    [
        ("m:app", APP),
        ("m", APP),
        ("m", APP.replace("app(", "application(")),
        ("m:site.app", "import types\n" + APP + "site = types.SimpleNamespace(app=app)\n"),
        ("m:make()", APP + "def make():\n    return app\n"),
        ("m:Makers.make()", APP + "class Makers:\n    make = staticmethod(lambda: app)\n"),
        ("m:App", "class App:\n    def __new__(cls, environ, start_response):\n        return [b'app']\n"),
        (
            "m:app",
            "class App:\n    def __call__(self, environ, start_response):\n        return [b'app']\napp = App()\n",
        ),
        ("m:app", "class App:\n    def wsgifunc(self):\n        return lambda *a: [b'app']\napp = App()\n"),
    ],
)
def test_what_can_be_named(write: Callable[..., None], app: str, text: str) -> None:
    write(m=text)
    assert run(load(Application(app=app))) == [b"app"]


def test_a_module_in_a_package(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "web.py").write_text(APP)
    assert run(load(Application(app="shop.web:app"))) == [b"app"]


CLASS = (
    "class Shop:\n    def __init__(self, settings):\n        self.settings = settings\n"
    "    def __call__(self, environ, start_response):\n        return [self.settings['connstr'].encode()]\n"
)


def test_a_class_is_instantiated_with_its_settings(write: Callable[..., None]) -> None:
    write(m=CLASS)
    application = Application(name="shop", moduleName="m", className="Shop", settings={"connstr": "sqlite://"})
    assert run(load(application)) == [b"sqlite://"]


def test_the_process_environment_is_left_alone(write: Callable[..., None]) -> None:
    write(m=APP)
    before = dict(os.environ)
    load(Application(app="m:app"))
    assert dict(os.environ) == before


def test_a_publisher(write: Callable[..., None]) -> None:
    write(shop="def hello():\n    return 'hello'\n")
    found = load(Application(publisher=("shop",)))
    assert interface_of(found, Application(publisher=("shop",))) == "wsgi"
    served = Served(found)
    assert served.ask(PATH_INFO="/hello").status == 200
    assert served.exchange.body == b"hello"


# -- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("app", ["", ":app", "m:", "m:app:x", "m app", "m:app(1)", "m/app.py", "..m", "m:app."])
def test_what_is_no_name(app: str) -> None:
    assert "provide a WSGI application as module:callable" in str(mistake(app))


def test_an_application_without_a_name_is_called_by_its_target() -> None:
    with pytest.raises(LoadError, match=r"^application 'no_such_module:app': "):
        load(Application(app="no_such_module:app"))


@pytest.mark.parametrize("app", ["no_such_module:app", "no_such_module.web:app"])
def test_a_module_that_is_not_there(write: Callable[..., None], app: str) -> None:
    write(m=APP)
    error = mistake(app)
    message = "there is no module 'no_such_module': check the spelling, and that app_dir is the folder it lies in"
    assert str(error) == f"application 'shop': {message}"
    assert error.traceback.startswith(f"  tried     {app}\n")


def test_a_module_that_imports_what_is_not_there(write: Callable[..., None]) -> None:
    write(m="# a comment\nimport no_such_module\n")
    error = mistake("m:app")
    assert "module 'm' imports 'no_such_module', which is not installed" in str(error)
    assert error.traceback.startswith("  tried     m:app\n")
    lines = own_traceback(error)
    assert lines[1].endswith('m.py", line 2, in <module>')
    assert lines[-1] == "ModuleNotFoundError: No module named 'no_such_module'"


def test_a_syntax_error(write: Callable[..., None], tmp_path: Path) -> None:
    write(m="x = 1\ndef broken(:\n")
    error = mistake("m:app")
    assert f"module 'm' has a syntax error: {tmp_path}/m.py, line 2: " in str(error)
    assert f'\n  File "{tmp_path}/m.py", line 2' in error.traceback


def test_an_exception_on_import(write: Callable[..., None]) -> None:
    write(m="import inner\n", inner="\n\nraise ValueError('no\\nconnection')\n")
    error = mistake("m:app")
    assert "module 'm' raised ValueError while it was imported: no" in str(error)
    lines = own_traceback(error)
    assert lines[1].endswith('m.py", line 1, in <module>')
    assert not any("importlib" in line or "gateway" in line for line in lines)


def test_an_exception_without_a_message(write: Callable[..., None]) -> None:
    write(m="raise ValueError\n")
    assert "raised ValueError while it was imported: no message" in str(mistake("m:app"))


@pytest.mark.parametrize("statement", ["raise SystemExit(3)", "import sys; sys.exit(3)"])
def test_sys_exit_on_import(write: Callable[..., None], statement: str) -> None:
    write(m=f"{statement}\n")
    error = mistake("m:app")
    assert "module 'm' called sys.exit(3) while it was imported: put that below if __name__" in str(error)
    assert error.traceback.endswith("SystemExit: 3\n")


def test_ctrl_c_during_an_import_is_not_a_mistake(write: Callable[..., None]) -> None:
    write(m="raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load(Application(app="m:app"))


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("m:aplication", "module 'm' has no 'aplication': did you mean 'application'?"),
        ("m:zzz", "module 'm' has no 'zzz': it has application, broken(), leaving(), importing()"),
        ("m:application.zzz", "'application' has no 'zzz': write the name of its callable"),
        ("m:nothing", "m:nothing cannot be called with environ and start_response; if it makes the application, write"),
        ("m:Later", "m:Later cannot be called with environ and start_response; if it makes the application, write m:L"),
        ("m:short", "m:short cannot be called with scope, receive and send; if it makes the application, write"),
        ("partial", "module 'partial' has neither application nor app: write partial:NAME (it has create_app())"),
        ("m:application.app", "'application' has no 'app'"),
        ("m:number", "m:number is of type int, not a WSGI or ASGI callable"),
        ("m:number()", "m:number is of type int, not a factory: leave out the ()"),
        ("m:broken()", "m:broken() raised ValueError when it was called: broken"),
        ("m:leaving()", "m:leaving() called sys.exit(None) when it was called"),
        ("m:importing()", "m:importing() imports 'no_such_module', which is not installed for this interpreter"),
        ("m:nothing()", "m:nothing() is of type NoneType, not a WSGI or ASGI callable"),
        ("m:webpy", "m:webpy.wsgifunc() raised KeyError when it was called"),
        ("bare", "module 'bare' has neither application nor app: write bare:NAME"),
    ],
)
def test_what_is_no_application(write: Callable[..., None], app: str, message: str) -> None:
    write(
        bare="",
        partial="def create_app(): ...\n",
        m="""
import sys
def application(environ, start_response): ...
number = 1
def broken(): raise ValueError("broken")
def leaving(): sys.exit()
def importing(): import no_such_module
def nothing(): ...
class Webpy:
    def wsgifunc(self): raise KeyError("x")
webpy = Webpy()
async def short(scope): ...
async def later(scope, receive, send): ...
class Later:
    async def __call__(self, scope, receive, send): ...
later_object = Later()
""",
    )
    assert message in str(mistake(app))


def test_the_traceback_of_a_factory_begins_in_the_factory(write: Callable[..., None]) -> None:
    write(m="def make():\n    return 1 / 0\n")
    lines = own_traceback(mistake("m:make()"))
    assert lines[1].endswith('m.py", line 2, in make')


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"moduleName": "m"}, "className is missing"),
        ({"className": "Shop"}, "moduleName is missing"),
        ({"moduleName": "no_such_module", "className": "Shop"}, "there is no module 'no_such_module'"),
        ({"moduleName": "m", "className": "Shopp"}, "module 'm' has no class 'Shopp': did you mean 'Shop'?"),
        ({"moduleName": "m", "className": "number"}, "m.number is of type int, not a class"),
        (
            {"moduleName": "m", "className": "Bare"},
            "class m.Bare raised TypeError when it was instantiated with settings",
        ),
        (
            {"moduleName": "m", "className": "Idle"},
            "an instance of m.Idle is of type Idle, not a WSGI or ASGI callable",
        ),
    ],
)
def test_mistakes_with_a_class(write: Callable[..., None], settings: dict[str, str], message: str) -> None:
    write(
        m=CLASS + "number = 1\nclass Bare: ...\nclass Idle:\n    def __init__(self, settings): ...\n",
    )
    assert message in str(mistake(**settings))


# -- start scripts ----------------------------------------------------------------------------------------------------


def test_a_start_script(write: Callable[..., None]) -> None:
    write(
        start="import gateway.app.script as s\n"
        + APP
        + "if __name__ == '__main__':\n    s.offer(app, None)\n    1 / 0\n"
    )
    assert run(load(Application(script="start.py"))) == [b"app"]
    assert sys.argv == ["start.py"]
    assert sys.modules["__main__"].__dict__["app"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the start script 'start.py': No such file or directory"),
        ("x = 1", "start.py ended without serving; end it with gateway.run(application)"),
        ("1 / 0", "script 'start.py' raised ZeroDivisionError while it ran"),
        ("open('missing')", "script 'start.py' raised FileNotFoundError while it ran"),
        ("raise SystemExit", "script 'start.py' called sys.exit(None) while it ran"),
        ("import gateway.app.script as s; s.offer(1, None)", "what script 'start.py' serves is of type int"),
        ("(", "script 'start.py' has a syntax error: start.py, line 1: '(' was never closed"),
        ("raise SyntaxError('own')", "script 'start.py' raised SyntaxError while it ran: own"),
        ("import no_such_module", "script 'start.py' imports 'no_such_module', which is not installed for this"),
        ("raise ModuleNotFoundError('none')", "script 'start.py' raised ModuleNotFoundError while it ran: none"),
    ],
)
def test_mistakes_of_a_start_script(write: Callable[..., None], text: str | None, message: str) -> None:
    if text is not None:
        write(start=text)
    assert message in str(mistake(script="start.py"))


def test_what_a_script_raises_where_it_serves_itself(write: Callable[..., None]) -> None:
    write(start="import no_such_module\n")
    with pytest.raises(ModuleNotFoundError) as caught:
        script.run("start.py", (), lambda application: None)
    failure = failure_of_script("start.py", caught.value)
    assert str(failure).startswith("script 'start.py' imports 'no_such_module', which is not installed for this")
    assert failure.traceback.startswith("  tried     to run start.py up to where it serves\n")


def test_outside_of_a_start_script_an_offer_is_nobodys() -> None:
    assert script.offer(object(), lambda: 1) == 1


# -- web.py -----------------------------------------------------------------------------------------------------------

WEBPY = """
import web
urls = ("/raise", "Raise", "/.*", "Hello")
class Hello:
    def GET(self):
        return "debug is " + str(web.config.debug)
class Raise:
    def GET(self):
        secret = "in the source"
        raise ValueError(secret)
app = web.application(urls, globals(){autoreload})
"""


@pytest.fixture
def without_webpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the end of a test: others go on with the one that they have."""
    for name in [name for name in sys.modules if name == "web" or name.startswith("web.")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("without_webpy")
@pytest.mark.parametrize("autoreload", ["", ", True", ", autoreload=True", ", False"])
@pytest.mark.parametrize("more", ["", "web.config.debug = True\n"])
def test_webpy_is_in_production_mode(write: Callable[..., None], autoreload: str, more: str) -> None:
    write(m=WEBPY.format(autoreload=autoreload) + more)
    served = Served(load(Application(app="m:app")))
    assert served.ask(PATH_INFO="/", REQUEST_URI="/").status == 200
    assert served.exchange.body == b"debug is False"
    assert served.ask(PATH_INFO="/raise", REQUEST_URI="/raise").status == 500
    assert b"source" not in served.exchange.answer
    assert any("ValueError: in the source" in line for line in served.log)
    loadhooks = [processor.__closure__[0].cell_contents for processor in sys.modules["m"].app.processors]
    assert "Reloader" not in str(loadhooks)
    assert "reload_mapping" not in str(loadhooks)


@pytest.mark.usefixtures("without_webpy")
def test_webpy_imported_before_is_changed_as_well(write: Callable[..., None]) -> None:
    import web

    write(m=WEBPY.format(autoreload=", True"))
    application = load(Application(app="m:app"))
    load(Application(app="m:app"))
    assert application
    assert web.config.debug is False
    assert len(sys.modules["m"].app.processors) == 2


@pytest.mark.usefixtures("without_webpy")
@pytest.mark.parametrize(
    "ending",
    [
        "app.run()",
        "web.wsgi.runwsgi(app.wsgifunc())",
        "web.wsgi.runfcgi(app.wsgifunc(), None)",
        "web.httpserver.runsimple(app.wsgifunc())",
        "web.wsgi.runwsgi = lambda func, addr=None: web.wsgi.runfcgi(func, addr)\napp.run()",
    ],
)
def test_a_webpy_script_offers_what_it_would_run(write: Callable[..., None], ending: str) -> None:
    write(code=WEBPY.format(autoreload=", True") + ending + "\n")
    served = Served(load(Application(script="code.py")))
    served.ask(PATH_INFO="/", REQUEST_URI="/")
    assert served.exchange.body == b"debug is False"


@pytest.mark.usefixtures("without_webpy")
def test_webpys_runners_run_where_no_script_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVER_SOFTWARE", "PHP_FCGI_CHILDREN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["code.py"])
    webpy.offer_instead_of_serving()
    webpy.offer_instead_of_serving()
    import web.wsgi

    called: list[Any] = []
    web.wsgi.runwsgi.__wrapped__.__globals__["httpserver"].runsimple = lambda *arguments: called.append(arguments)
    web.wsgi.runwsgi("application")
    assert called
    assert called[0][0] == "application"


@pytest.mark.usefixtures("without_webpy")
@pytest.mark.parametrize(
    ("arguments", "offered"),
    [
        (["code.py"], "a server of application"),
        (["code.py", "8080"], "a server of application"),
        (["code.py", "scgi"], ""),
    ],
)
def test_a_socket_that_the_arguments_name_is_left_to_webpy(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], offered: str
) -> None:
    monkeypatch.setattr(sys, "argv", arguments)
    webpy.offer_instead_of_serving(lambda application: f"a server of {application}")
    taken: list[Any] = []
    monkeypatch.setattr(script, "_take", taken.append)
    import web.wsgi

    served: list[Any] = []
    monkeypatch.setattr(web.wsgi, "runscgi", served.append)
    web.wsgi.runwsgi("application")
    assert (taken, served) == (([offered], []) if offered else ([], ["application"]))


@pytest.mark.usefixtures("without_webpy")
def test_a_module_that_cannot_be_imported_is_not_made_up(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "__init__.py").write_text("")
    (tmp_path / "web" / "wsgi.py").write_text("import no_such_module\n")
    webpy.offer_instead_of_serving()
    assert "module 'web.wsgi' imports 'no_such_module'" in str(mistake("web.wsgi:application"))


@pytest.mark.usefixtures("without_webpy")
@pytest.mark.parametrize("module", ["wsgi", "application", "webapi", "httpserver"])
def test_another_package_of_webpys_name_is_left_alone(tmp_path: Path, module: str) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "__init__.py").write_text("")
    (tmp_path / "web" / f"{module}.py").write_text(APP.replace("app(", "application("))
    webpy.offer_instead_of_serving()
    assert run(load(Application(app=f"web.{module}:application"))) == [b"app"]
    assert "there is no module 'web.wsgi2'" in str(mistake("web.wsgi2:application"))


@pytest.mark.usefixtures("without_webpy")
def test_a_module_of_webpys_name_that_is_missing_is_missing(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "__init__.py").write_text("")
    webpy.offer_instead_of_serving()
    assert "there is no module 'web.wsgi'" in str(mistake("web.wsgi:application"))


ASYNCHRONOUS = """
import functools
def wsgi(environ, start_response): ...
def plain(scope, receive, send): return function(scope, receive, send)
async def function(scope, receive, send): ...
class Class:
    async def __call__(self, scope, receive, send): ...
    async def method(self, scope, receive, send): ...
instance = Class()
method = instance.method
partial = functools.partial(function)
nested = functools.partial(functools.partial(method))
called = functools.partial(plain, None)
def factory(): return instance
"""


@pytest.mark.parametrize(
    ("app", "interface", "expected"),
    [
        ("m:wsgi", "auto", "wsgi"),
        ("m:function", "auto", "asgi"),
        ("m:instance", "auto", "asgi"),
        ("m:method", "auto", "asgi"),
        ("m:partial", "auto", "asgi"),
        ("m:factory()", "auto", "asgi"),
        ("m:plain", "asgi", "asgi"),
        ("m:wsgi", "wsgi", "wsgi"),
        ("m:called", "auto", "wsgi"),
        ("m:nested", "auto", "asgi"),
    ],
)
def test_interface(
    write: Callable[..., None], monkeypatch: pytest.MonkeyPatch, app: str, interface: str, expected: str
) -> None:
    write(m=ASYNCHRONOUS)
    application = Application(app=app, interface=interface)
    found = load(application)
    assert interface_of(found, application) == expected
    monkeypatch.delitem(sys.modules, "inspect")  # which not every application has imported
    assert interface_of(found, application) == expected


def test_interface_that_is_another(write: Callable[..., None]) -> None:
    write(m=ASYNCHRONOUS)
    with pytest.raises(LoadError, match='it is an ASGI application, and interface is "wsgi": leave interface out'):
        load(Application(app="m:function", interface="wsgi"))


# -- publishers -------------------------------------------------------------------------------------------------------


def test_mistakes_of_a_publisher(write: Callable[..., None]) -> None:
    write(shop="def _hello(): ...\n", broken="import no_such_module\n")
    assert "there is no module 'none'" in str(mistake(publisher=("none",)))
    assert "module 'broken' imports 'no_such_module', which is not installed" in str(mistake(publisher=("broken",)))
    assert "publisher finds nothing to publish: define a function" in str(mistake(publisher=("shop",)))
    message = str(mistake(publisher=("shop",), interface="asgi"))
    assert 'the publisher is a WSGI application, and interface is "asgi": leave interface out' in message
    with pytest.raises(LoadError, match=r"^application 'none, shop': "):
        load(Application(publisher=("none", "shop")))


def test_a_publisher_needs_werkzeug(write: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    write(shop="hello = 'hello'\n")
    for name in list(sys.modules):
        if name.partition(".")[0] == "werkzeug" or name.startswith("gateway.app.publisher"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "werkzeug", None)
    assert "the publisher needs werkzeug, which is not installed" in str(mistake(publisher=("shop",)))
