"""`gateway run`: a start script, served as what it was started as."""

from __future__ import annotations

import os
from collections.abc import Collection
from types import TracebackType
from typing import Any

import click

from gateway.app.brief import brief
from gateway.commands.outcome import USAGE, tell
from gateway.config import script_settings
from gateway.flags import given, settings_flags
from gateway.net.listeners import ListenError
from gateway.serving import go_on, handed_over, inherited_socket, refuse_root, supervise
from gateway.settings import ConfigError


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("script", default="")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@settings_flags
def run(script: str, arguments: tuple[str, ...], **flags: Any) -> int:
    """Run a start script on this engine.

    SCRIPT ends in gateway.run(application), flup's WSGIServer(application).run() or web.py's app.run(), and need not be
    changed. It serves whatever it was started as: the socket on fd 0, one CGI request, the address that it names, or by
    hand (development server). With --max-children or --listen it is a pool. `gateway SCRIPT` is the same.
    """
    if not script:
        raise ConfigError("name the script to run, as in: gateway run code.py")
    if (handed := handed_over()) is not None:
        return go_on(handed)
    own, inherited = given(flags), inherited_socket()
    settings = script_settings(script, own, inherited=inherited).settings
    if "max_children" in own or "listen" in own:
        if arguments:
            raise ConfigError(f"{script} is given no arguments by a pool; leave out {' '.join(arguments)}")
        refuse_root(settings)
        return supervise(brief(settings))
    from gateway.compat.script import run_script

    names = (script, os.path.abspath(script))  # in tracebacks: it may be run in another folder
    try:
        return run_script(script, arguments, settings, {*own, *(["listen"] if inherited == "systemd" else [])})
    except (ConfigError, ListenError):
        raise
    except Exception as error:
        frames = _frames_of_script(error, names)
        if frames is None and not (isinstance(error, SyntaxError) and error.filename in names):
            raise
        from gateway.app.loader import failure_of_script

        failure = failure_of_script(script, error.with_traceback(frames))
        tell(f"{failure}\n{failure.traceback}")
        return USAGE


def _frames_of_script(error: Exception, names: Collection[str]) -> TracebackType | None:
    """The frames from the script's first on; None where it has no part in the error."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename not in names:
        frames = frames.tb_next
    return frames
