"""Become another program, for a supervisor that started this one: the socket at fd 0, another user, then exec."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NoReturn

from .identity import Identity, become


def replace_process(
    argv: Sequence[str], stdin: int, *, identity: Identity | None, env: Mapping[str, str], cwd: str | None
) -> NoReturn:
    """Execute `argv` in place of this process with `stdin` as its fd 0. Raises OSError when any step fails."""
    os.dup2(stdin, 0)
    if identity is not None:
        become(identity)
    if cwd is not None:
        os.chdir(cwd)
    os.execvpe(argv[0], list(argv), env)
