"""`gateway serve`, `check` and `run`: serve applications from a pool of workers, or say what keeps it from that."""

from __future__ import annotations

from typing import Any

import click

from gateway import log
from gateway.commands.outcome import USAGE, tell
from gateway.config import Source, read_settings, script_settings
from gateway.flags import given, settings_flags
from gateway.net.listeners import ListenError
from gateway.serving import go_on, handed_over, inherited_socket, refuse_root, supervise
from gateway.settings import ConfigError


@click.command()
@click.argument("target", default="")
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


@click.command()
@click.argument("target", default="")
@click.option("--dump", is_flag=True, help="print the settings in force, as TOML, and import nothing")
@settings_flags
def check(target: str, dump: bool, **flags: Any) -> int:
    """Check settings and applications.

    Reads the settings of TARGET and imports every application as `serve` does; names each mistake.
    """
    loaded = read_settings(target, given(flags))
    if dump:
        from gateway.dump import toml

        click.echo(toml(loaded.settings), nl=False)
        tell(*loaded.problems)
        return USAGE if loaded.problems else 0
    from gateway.process import start

    mistakes = [*loaded.problems, *start.check(loaded.settings)]
    if mistakes:
        tell(*mistakes)
        return USAGE
    for application in loaded.settings.applications:
        click.echo(f'ok: application "{application.name}" in pool {application.pool}')
    return 0


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
        return supervise(settings)
    from gateway.compat.script import run_script

    try:
        return run_script(script, arguments, settings, {*own, *(["listen"] if inherited == "systemd" else [])})
    except (ConfigError, ListenError):
        raise
    except Exception as error:
        told = _traceback_of_script(error, script)
        if not told:
            raise
        tell(f"{script} failed:\n{told}")
        return USAGE


def _traceback_of_script(error: Exception, script: str) -> str:
    """The traceback from the script's first line on; "" when it has no part in the error."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename != script:
        frames = frames.tb_next
    if frames is None and not (isinstance(error, SyntaxError) and error.filename == script):
        return ""
    import traceback

    return "".join(traceback.format_exception(type(error), error, frames))
