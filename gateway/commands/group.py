"""The subcommands, each of which is imported when it runs."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import click

from gateway import __version__
from gateway.commands.outcome import INTERRUPTED, USAGE, tell

MODULES = {
    "check": "check", "dev": "dev", "devcert": "dev", "front": "front", "publisher": "publisher", "reload": "control",
    "reopen-logs": "control", "request": "request", "run": "run", "serve": "serve", "status": "control",
    "stop": "control", "up": "front", "upgrade": "control",
}  # fmt: skip


class _Commands(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, context: click.Context, name: str) -> click.Command:
        if name not in MODULES:
            import difflib

            near = "".join(difflib.get_close_matches(name, MODULES, 1))
            context.fail(f"There is no command, and no script, {name!r}{near and f'; did you mean {near}?'}")
        module = importlib.import_module(f"gateway.commands.{MODULES[name]}")
        command: click.Command = getattr(module, name.replace("-", "_"))
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def gateway(context: click.Context) -> int:
    """Serve Python web applications to lighttpd or nginx over FastCGI or SCGI."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
    return USAGE


def run(words: Sequence[str], given: object = None) -> Any:
    """Run a command, and return what it returns, or its exit code. `given` is what `serve` wants beside the words.

    Raises whatever `outcome.guarded` knows.
    """
    try:
        return gateway.main(list(words), "gateway", standalone_mode=False, obj=given) or 0
    except click.Abort:
        return INTERRUPTED
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "gateway"
        tell(f"{error.format_message()} ({command} --help)")
        return USAGE
