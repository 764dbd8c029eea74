"""Become another program, for a supervisor that started this one: the socket at fd 0, another user, then exec."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NoReturn

from .launch import Identity


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


def become(identity: Identity) -> None:
    """Change groups, group and user, in this order: whoever is no longer root may not change groups. Raises OSError."""
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if os.getresuid() != (identity.uid,) * 3 or os.getresgid() != (identity.gid,) * 3:
        raise OSError(f"could not become {identity.name}")
