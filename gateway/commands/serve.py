"""`gateway serve`: a pool of workers, or the one process that lighttpd or spawn-fcgi has started."""

from __future__ import annotations

from typing import Any

import click

from gateway import log
from gateway.commands.outcome import tell
from gateway.config import Source
from gateway.flags import given, publisher_flag, settings_flags
from gateway.serving import go_on, handed_over, inherited_socket, refuse_root, supervise
from gateway.settings import ConfigError


@click.command()
@click.argument("target", default="")
@publisher_flag
@settings_flags
def serve(target: str, **flags: Any) -> int:
    """Serve applications from a pool of workers.

    TARGET is a settings file or MODULE:CALLABLE. The pool listens on --listen, else on the socket it was given (fd 0 or
    systemd's LISTEN_FDS), else on what the settings file says, else on a Unix socket in the runtime directory.
    """
    handed = handed_over()
    inherited = inherited_socket(handed)
    source = Source(target, given(flags), inherited)
    if handed is not None:
        return go_on(handed, source.read_again)
    loaded = source.read()
    settings = loaded.settings
    if not settings.applications:
        raise ConfigError("\n".join(loaded.problems))
    pool = next(iter(settings.pools.values()))
    if flags["max_children"] is not None or pool.listen != ("fd:0",) or not inherited:
        return supervise(settings, loaded.problems, source.read_again)
    refuse_root(settings)
    from gateway.process import single

    tell(*loaded.problems)
    if settings.gateway.error_log != "stderr":
        log.open_file(settings.gateway.error_log)
    log.use_json(settings.gateway.error_log_format == "json")
    single.settle_in(pool)
    return single.serve(pool, settings.applications)
