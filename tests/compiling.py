"""Compiles what is in C, so that the tests need no installation, and loads the protocol's modules on either side.

TWIN_CFLAGS adds flags for the compiler, such as those of a sanitizer.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

import gateway.protocol

PROTOCOL = Path(gateway.protocol.__file__ or "").parent
QUICK = PROTOCOL.parent / "net" / "_quick.c"
ROW = PROTOCOL.parent / "process" / "_row.c"
STRICT = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-Wno-sign-conversion"]


def compile_extension(source: Path, folder: Path) -> Path:
    """An extension in `folder`, of the sources of this checkout; no warning is accepted."""
    target = folder / f"{source.stem}.abi3.so"
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    flags = ["-O2", "-g", "-fPIC", "-shared", *STRICT, *shlex.split(os.environ.get("TWIN_CFLAGS", ""))]
    command = [*compiler, *flags, f"-I{sysconfig.get_path('include')}", str(source), "-o", str(target)]
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.run(command, check=True, timeout=100, env=environment)
    return target


def compile_twin(folder: Path) -> Path:
    """That of the protocols."""
    return compile_extension(PROTOCOL / "_records.c", folder)


def load(name: str, path: Path) -> ModuleType:
    """A new module `name` of the code at `path`, which sys.modules does not get to know."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_twin(extension: Path) -> ModuleType:
    """`gateway.protocol.twin` on the compiled `extension`. Raises ImportError where that refuses."""
    with pytest.MonkeyPatch.context() as patch:
        compiled = load("gateway.protocol._records", extension)
        patch.setitem(sys.modules, "gateway.protocol._records", compiled)
        patch.setattr(gateway.protocol, "_records", compiled, raising=False)
        return load("gateway.protocol.twin", PROTOCOL / "twin.py")


def load_with(twin: ModuleType | None, name: str) -> ModuleType:
    """The module `name` of the protocol, made anew, as it is with `twin` or without one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "gateway.protocol.twin", twin)  # type: ignore[arg-type] # None: not to be imported
        return load(f"gateway.protocol.{name}", PROTOCOL / f"{name}.py")
