"""How a command ends: its exit code, and what it says on standard error."""

from __future__ import annotations

import click

REFUSED, USAGE, OUR_BUG, SYSTEM, INTERRUPTED = 1, 100, 101, 111, 130


def tell(*messages: str) -> None:
    """Print each message; what follows its first line, a traceback of the application, stays as it is."""
    for message in messages:
        click.echo(f"gateway: {message.rstrip()}", err=True)
