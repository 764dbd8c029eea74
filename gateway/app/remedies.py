"""Why an application cannot be loaded, as far as can be told by looking around: what is likely meant, what was tried.

Each remedy is the end of a message: it says what to write or start instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType, TracebackType
from typing import Any

# difflib, glob and sysconfig are imported where something has failed: workers have no other use for them. Nor for
# inspect, but where a class is called with environ and start_response.
_CO_VARARGS = 0x04  # inspect.CO_VARARGS
_VIRTUAL_ENVIRONMENTS = (".venv", "venv", "env", ".env")
_USUAL_NAMES = ("application", "app")
_MOST_NAMES = 4  # that are listed where none is near
_FOLDERS_BELOW = 2  # levels of app_dir that are searched for a module


def as_module(path: str) -> tuple[str, str]:
    """The dotted name of the module in the file `path`, and the folder that it is imported from."""
    folder, name = os.path.split(path)
    parts = [name.removesuffix(".py")]
    while os.path.isfile(os.path.join(folder, "__init__.py")) and os.path.basename(folder):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    return ".".join(parts), folder


def file_instead_of_module(text: str) -> str:
    """For an application that is named by a file, as in shop/web.py:application; "" for any other text."""
    path, _, name = text.partition(":")
    if not path.endswith(".py") and "/" not in path:
        return ""
    module, folder = as_module(os.path.normpath(path))
    where = f", by --app-dir {folder}" if folder else ""
    return f"name the module, not the file: {module}:{name or 'NAME'}{where}"


def missing_module(name: str) -> str:
    """For a module that was named by the settings, or a package on the way to it."""
    parent, _, leaf = name.rpartition(".")
    if leaf == "py":
        return f"name the module, not the file: write {parent}, without .py"
    if parent and not hasattr(sys.modules.get(parent), "__path__"):
        return f"{parent!r} is a module, not a package: write {parent}:NAME for what is in it"
    import difflib

    folders = [*sys.modules[parent].__path__] if parent else sys.path[:1]
    if near := difflib.get_close_matches(leaf, sorted({n for folder in folders for n in _modules_in(folder)}), n=1):
        return f"did you mean {parent + '.' if parent else ''}{near[0]}?"
    if place := _elsewhere(name.partition(".")[0]):
        return f"it {place}"
    return "check the spelling, and that app_dir is the folder it lies in"


def missing_import(name: str, traceback: TracebackType | None) -> str:
    """For a module that the application imports and that is not there."""
    top = name.partition(".")[0]
    importer = _last_frame(traceback)
    package = str(importer.get("__package__") or "")
    if package and top in _modules_in(os.path.dirname(str(importer.get("__file__")))):
        return f"which lies beside it in the package {package!r}: import it as {package}.{name}"
    if place := _elsewhere(top):
        return f"which {place}"
    return f"which is not installed for this interpreter; {_how_to_install()}"


def _how_to_install() -> str:
    for environment in _environments():
        return f"{environment} is not active: {_how_to_activate(environment)}"
    return f"install what has it by {sys.executable} -m pip"


def relative_import(traceback: TracebackType | None) -> str:
    """For a relative import in a module that was not imported as part of its package."""
    module, folder = as_module(os.path.abspath(str(_last_frame(traceback).get("__file__"))))
    if "." not in module:  # the package has no __init__.py
        module, folder = f"{os.path.basename(folder)}.{module}", os.path.dirname(folder)
    return f"name it {module}:NAME, by --app-dir {folder}"


def nearest(name: str, owner: object) -> str:
    """For an attribute that is not there."""
    import difflib

    names = difflib.get_close_matches(name, [known for known in dir(owner) if not known.startswith("__")], n=1)
    if near := names or [usual for usual in _USUAL_NAMES if name in _USUAL_NAMES and hasattr(owner, usual)]:
        return f"did you mean {near[0]!r}?"
    return callables(owner) or "write the name of its callable"


def callables(owner: object) -> str:
    """What of a module may be meant, where nothing says which; "" for none."""
    if not isinstance(owner, ModuleType):
        return ""
    own = (
        f"{name}()" if _takes(found, 0) and not _takes(found, 2) else name
        for name, found in vars(owner).items()
        if callable(found) and not name.startswith("_") and _is_defined_in(owner, found)
    )
    names = list(own)[:_MOST_NAMES]
    return f"it has {', '.join(names)}" if names else ""


def _is_defined_in(module: ModuleType, found: Any) -> bool:
    """Whether a function or class is a module's own; an instance, such as Flask's application, does not tell."""
    if isinstance(found, (FunctionType, type)):
        return found.__module__ == module.__name__
    return not isinstance(found, BuiltinFunctionType)


def not_called_like_an_application(found: Any, arguments: int, text: str) -> str:
    """For a function or class that cannot take what an application is called with, 2 arguments (WSGI) or 3 (ASGI); ""
    where it can, or where that is not known.
    """
    if not isinstance(found, (FunctionType, type)) or _takes(found, arguments):
        return ""
    called = "environ and start_response" if arguments == 2 else "scope, receive and send"
    return f"{text} cannot be called with {called}; if it makes the application, write {text}()"


def _takes(found: Any, arguments: int) -> bool:
    """Whether something can be called with so many arguments; true where its signature is not its own to tell."""
    if hasattr(found, "__signature__"):
        return True
    # Not those of what it wraps: werkzeug's @Request.application makes a function of one argument one of two.
    if isinstance(found, FunctionType):
        return _function_takes(found, arguments)
    import inspect

    try:
        inspect.signature(found, follow_wrapped=False).bind(*[None] * arguments)
    except TypeError:
        return False
    except ValueError:  # written in C
        return True
    return True


def _function_takes(function: FunctionType, arguments: int) -> bool:
    code = function.__code__
    least = code.co_argcount - len(function.__defaults__ or ())
    has_room = arguments <= code.co_argcount or bool(code.co_flags & _CO_VARARGS)
    return least <= arguments and has_room and code.co_kwonlyargcount <= len(function.__kwdefaults__ or ())


def context(tried: str) -> str:
    """What was tried, in which directory and by which interpreter, and where modules are looked for: lines of text."""
    file = getattr(sys.modules.get(tried.partition(":")[0]), "__file__", None)
    folder = os.getcwd()
    is_first = (sys.path[0] or folder) == folder
    rows = [
        ("tried", tried),
        *([("of", file)] if file else []),
        ("in", f"{folder}, first on sys.path" if is_first else folder),
        ("python", f"{sys.executable} ({'.'.join(map(str, sys.version_info[:3]))})"),
        *zip(("sys.path", *[""] * len(sys.path)), _paths(sys.path[is_first:]), strict=False),
    ]
    return "".join(f"  {label:8}  {text}\n" for label, text in rows)


def _paths(paths: Iterable[str]) -> Iterator[str]:
    """What of sys.path is not Python's own."""
    import sysconfig

    library = sysconfig.get_path("stdlib")
    own = (library, sysconfig.get_path("platstdlib"), os.path.join(library, "lib-dynload"))
    for path in paths:
        if path not in own and not path.endswith(".zip") and not path.startswith("__editable__"):  # setuptools' hooks
            path = path or os.getcwd()
            yield path if os.path.exists(path) else f"{path} (does not exist)"


def _last_frame(traceback: TracebackType | None) -> dict[str, Any]:
    """The globals of the innermost frame that is not the import system's."""
    found: dict[str, Any] = {}
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith("<frozen importlib"):
            found = traceback.tb_frame.f_globals
        traceback = traceback.tb_next
    return found


def _elsewhere(top: str) -> str:
    """Where a module is, if that is another folder or a virtual environment that is not the one used, else ""."""
    import glob

    app_dir = os.path.abspath(sys.path[0])
    if os.path.basename(app_dir) == top:
        return f"is app_dir itself: take the folder above it, by --app-dir {os.path.dirname(app_dir)}"
    for folder in _folders_below(app_dir, _FOLDERS_BELOW):
        if top in _modules_in(folder):
            return f"is in {folder}: take that for app_dir, by --app-dir {folder}"
    for environment in _environments():
        if any(top in _modules_in(folder) for folder in glob.glob(f"{environment}/lib*/python*/site-packages")):
            return f"is installed in {environment}, which is not active: {_how_to_activate(environment)}"
    return ""


def _how_to_activate(environment: str) -> str:
    if os.path.isfile(f"{environment}/bin/gateway"):
        return f"start {environment}/bin/gateway"
    return f'set python = "{environment}/bin/python" for the pool, or install gateway there'


def _folders_below(folder: str, levels: int) -> Iterator[str]:
    for entry in _entries(folder):
        if entry.is_dir() and entry.name.isidentifier() and not os.path.isfile(f"{entry.path}/pyvenv.cfg"):
            yield entry.path
            if levels > 1:
                yield from _folders_below(entry.path, levels - 1)


def _environments() -> Iterator[str]:
    """Virtual environments that may be meant, but for the one that runs this."""
    app_dir = os.path.abspath(sys.path[0])
    folders = (app_dir, os.path.dirname(app_dir))
    near = (os.path.join(folder, name) for folder in folders for name in _VIRTUAL_ENVIRONMENTS)
    for path in (os.environ.get("VIRTUAL_ENV", ""), *near):
        if os.path.isfile(os.path.join(path, "pyvenv.cfg")) and os.path.realpath(path) != os.path.realpath(sys.prefix):
            yield path


def _modules_in(folder: str) -> Iterator[str]:
    """The names of the modules in a folder, and of folders that may be packages."""
    for entry in _entries(folder):
        name, suffix = os.path.splitext(entry.name)
        if suffix in (".py", ".so"):
            yield name.partition(".")[0]
        elif name.isidentifier() and entry.is_dir() and any(e.name.endswith(".py") for e in _entries(entry.path)):
            yield name


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []
