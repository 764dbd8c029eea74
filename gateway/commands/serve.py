"""`gateway serve`: a pool of workers, or the one process that lighttpd or spawn-fcgi has started."""

from __future__ import annotations

from typing import Any

import click

from gateway.flags import given, publisher_flag, settings_flags
from gateway.reading import read


@click.command()
@click.argument("target", default="")
@publisher_flag
@settings_flags
@click.pass_obj
def serve(known: tuple[str, dict[str, Any] | None], /, target: str, **flags: Any) -> dict[str, Any]:
    """Serve applications from a pool of workers.

    TARGET is a settings file or MODULE:CALLABLE. The pool listens on --listen, else on the socket it was given (fd 0 or
    systemd's LISTEN_FDS), else on what the settings file says, else on a Unix socket in the runtime directory.
    """
    # This is run in a child of the process that will serve (`serving.Source`), which gets what is returned.
    inherited, memory = known
    return read(target, given(flags), inherited, memory)
