"""The `gateway` command: each subcommand imports what it needs when it runs, so that the master holds little.

Exit codes: 0; 1 refused; 75 another instance owns the socket; 100 usage or settings; 101 our bug; 111 the system.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from gateway import __version__, log
from gateway.config import Source, find_control, read_settings, script_settings
from gateway.flags import given, settings_flags
from gateway.net.control import ControlError, call
from gateway.net.listeners import ListenError
from gateway.serving import go_on, handed_over, inherited_socket, refuse_root, supervise
from gateway.settings import ConfigError

_port = click.IntRange(1, 65_535)
REFUSED, USAGE, OUR_BUG, SYSTEM, INTERRUPTED = 1, 100, 101, 111, 130


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, invoke_without_command=True
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def gateway(context: click.Context) -> int:
    """Serve Python web applications to lighttpd or nginx over FastCGI or SCGI."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
    return USAGE


@gateway.command()
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

    _tell(*loaded.problems)
    if settings.gateway.error_log != "stderr":
        log.open_file(settings.gateway.error_log)
    log.use_json(settings.gateway.error_log_format == "json")
    single.settle_in(pool)
    return single.serve(pool, settings.applications)


@gateway.command()
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
        _tell(*loaded.problems)
        return USAGE if loaded.problems else 0
    from gateway.process import start

    mistakes = [*loaded.problems, *start.check(loaded.settings)]
    if mistakes:
        _tell(*mistakes)
        return USAGE
    for application in loaded.settings.applications:
        click.echo(f'ok: application "{application.name}" in pool {application.pool}')
    return 0


@gateway.command()
@click.argument("name", default="")
@click.argument("target", default="")
@click.option(
    "--listen", default="", metavar="HOST:PORT", help="where the front-end listens (default: the bindings' ports)"
)
@click.option("--pool", default="", metavar="ADDRESS", help="where the pool listens, if the settings do not say")
@click.option("--static", default="", metavar="PATH", help="folder served as /sta/ (default: the bundled one)")
@click.option("--user", default="", metavar="USER", help="user of the front-end's workers when root starts it")
@click.option("--group", default="", metavar="GROUP", help="lighttpd: the group to that")
@click.option("--run-directory", default="/run/gateway", metavar="PATH", help="nginx: for its pid and temporary files")
@click.option("--keepalive", default=0, metavar="N", help="nginx: connections kept to each pool (default: 0)")
@click.option("--part", is_flag=True, help="nginx: only what stands inside http { … }")
@click.option("--bin-path", default="", metavar="COMMAND", help="lighttpd: the command by which it starts the pool")
@click.option("--certificate", default="", metavar="FILE", help="PEM file, for TLS")
@click.option("--certificate-key", default="", metavar="FILE", help="PEM file of its key")
@click.option("--client-ca", default="", metavar="FILE", help="asks clients for a certificate of this authority")
def front(name: str, target: str, pool: str, part: bool, **options: Any) -> int:
    """Print a front-end's configuration.

    NAME is nginx or lighttpd; TARGET is the settings file, or MODULE:CALLABLE, that it stands before.
    """
    from gateway.front.render import render

    loaded = read_settings(target, {"listen": (pool,)} if pool else {})
    _tell(*loaded.problems)
    click.echo(render(name, loaded.settings, complete=not part, **options), nl=False)
    return 0


@gateway.command()
@click.argument("target", default="")
@click.option("--front", default="", metavar="NAME", help="lighttpd, nginx or embedded (default: the first installed)")
@click.option("--host", default="127.0.0.1", metavar="IP", help="address to show it at (default: 127.0.0.1)")
@click.option("--port", default=8080, type=_port, metavar="N", help="port to show it at (default: 8080)")
@click.option("--app-dir", default="", metavar="PATH", help="first on sys.path (default: where this is started)")
def up(target: str, **options: Any) -> int:
    """Serve behind a front-end, here and now.

    TARGET is a settings file or MODULE:CALLABLE; without one, it is the demo. Ctrl-C stops everything.
    """
    from gateway.front.up import up as serve_behind_front

    return serve_behind_front(target, **options)


@gateway.command()
@click.argument("target", default="")
@click.option("--host", default="127.0.0.1", metavar="IP", help="address to listen on (default: 127.0.0.1)")
@click.option("--port", default=None, type=_port, metavar="N", help="port to listen on (default: $PORT, else 8080)")
@click.option("--app-dir", default="", metavar="PATH", help="first on sys.path (default: where this is started)")
def dev(target: str, host: str, port: int | None, app_dir: str) -> int:
    """Serve with debugger and reloader.

    For the author of TARGET, a settings file with one application or MODULE:CALLABLE; never for visitors.
    """
    from gateway.app.loader import ASGI, call, interface_of, load
    from gateway.front import development

    loaded = read_settings(target, {"app_dir": app_dir} if app_dir else {})
    settings = loaded.settings
    if len(settings.applications) != 1:
        count = f"{target}: {len(settings.applications)} applications can be served; name one, as MODULE:CALLABLE"
        raise ConfigError("\n".join([*loaded.problems, count]))
    (application,) = settings.applications
    pool = settings.pools[application.pool]
    sys.path.insert(0, os.path.abspath(pool.app_dir or "."))
    loaded_application = load(application)
    if interface_of(loaded_application, application) == ASGI:
        raise ConfigError("the development server runs WSGI alone: `gateway up` shows an ASGI application")
    if pool.on_worker_start:
        call(pool.on_worker_start, "on_worker_start")
    return development.run(loaded_application, host=host, port=port)


def _of_master(command: Callable[..., int]) -> Callable[..., int]:
    """The arguments by which a running master is found."""
    option = click.option("--control", default="", metavar="PATH", help="control socket of the running gateway")
    return option(click.argument("target", default="")(command))


def _ask(target: str, control: str, command: str, timeout: float = 10.0, **more: str) -> dict[str, Any]:
    path = find_control(target, control)
    answer = call(path, {"command": command, **more}, timeout)
    if not answer.get("ok"):
        _tell(str(answer.get("error") or f"{path}: {command} was refused"))
        raise click.exceptions.Exit(REFUSED)
    return answer


_timeout = click.option("--timeout", default=600.0, metavar="SECONDS", help="how long to wait for it (default: 600)")


@gateway.command()
@_of_master
@click.option("--json", "as_json", is_flag=True, help="print what the master answered, as JSON")
@click.option("--openmetrics", is_flag=True, help="print it as metrics in the OpenMetrics format")
@click.option("--watch", is_flag=True, help="show it anew every second, until q or Ctrl-C")
def status(target: str, control: str, as_json: bool, openmetrics: bool, watch: bool) -> int:
    """Show pools and workers.

    The running gateway is found by --control, by the settings file TARGET, by GATEWAY_CONTROL, or in its default place.
    """
    if as_json + openmetrics + watch > 1:
        raise ConfigError("--json, --openmetrics and --watch exclude each other")
    if watch:
        from gateway import watching

        return watching.watch(lambda: _ask(target, control, "status"))
    answer = _ask(target, control, "status")
    if openmetrics:
        from gateway.metrics import exposition

        click.echo(exposition(answer), nl=False)
    elif as_json:
        import json

        del answer["ok"]
        click.echo(json.dumps(answer, indent=2))
    else:
        from gateway.statustable import lines

        for line in lines(answer):
            click.echo(line)
    return 0


@gateway.command()
@_of_master
@click.option("--pool", default="", metavar="NAME", help="reload this pool alone (default: all)")
@_timeout
def reload(target: str, control: str, pool: str, timeout: float) -> int:
    """Load the applications anew.

    Returns when the new code serves, or has failed: then the old goes on serving, and the exit code is 1. The running
    gateway is found as by `status`.
    """
    _ask(target, control, "reload", timeout, pool=pool)
    return 0


@gateway.command()
@_of_master
@_timeout
def upgrade(target: str, control: str, timeout: float) -> int:
    """Go on in the code that is installed now.

    After `pip install -U`: the running gateway executes itself anew, as the same process, with its sockets, and the
    workers are replaced as by `reload`. Returns when that is done, or refused: then the exit code is 1. The running
    gateway is found as by `status`.
    """
    answer = _ask(target, control, "upgrade", timeout)
    click.echo(f"gateway {answer['version']} serves")
    return 0


@gateway.command("reopen-logs")
@_of_master
def reopen_logs(target: str, control: str) -> int:
    """Open the log files anew.

    After they were renamed, for which no line is lost; SIGUSR1 does the same. The running gateway is found as by
    `status`.
    """
    _ask(target, control, "reopen-logs")
    return 0


@gateway.command()
@_of_master
@click.option("--fast", is_flag=True, help="do not wait for requests that are running")
@_timeout
def stop(target: str, control: str, fast: bool, timeout: float) -> int:
    """Stop a running gateway.

    The requests that are running are answered first. Returns when it has stopped; found as by `status`.
    """
    _ask(target, control, "stop" if fast else "quit", timeout)
    return 0


@gateway.command()
@click.argument("address", default="")
@click.argument("url", default="")
@click.option("-X", "method", default="", metavar="METHOD", help="request method (default: GET, with -d POST)")
@click.option("-H", "headers", multiple=True, metavar="'NAME: VALUE'", help="a request header (repeatable)")
@click.option("-d", "data", default=None, metavar="DATA", help="request body; @FILE reads it from a file")
@click.option("--protocol", type=click.Choice(["fastcgi", "scgi"]), default="fastcgi", help="(default: fastcgi)")
@click.option("--timeout", default=60.0, metavar="SECONDS", help="longest silence (default: 60)")
def request(address: str, url: str, **options: Any) -> int:
    """Send one request to a pool.

    Asks the pool at ADDRESS as a front-end does, and prints the answer. URL may be a path alone.
    """
    from gateway import asking

    if not address or not url:
        raise ConfigError(
            "name the pool and what to ask it for, as in: gateway request /run/gateway/gateway.sock /hello"
        )
    return asking.ask(address, url, sys.stdout.buffer, asking.Options(**options))


@gateway.command(context_settings={"allow_interspersed_args": False})
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
        _tell(f"{script} failed:\n{told}")
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; what went wrong is one line on standard error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] not in gateway.commands and os.path.isfile(words[0]):
        words.insert(0, "run")  # `gateway SCRIPT`
    try:
        return int(gateway.main(words, "gateway", standalone_mode=False) or 0)
    except click.Abort:
        return INTERRUPTED
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "gateway"
        _tell(f"{error.format_message()} ({command} --help)")
        return USAGE
    except ConfigError as error:
        _tell(*str(error).splitlines())
        return USAGE
    except ListenError as error:
        _tell(str(error))
        return error.exit_code
    except ControlError as error:
        _tell(str(error))
        return SYSTEM
    except BrokenPipeError:
        # Whoever read the output has left, as in `gateway status | head`; nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return SYSTEM
    except OSError as error:
        _tell(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
        return SYSTEM
    except Exception:
        return _our_bug()


def _our_bug() -> int:
    import traceback

    traceback.print_exc()
    _tell("this is a bug of gateway; please report it with the lines above")
    return OUR_BUG


def _tell(*messages: str) -> None:
    """Print each message; what follows its first line, a traceback of the application, stays as it is."""
    for message in messages:
        click.echo(f"gateway: {message.rstrip()}", err=True)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # `python -m` puts the working directory there; for applications, app_dir does that
    sys.exit(main())
