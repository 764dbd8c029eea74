"""`gateway publisher`: what modules publish, at which URLs."""

from __future__ import annotations

import os
import sys

import click

from gateway.commands.outcome import USAGE, tell
from gateway.config import read_settings
from gateway.settings import ConfigError


@click.command()
@click.argument("modules", nargs=-1, metavar="MODULE...")
@click.option("--app-dir", default="", metavar="PATH", help="first on sys.path (default: where this is started)")
def publisher(modules: tuple[str, ...], app_dir: str) -> int:
    """Print what modules publish.

    Each MODULE is one, a Python file, or a directory of them, as of --publisher; or it is the one settings file whose
    publishers are shown. They are imported.
    """
    from gateway.app.loader import LoadError, load
    from gateway.app.publisher.application import Publisher
    from gateway.app.publisher.listing import lines

    if not modules:
        raise ConfigError("name the modules, or the settings file, as in: gateway publisher shop")
    is_file = len(modules) == 1 and modules[0].endswith((".toml", ".json"))
    flags = {"app_dir": app_dir} if app_dir else {}
    loaded = read_settings(modules[0] if is_file else "", flags | {"publisher": () if is_file else modules})
    tell(*loaded.problems)
    published = [application for application in loaded.settings.applications if application.publisher]
    if not published:
        raise ConfigError(f"{modules[0]}: no application has a publisher")
    failed = bool(loaded.problems)
    for application in published:
        sys.path.insert(0, os.path.abspath(loaded.settings.pools[application.pool].app_dir or "."))
        try:
            made = load(application)
        except LoadError as error:
            tell(f"{error}\n{error.traceback}")
            failed = True
            continue
        assert isinstance(made, Publisher)
        for line in [f"# {application.name}", *lines(made.published)] if is_file else lines(made.published):
            click.echo(line)
    return USAGE if failed else 0
