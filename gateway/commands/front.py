"""`gateway front` and `up`: a front-end's configuration, and a front-end here and now."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from gateway.commands.outcome import tell
from gateway.config import read_settings
from gateway.flags import publisher_flag
from gateway.settings import ConfigError, Settings

_port = click.IntRange(1, 65_535)


@click.command()
@click.argument("name", default="")
@click.argument("target", default="")
@click.option(
    "--listen", default="", metavar="HOST:PORT", help="where the front-end listens (default: the bindings' ports)"
)
@click.option("--pool", default="", metavar="ADDRESS", help="where the pool listens, if the settings do not say")
@click.option("--static", default="", metavar="PATH", help="folder served as /sta/ (default: the bundled one)")
@click.option("--user", default="", metavar="USER", help="user of the front-end's workers when root starts it")
@click.option("--group", default="", metavar="GROUP", help="the group to that")
@click.option(
    "--run-directory", default="/run/gateway", metavar="PATH", help="nginx, Apache: for pid and temporary files"
)
@click.option("--keepalive", default=0, metavar="N", help="connections kept to each pool (default: 0)")
@click.option("--part", is_flag=True, help="only what goes into a configuration that there is")
@click.option("--bin-path", default="", metavar="COMMAND", help="lighttpd: the command by which it starts the pool")
@click.option("--certificate", default="", metavar="FILE", help="PEM file, for TLS")
@click.option("--certificate-key", default="", metavar="FILE", help="PEM file of its key")
@click.option("--client-ca", default="", metavar="FILE", help="asks clients for a certificate of this authority")
@click.option(
    "--directory", default="", metavar="PATH", help="systemd: folder to write the units to, not to print them"
)
@publisher_flag
def front(
    name: str, target: str, pool: str, part: bool, directory: str, publisher: tuple[str, ...], **options: Any
) -> int:
    """Print a front-end's configuration.

    NAME is nginx, lighttpd, haproxy, apache, caddy or systemd (the units that start gateway); TARGET is the settings
    file, or MODULE:CALLABLE, that it stands before.
    """
    from gateway.front.render import render

    if directory and name != "systemd":
        raise ConfigError(f"--directory means nothing to {name}: only units are written to a folder; use `> FILE`")
    flags = {"listen": (pool,)} if pool else {}
    loaded = read_settings(target, flags | {"publisher": publisher})
    tell(*loaded.problems)
    if name == "systemd":
        if publisher:
            raise ConfigError("--publisher: the units serve what a settings file says; name it there, as `publisher`")
        for option, value in {"part": part, **options}.items():
            if value and option not in ("user", "group", "run_directory"):
                raise ConfigError(f"--{option.replace('_', '-')} means nothing to systemd's units; leave it out")
        return _units(loaded.settings, target, directory, options["user"], options["group"])
    click.echo(render(name, loaded.settings, complete=not part, **options), nl=False)
    return 0


def _units(settings: Settings, target: str, directory: str, user: str, group: str) -> int:
    from gateway.front.units import units

    program = os.path.join(os.path.dirname(sys.executable), "gateway")
    for unit, text in units(settings, target, program=program, user=user, group=group).items():
        if directory:
            Path(directory, unit).write_text(text, encoding="utf-8")
        else:
            click.echo(f"# /etc/systemd/system/{unit}\n{text}")
    return 0


@click.command()
@click.argument("target", default="")
@click.option("--front", default="", metavar="NAME", help="lighttpd, nginx or embedded (default: the first installed)")
@click.option("--host", default="127.0.0.1", metavar="IP", help="address to show it at (default: 127.0.0.1)")
@click.option("--port", default=8080, type=_port, metavar="N", help="port to show it at (default: 8080)")
@click.option("--app-dir", default="", metavar="PATH", help="first on sys.path (default: where this is started)")
@publisher_flag
@click.option("--static", default="", metavar="PATH", help="folder served as /sta/ (default: the bundled one)")
def up(target: str, **options: Any) -> int:
    """Serve behind a front-end, here and now.

    TARGET is a settings file or MODULE:CALLABLE; without one, it is the demo. Ctrl-C stops everything.
    """
    from gateway.front.up import up as serve_behind_front

    return serve_behind_front(target, **options)
