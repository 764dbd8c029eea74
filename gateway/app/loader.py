"""Finds the application that settings name, WSGI or ASGI, and says what is wrong where there is none."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable
from types import MethodType, ModuleType
from typing import Any

from gateway import settings
from gateway.app import remedies, script, webpy
from gateway.app.tracebacks import from_application

_TARGET = re.compile(r"(?P<module>\w+(?:\.\w+)*)(?::(?P<path>\w+(?:\.\w+)*)(?P<call>\(\))?)?")
_USUAL_NAMES = ("application", "app")
WSGI, ASGI = "wsgi", "asgi"
_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE

Application = Callable[..., Any]  # of either interface


class LoadError(Exception):
    """An application that cannot be served: `str()` is one message that names it and the remedy.

    `traceback` is that of the application's own code, from its first line, where that code raised. Before it comes what
    was tried, where, and with which sys.path.
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


def load(application: settings.Application, *, production: bool = True) -> Application:
    """Import what `application` names, or run its start script, and return the callable. Raises LoadError.

    `production` False leaves web.py what it does for whoever develops.
    """
    prepare = webpy.production if production else lambda: None
    prepare()
    try:
        found = _find(application)
        _check(found, application)
    except LoadError as error:
        explained = remedies.context(_tried(application)) + error.traceback
        raise LoadError(f"application {name_of(application)!r}: {error}", explained) from error.__cause__
    prepare()
    return found


def _check(found: Application, application: settings.Application) -> None:
    """Refuse what could only fail when it is called. Raises LoadError."""
    if application.interface == WSGI and is_asynchronous(found):
        raise LoadError('it is an ASGI application, and interface is "wsgi": leave interface out')
    if ":" in application.app and not application.app.endswith(")"):
        arguments = 3 if interface_of(found, application) == ASGI else 2
        if remedy := remedies.not_called_like_an_application(found, arguments, application.app):
            raise LoadError(remedy)


def _tried(application: settings.Application) -> str:
    if application.script:
        return _to_run(application.script)
    if application.className or application.moduleName:
        return f"{application.moduleName}.{application.className}(settings=…)"
    return application.app or f"to publish {', '.join(application.publisher)}"


def _to_run(path: str) -> str:
    return f"to run {path} up to where it serves"


def name_of(application: settings.Application) -> str:
    """What messages call it."""
    published = ", ".join(application.publisher)
    return application.name or application.app or application.script or published or application.className


def interface_of(found: Application, application: settings.Application) -> str:
    """How a loaded application is called: "wsgi" or "asgi"."""
    if application.interface == "auto":
        return ASGI if is_asynchronous(found) else WSGI
    return application.interface


def is_asynchronous(found: Application) -> bool:
    """Say whether it is a coroutine function, or an instance with one for its __call__: Starlette, FastAPI, Django's
    ASGIHandler.
    """
    return _is_coroutine_function(found) or _is_coroutine_function(type(found).__call__)


def _is_coroutine_function(found: Any) -> bool:
    """`inspect.iscoroutinefunction`, which is not imported for this: it takes longer than all else here. Where it is
    there it is asked, for it alone knows the functions that `inspect.markcoroutinefunction` has marked.
    """
    if "inspect" in sys.modules:
        return bool(sys.modules["inspect"].iscoroutinefunction(found))
    while isinstance(found, (MethodType, functools.partial)):
        found = found.__func__ if isinstance(found, MethodType) else found.func
    code = getattr(found, "__code__", None)
    return code is not None and bool(code.co_flags & _CO_COROUTINE)


def failure_of_script(path: str, error: BaseException) -> LoadError:
    """What a start script raised while it ran, explained; its traceback begins where that of `error` does."""
    raised = _raised(f"script {path!r}", "while it ran", error)
    return LoadError(str(raised), remedies.context(_to_run(path)) + raised.traceback)


def call(target: str, setting: str) -> None:
    """Import and call the MODULE:CALLABLE that a setting such as `on_worker_start` names. Raises LoadError."""
    try:
        _call_hook(target)
    except LoadError as error:
        explained = remedies.context(f"{target}()") + error.traceback
        raise LoadError(f"{setting}: {error}", explained) from error.__cause__


def named(target: str) -> Any:
    """Import what MODULE:NAME names. Raises LoadError."""
    match = _TARGET.fullmatch(target)
    if match is None or match["path"] is None or match["call"]:
        raise LoadError(f"{target!r} is not written as module:callable")
    return _attribute(_import(match["module"]), match["path"])


def _call_hook(target: str) -> None:
    found = named(target)
    if not callable(found):
        raise LoadError(f"{target} is of type {type(found).__name__}, not a callable")
    try:
        found()
    except (Exception, SystemExit) as error:
        raise _raised(target, "when it was called", error) from error


def _find(application: settings.Application) -> Application:
    if application.script:
        return _run_script(application.script)
    if application.publisher:
        return _publish(application)
    if application.className or application.moduleName:
        return _instantiate(application)
    match = _TARGET.fullmatch(application.app)
    if match is None:
        remedy = remedies.file_instead_of_module(application.app)
        text = f"app is {application.app!r}: provide a WSGI application as module:callable"
        raise LoadError(f"{text}; {remedy}" if remedy else text)
    module = _import(match["module"])
    if match["path"] is None:
        return _usual(module)
    found = _attribute(module, match["path"])
    if match["call"]:
        found = _call(found, application.app)
    return as_callable(found, application.app)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(f"{missing}.")):
            raise LoadError(f"there is no module {missing!r}: {remedies.missing_module(missing)}") from error
        raise _raised(f"module {name!r}", "while it was imported", error) from error


def _raised(what: str, when: str, error: BaseException) -> LoadError:
    if isinstance(error, ModuleNotFoundError) and error.name:
        message = f"{what} imports {error.name!r}, {remedies.missing_import(error.name, error.__traceback__)}"
    elif isinstance(error, SyntaxError) and error.filename:
        message = f"{what} has a syntax error: {error.filename}, line {error.lineno}: {error.msg}"
    elif isinstance(error, ImportError) and "attempted relative import" in str(error):
        message = (
            f"{what} imports relatively, so it is part of a package: {remedies.relative_import(error.__traceback__)}"
        )
    elif isinstance(error, SystemExit):
        message = f"{what} called sys.exit({error.code!r}) {when}: put that below if __name__ == '__main__'"
    else:
        message = f"{what} raised {type(error).__name__} {when}: {_first_line(error)}"
    return LoadError(message, from_application(error))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no message"])[0]


def _usual(module: ModuleType) -> Application:
    for name in _USUAL_NAMES:
        if hasattr(module, name):
            return as_callable(getattr(module, name), f"{module.__name__}:{name}")
    known = remedies.callables(module)
    which = f" ({known})" if known else ""
    raise LoadError(f"module {module.__name__!r} has neither application nor app: write {module.__name__}:NAME{which}")


def _attribute(module: ModuleType, path: str) -> Any:
    found: Any = module
    place = f"module {module.__name__!r}"
    for name in path.split("."):
        if not hasattr(found, name):
            raise LoadError(f"{place} has no {name!r}: {remedies.nearest(name, found)}")
        found = getattr(found, name)
        place = repr(name)
    return found


def _call(factory: Any, text: str) -> Any:
    if not callable(factory):
        raise LoadError(
            f"{text.removesuffix('()')} is of type {type(factory).__name__}, not a factory: leave out the ()"
        )
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise _raised(text, "when it was called", error) from error


def as_callable(found: Any, text: str) -> Application:
    """`found`, which messages call `text`; of a web.application what it makes. Raises LoadError for no application."""
    if hasattr(found, "wsgifunc"):  # a web.application
        found = _call(found.wsgifunc, f"{text}.wsgifunc()")
    if not callable(found):
        raise LoadError(f"{text} is of type {type(found).__name__}, not a WSGI or ASGI callable")
    application: Application = found
    return application


def _instantiate(application: settings.Application) -> Application:
    if not application.moduleName or not application.className:
        missing = "className" if application.moduleName else "moduleName"
        raise LoadError(f"{missing} is missing: moduleName and className belong together")
    module = _import(application.moduleName)
    factory = getattr(module, application.className, None)
    if factory is None:
        hint = remedies.nearest(application.className, module)
        raise LoadError(f"module {module.__name__!r} has no class {application.className!r}: {hint}")
    text = f"{module.__name__}.{application.className}"
    if not isinstance(factory, type):
        raise LoadError(f"{text} is of type {type(factory).__name__}, not a class")
    try:
        found = factory(settings=application.settings)
    except (Exception, SystemExit) as error:
        raise _raised(f"class {text}", "when it was instantiated with settings=…", error) from error
    return as_callable(found, f"an instance of {text}")


def _publish(application: settings.Application) -> Application:
    if application.interface == ASGI:
        raise LoadError('the publisher is a WSGI application, and interface is "asgi": leave interface out')
    try:
        from gateway.app.publisher.application import load as publish
        from gateway.app.publisher.sources import Unpublishable
    except ModuleNotFoundError as error:
        raise LoadError("the publisher needs werkzeug, which is not installed for this interpreter") from error
    try:
        return publish(application.publisher, _import)
    except Unpublishable as error:
        raise LoadError(str(error)) from error


def _run_script(path: str) -> Application:
    from gateway.app import flup

    webpy.offer_instead_of_serving()
    flup.take_the_place_of_flup(_refuse_to_serve)
    try:
        found = script.capture(path)
    except script.NothingOffered as error:
        raise LoadError(str(error)) from error
    except (Exception, SystemExit) as error:
        if isinstance(error, OSError) and error.filename == path:
            raise LoadError(f"cannot read the start script {path!r}: {error.strerror}") from error
        raise _raised(f"script {path!r}", "while it ran", error) from error
    return as_callable(found, f"what script {path!r} serves")


def _refuse_to_serve(server: object) -> bool:
    raise RuntimeError("a pool's worker serves already: WSGIServer.run() is for the start script alone")
