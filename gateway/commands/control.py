"""The commands that talk to a running master: `gateway status`, `reload`, `upgrade`, `reopen-logs`, `stop`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gateway.commands.outcome import REFUSED, tell
from gateway.config import find_control
from gateway.net.control import call
from gateway.settings import ConfigError

_timeout = click.option("--timeout", default=600.0, metavar="SECONDS", help="how long to wait for it (default: 600)")


def _of_master(command: Callable[..., int]) -> Callable[..., int]:
    """The arguments by which a running master is found."""
    option = click.option("--control", default="", metavar="PATH", help="control socket of the running gateway")
    return option(click.argument("target", default="")(command))


def _ask(target: str, control: str, command: str, timeout: float = 10.0, **more: str) -> dict[str, Any]:
    path = find_control(target, control)
    answer = call(path, {"command": command, **more}, timeout)
    if not answer.get("ok"):
        tell(str(answer.get("error") or f"{path}: {command} was refused"))
        raise click.exceptions.Exit(REFUSED)
    return answer


@click.command()
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


@click.command()
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


@click.command()
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


@click.command("reopen-logs")
@_of_master
def reopen_logs(target: str, control: str) -> int:
    """Open the log files anew.

    After they were renamed, for which no line is lost; SIGUSR1 does the same. The running gateway is found as by
    `status`.
    """
    _ask(target, control, "reopen-logs")
    return 0


@click.command()
@_of_master
@click.option("--fast", is_flag=True, help="do not wait for requests that are running")
@_timeout
def stop(target: str, control: str, fast: bool, timeout: float) -> int:
    """Stop a running gateway.

    The requests that are running are answered first. Returns when it has stopped; found as by `status`.
    """
    _ask(target, control, "stop" if fast else "quit", timeout)
    return 0
