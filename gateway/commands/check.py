"""`gateway check`: what is wrong with settings and applications."""

from __future__ import annotations

from typing import Any

import click

from gateway.app.brief import brief
from gateway.commands.outcome import USAGE, tell
from gateway.config import read_settings
from gateway.flags import given, publisher_flag, settings_flags
from gateway.serving import refuse_root


@click.command()
@click.argument("target", default="")
@click.option("--dump", is_flag=True, help="print the settings in force, as TOML, and import nothing")
@publisher_flag
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

    tell(*loaded.problems)
    refuse_root(loaded.settings)
    mistakes = start.check(brief(loaded.settings))
    tell(*mistakes)
    if mistakes or loaded.problems:
        return USAGE
    for application in loaded.settings.applications:
        click.echo(f'ok: application "{application.name}" in pool {application.pool}')
    return 0
