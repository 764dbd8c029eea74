"""`gateway request`: one request to a pool, as a front-end sends it."""

from __future__ import annotations

import sys
from typing import Any

import click

from gateway import asking
from gateway.settings import ConfigError


@click.command()
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
    if not address or not url:
        raise ConfigError(
            "name the pool and what to ask it for, as in: gateway request /run/gateway/gateway.sock /hello"
        )
    return asking.ask(address, url, sys.stdout.buffer, asking.Options(**options))
