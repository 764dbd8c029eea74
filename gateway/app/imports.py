"""Other people's modules as they are imported: changed once they have been executed, or made where there are none."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from gateway.record import Record

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:  # importing them takes 8 ms of every start, and the import system asks for the methods alone
    Loader = MetaPathFinder = object

Apply = Callable[[ModuleType], None]


class _Change(Record):
    apply: Apply
    made: bool = False  # where no such module can be imported, it begins as an empty one
    package: bool = False


_changes: dict[str, _Change] = {}


def change(name: str, apply: Apply) -> None:
    """Apply a change to the module `name`: now if it is imported already, else once it has been executed, before
    whoever imports it goes on. Imports nothing.
    """
    _note(name, _Change(apply))
    if name in sys.modules:
        apply(sys.modules[name])


def change_or_make(name: str, apply: Apply, *, package: bool = False) -> None:
    """Like `change`; where there is no such module, or it raises ImportError, the change is applied to an empty one."""
    _note(name, _Change(apply, made=True, package=package))
    if name in sys.modules:
        apply(sys.modules[name])


def _note(name: str, change: _Change) -> None:
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _changes[name] = change


class _Finder(MetaPathFinder):
    """Finds the modules that are to be changed where they are, or makes them, and nothing else."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in _changes:
            return None
        change = _changes[fullname]
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _ChangingLoader(spec.loader, change)
        elif change.made:
            spec = importlib.machinery.ModuleSpec(fullname, _MakingLoader(change), is_package=change.package)
        return spec


class _ChangingLoader(Loader):
    """Loads a module as its own loader does, then changes it."""

    def __init__(self, loader: Loader, change: _Change) -> None:
        self._loader = loader
        self._change = change

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self._loader.exec_module(module)
        except ImportError:
            if not self._change.made:
                raise
        self._change.apply(module)


class _MakingLoader(Loader):
    """Makes a module of nothing but the change."""

    def __init__(self, change: _Change) -> None:
        self._change = change

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        self._change.apply(module)
