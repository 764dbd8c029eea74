"""The folders of `gateway/` as docs/design.md lays them out: who imports whom, and who has which side effect."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gateway"
MODULES = sorted(p for p in PACKAGE.rglob("*.py"))

WORKER = {"protocol", "app", "net", "process", "record", "settings", "log"}
MAY_IMPORT: dict[str, set[str]] = {
    "record": set(),
    "settings": {"record"},
    "log": set(),
    "protocol": {"protocol", "record"},
    "app": {"app", "protocol", "record", "settings"},
    "net": {"net", "protocol", "app", "record", "settings", "log"},
    "process": WORKER,
    "front": {"front", "net", "app", "protocol", "record", "settings", "config", "log"},
    "console": {"console", "metrics", "net", "app", "protocol", "settings", "log"},
    "compat": {"compat", "front.development"} | WORKER,
    "publisher": {"app.publisher"},
    "declared": {"record", "settings", "net.address", "app.accessformat"},
    "parsing": {"settings"},
    "tables": {"declared", "settings", "net.address", "app.bindings"},
    "sites": {"declared", "parsing", "record", "settings", "tables"},
    "config": {"config", "declared", "parsing", "record", "settings", "sites", "tables", "net.address", "app.remedies"},
    "dump": {"record", "settings"},
    "metrics": set(),
}
COMMANDS = {
    "__init__", "__main__", "commands", "asking", "flags", "reading", "serving", "spawn", "statustable", "watching",
}  # fmt: skip

# The publisher is loaded where an application names one, and only there.
WITH_WERKZEUG = PACKAGE / "app" / "publisher"

COSTLY = {"ast", "dataclasses", "dis", "inspect"}
NEVER_IN_PROTOCOL = {"socket", "select", "os", "time", "threading", "asyncio", "logging", "subprocess", "signal"}
NEVER_IN_APP = {"socket", "select", "selectors", "asyncio", "logging", "subprocess", "signal", "multiprocessing"}
NEVER_IN_POLICY = {"os", "time", "signal", "socket", "select", "threading", "random"}
OF_PROCESSES = {
    "fork", "forkpty", "posix_spawn", "posix_spawnp", "kill", "killpg", "wait", "waitpid", "waitid", "wait3", "wait4",
    "execv", "execve", "execvp", "execvpe", "execl", "execle", "execlp", "execlpe", "pidfd_open",
    "setuid", "setgid", "setresuid", "setresgid", "setgroups", "initgroups", "setsid",
}  # fmt: skip
# `gateway up` and the development server run other processes, which have to end with them; the compat runner is a
# process of its own that the user stops.
MAY_USE_SIGNALS = {"front/up.py", "front/development.py", "front/interrupt.py"}


def unit(path: Path) -> str:
    """The folder, or the module directly in gateway/, that the rules are about."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Absolute dotted names that a module imports, wherever in it; `from a import b` gives a.b."""
    package = ("gateway", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) + "." if node.level else ""
            yield from (f"{start}{node.module or ''}".rstrip(".") + f".{alias.name}" for alias in node.names)


def within(name: str, allowed: set[str]) -> bool:
    """Whether the dotted `name` (without `gateway.`) is one of `allowed`, or below it."""
    return any(name == entry or name.startswith(entry + ".") for entry in allowed)


def each(*units: str) -> pytest.MarkDecorator:
    """Parametrise over the modules of some folders."""
    paths = [p for p in MODULES if unit(p) in units]
    return pytest.mark.parametrize("path", paths, ids=[str(p.relative_to(PACKAGE)) for p in paths])


@each(*MAY_IMPORT)
def test_imports_go_downward(path: Path) -> None:
    own = [n.removeprefix("gateway.") for n in imports(path) if n.startswith("gateway.") and n != "gateway.__version__"]
    assert [name for name in own if not within(name, MAY_IMPORT[unit(path)])] == []


def test_every_module_has_a_place() -> None:
    assert {unit(p) for p in MODULES} == set(MAY_IMPORT) | COMMANDS


@each(*WORKER)
def test_worker_code_imports_the_standard_library_alone(path: Path) -> None:
    roots = {name.partition(".")[0] for name in imports(path)}
    allowed = {"gateway", "werkzeug"} if WITH_WERKZEUG in path.parents else {"gateway"}
    assert roots - sys.stdlib_module_names <= allowed


@each("protocol")
def test_protocol_has_no_side_effects(path: Path) -> None:
    assert {name.partition(".")[0] for name in imports(path)} & NEVER_IN_PROTOCOL == set()


@each("app")
def test_app_is_pure_calls(path: Path) -> None:
    assert {name.partition(".")[0] for name in imports(path)} & NEVER_IN_APP == set()


def test_policy_decides_without_doing() -> None:
    assert {name.partition(".")[0] for name in imports(PACKAGE / "process" / "policy.py")} & NEVER_IN_POLICY == set()


@pytest.mark.parametrize("path", MODULES, ids=[str(p.relative_to(PACKAGE)) for p in MODULES])
def test_only_net_touches_sockets(path: Path) -> None:
    if unit(path) == "process":  # its channels are socket pairs, and it hands listeners on; it opens none
        functions = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        calls = {function.attr for function in functions if isinstance(function, ast.Attribute)}
        assert calls & {"bind", "listen", "connect", "create_server", "create_connection"} == set()
    elif unit(path) != "net":
        assert "socket" not in {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", MODULES, ids=[str(p.relative_to(PACKAGE)) for p in MODULES])
def test_only_process_forks_waits_and_signals(path: Path) -> None:
    if unit(path) == "process" or str(path.relative_to(PACKAGE)) in MAY_USE_SIGNALS:
        return
    used = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    named = {name.removeprefix("os.") for name in imports(path) if name.startswith("os.")}
    assert (used | named) & OF_PROCESSES == set()
    assert {name.partition(".")[0] for name in imports(path)} & {"signal", "multiprocessing"} == set()


def test_worker_code_loads_without_any_installed_package() -> None:
    modules = [p for p in MODULES if unit(p) in WORKER and WITH_WERKZEUG not in p.parents]
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in modules]
    optional = {"gateway.protocol.twin"}  # its importers do without it where it is not built
    names = [name for name in names if not name.endswith("__main__") and name not in optional]
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfor name in {names!r}: __import__(name)\n"
    bare = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=30, env={"PATH": os.defpath}
    )
    assert (bare.returncode, bare.stderr) == (0, "")


@pytest.mark.parametrize(
    "names",
    [
        "serving, process.entry, process.upgrade, process.supervisor",
        "process.zygote",
        "process.worker",
        "process.single",
    ],
    ids=["master", "zygote", "worker", "lone worker"],
)
def test_what_starts_each_time_starts_without_dataclasses(names: str) -> None:
    """See `gateway.record`."""
    modules = ", ".join(f"gateway.{name}" for name in names.split(", "))
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {modules}; print({COSTLY} & set(sys.modules))"
    bare = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, timeout=30)
    assert (bare.stdout, bare.stderr) == ("set()\n", "")


@pytest.mark.parametrize("path", MODULES, ids=[str(p.relative_to(PACKAGE)) for p in MODULES])
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [n.name for n in functions if n.end_lineno and n.end_lineno - n.lineno >= 60] == []


@pytest.mark.parametrize("path", MODULES, ids=[str(p.relative_to(PACKAGE)) for p in MODULES])
def test_modules_say_what_they_are_and_have_names_that_say_something(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
