"""The modules that `publisher` names: one, several, a file, or a directory of them; packages with what they contain."""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType

from gateway.app.publisher.names import Names, names_of

Import = Callable[[str], ModuleType]


class Unpublishable(Exception):
    """What `publisher` names cannot be published: `str()` is one line that says why, and the remedy."""


@dataclass(frozen=True, slots=True)
class Source:
    """A module, or None for a directory, with the public modules in it."""

    module: ModuleType | None
    inner: Mapping[str, Source] = field(default_factory=dict)
    names: Names = field(default_factory=Names)


def find(texts: Sequence[str], import_module: Import) -> Source:
    """Import what `texts` name: one is the root, several are each below their own name, the last part of it.

    `import_module` raises whatever it does for a module that fails. Raises Unpublishable.
    """
    if len(texts) == 1:
        return _source(texts[0], import_module)
    inner: dict[str, Source] = {}
    for text in texts:
        name = _own_name(text)
        if name in inner:
            raise Unpublishable(f"two of what publisher names are called {name}: rename one")
        inner[name] = _source(text, import_module)
    return Source(None, inner)


def _own_name(text: str) -> str:
    if _is_path(text):
        return os.path.basename(text.rstrip("/")).removesuffix(".py")
    return text.rpartition(".")[2]


def _is_path(text: str) -> bool:
    return "/" in text or text.endswith(".py")


def _source(text: str, import_module: Import) -> Source:
    if _is_path(text):
        return _at_path(text, import_module)
    if not text or not all(part.isidentifier() for part in text.split(".")):
        raise Unpublishable(f"publisher names {text!r}, which is no module: write shop, shop.pages, shop.py or pages/")
    return _package(import_module(text), import_module)


def _at_path(text: str, import_module: Import) -> Source:
    """What is at a path, absolute or relative to a folder of sys.path: app_dir is the first of them."""
    path = next(
        (path for folder in sys.path if os.path.exists(path := os.path.join(os.path.abspath(folder), text))), ""
    )
    if not path:
        raise Unpublishable(f"publisher names {text!r}: there is no such file or directory in app_dir")
    path = path.rstrip("/")
    if os.path.isfile(path) or os.path.exists(os.path.join(path, "__init__.py")):
        return _module_in(*os.path.split(path.removesuffix(".py")), import_module)
    inner = {name: _module_in(path, name, import_module) for name in _public_modules([path])}
    if not inner:
        raise Unpublishable(f"publisher names {text!r}: there is no Python file in it")
    return Source(None, inner)


def _module_in(folder: str, name: str, import_module: Import) -> Source:
    if folder not in sys.path:
        sys.path.insert(0, folder)
    module = import_module(name)
    found = getattr(module, "__file__", None)
    file = os.path.realpath(found) if found else ""
    if not file.startswith(os.path.realpath(folder) + os.sep):
        raise Unpublishable(f"{os.path.join(folder, name)} has the name of another module, {file or name}: rename it")
    return _package(module, import_module)


def _package(module: ModuleType, import_module: Import) -> Source:
    """A module with the public modules in it, where it is a package; those that `__all__` names, where there is one.

    A folder without `__init__.py` is a directory of modules.
    """
    paths = getattr(module, "__path__", None)
    names = names_of(module)
    if paths is None:
        return Source(module, names=names)
    listed = vars(module).get("__all__")
    inner = {}
    for name in _public_modules(paths):
        if name in names.defined:
            raise Unpublishable(f"{module.__name__} defines {name}, and has a module of this name: rename one")
        value = vars(module).get(name)
        if listed is None or (name in listed and (value is None or isinstance(value, ModuleType))):
            inner[name] = _package(import_module(f"{module.__name__}.{name}"), import_module)
    return Source(module if getattr(module, "__file__", None) else None, inner, names)


def _public_modules(paths: Iterable[str]) -> list[str]:
    return sorted(found.name for found in pkgutil.iter_modules(paths) if not found.name.startswith("_"))
