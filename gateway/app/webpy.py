"""What web.py does on its own that a worker must not, changed as web.py is imported (0.62 and 0.76 read).

web.py takes a process for a development server unless its environment or arguments look like FastCGI. With
`web.config.debug` an error page shows source and variables to everyone, templates are read anew for each request, and
`web.application` reloads modules; its third argument, autoreload, does the latter whatever the configuration says.
And a start script ends in app.run(), which would open a server of web.py's own.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from types import FunctionType, ModuleType
from typing import Any

from gateway.app.imports import change
from gateway.app.script import offer

Prepare = Callable[[Any], Any]
PROTOCOLS = frozenset(("fcgi", "fastcgi", "scgi"))  # arguments by which web.py's runner is told what to speak


def production() -> None:
    """Switch web.py's development mode off, now if it is imported already, else as it is. Imports nothing.

    Called again after an application has been imported, it also undoes the application's own `web.config.debug = True`.
    """
    change("web.webapi", _switch_debug_off)
    change("web.application", _switch_autoreload_off)


def offer_instead_of_serving(prepare: Prepare | None = None) -> None:
    """Let web.py's runners offer their application to whoever runs the script (`script.run`).

    With `prepare`, which makes of it what is offered, the process itself is to serve: then a socket that the script or
    its arguments name is left to web.py, which comes to flup's servers with it.
    """
    names = ("runwsgi", "runfcgi", "runscgi") if prepare is None else ("runwsgi",)
    change("web.wsgi", functools.partial(_offer_first, names=names, prepare=prepare))
    change("web.httpserver", functools.partial(_offer_first, names=("runsimple",), prepare=prepare))


# A package named `web` need not be web.py: `web.wsgi` is a usual name in a Django project.


def _switch_debug_off(module: ModuleType) -> None:
    if hasattr(module, "config") and hasattr(module, "ctx"):
        module.config.debug = False


def _switch_autoreload_off(module: ModuleType) -> None:
    construct = getattr(getattr(module, "application", None), "__init__", None)
    if not isinstance(construct, FunctionType) or hasattr(construct, "__wrapped__"):
        return

    @functools.wraps(construct)
    def construct_without_autoreload(app: Any, *arguments: Any, **options: Any) -> None:
        construct(app, *arguments[:2], **{**options, "autoreload": False})

    module.application.__init__ = construct_without_autoreload


def _offer_first(module: ModuleType, names: Sequence[str], prepare: Prepare | None) -> None:
    for name in names:
        runner = getattr(module, name, None)
        if runner is not None and not hasattr(runner, "__wrapped__"):
            setattr(module, name, _offering(runner, prepare))


def _offering(runner: Callable[..., Any], prepare: Prepare | None) -> Callable[..., Any]:
    @functools.wraps(runner)
    def offer_or_run(application: Any, *arguments: Any, **options: Any) -> Any:
        run = functools.partial(runner, application, *arguments, **options)
        if prepare is None:
            return offer(application, run)
        return run() if not PROTOCOLS.isdisjoint(sys.argv) else offer(prepare(application), run)

    return offer_or_run
