"""What web.py does on its own that a worker must not, changed as web.py is imported (0.62 and 0.76 read).

web.py takes a process for a development server unless its environment or arguments look like FastCGI. With
`web.config.debug` an error page shows source and variables to everyone, templates are read anew for each request, and
`web.application` reloads modules; its third argument, autoreload, does the latter whatever the configuration says.
And a start script ends in app.run(), which would open a server of web.py's own.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import FunctionType, ModuleType
from typing import Any

from gateway.app.script import offer

Change = Callable[[ModuleType], None]


def production() -> None:
    """Switch web.py's development mode off, now if it is imported already, else as it is. Imports nothing.

    Called again after an application has been imported, it also undoes the application's own `web.config.debug = True`.
    """
    _change("web.webapi", _switch_debug_off)
    _change("web.application", _switch_autoreload_off)


def offer_instead_of_serving() -> None:
    """Let web.py's runners offer their application to `script.capture`, which takes it if it runs the script."""
    _change("web.wsgi", functools.partial(_offer_first, names=("runwsgi", "runfcgi", "runscgi")))
    _change("web.httpserver", functools.partial(_offer_first, names=("runsimple",)))


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


def _offer_first(module: ModuleType, names: Sequence[str]) -> None:
    for name in names:
        runner = getattr(module, name, None)
        if runner is not None and not hasattr(runner, "__wrapped__"):
            setattr(module, name, _offering(runner))


def _offering(runner: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(runner)
    def offer_or_run(application: Any, *arguments: Any, **options: Any) -> Any:
        offer(application)
        return runner(application, *arguments, **options)

    return offer_or_run


_changes: dict[str, Change] = {}


def _change(name: str, change: Change) -> None:
    """Apply `change` to the module `name` once it has been executed, before whoever imports it goes on."""
    if not _changes:
        sys.meta_path.insert(0, _Finder())
    _changes[name] = change
    if name in sys.modules:
        change(sys.modules[name])


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that are to be changed where they are, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _changes:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ChangingLoader(spec.loader)
        return spec


class _ChangingLoader(importlib.abc.Loader):
    """Loads a module as its own loader does, then changes it."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _changes[module.__name__](module)
