"""The `gateway` command: each subcommand is imported when it runs, so that the master holds little.

Exit codes: 0; 1 refused; 75 another instance owns the socket; 100 usage or settings; 101 our bug; 111 the system.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from gateway import __version__
from gateway.commands.outcome import INTERRUPTED, OUR_BUG, SYSTEM, USAGE, tell
from gateway.net.control import ControlError
from gateway.net.listeners import ListenError
from gateway.settings import ConfigError

_MODULES = {
    "check": "check", "dev": "dev", "devcert": "dev", "front": "front", "publisher": "publisher", "reload": "control",
    "reopen-logs": "control", "request": "request", "run": "run", "serve": "serve", "status": "control",
    "stop": "control", "up": "front", "upgrade": "control",
}  # fmt: skip


class _Commands(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, context: click.Context, name: str) -> click.Command:
        if name not in _MODULES:
            import difflib

            near = "".join(difflib.get_close_matches(name, _MODULES, 1))
            context.fail(f"There is no command, and no script, {name!r}{near and f'; did you mean {near}?'}")
        module = importlib.import_module(f"gateway.commands.{_MODULES[name]}")
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; what went wrong is one line on standard error."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] not in _MODULES and os.path.isfile(words[0]):
        words.insert(0, "run")  # `gateway SCRIPT`
    try:
        return int(gateway.main(words, "gateway", standalone_mode=False) or 0)
    except click.Abort:
        return INTERRUPTED
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "gateway"
        tell(f"{error.format_message()} ({command} --help)")
        return USAGE
    except ConfigError as error:
        tell(*str(error).splitlines())
        return USAGE
    except ListenError as error:
        tell(str(error))
        return error.exit_code
    except ControlError as error:
        tell(str(error))
        return SYSTEM
    except BrokenPipeError:
        # Whoever read the output has left, as in `gateway status | head`; nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return SYSTEM
    except OSError as error:
        tell(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
        return SYSTEM
    except Exception:
        return _our_bug()


def _our_bug() -> int:
    import traceback

    traceback.print_exc()
    tell("this is a bug of gateway; please report it with the lines above")
    return OUR_BUG


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # `python -m` puts the working directory there; for applications, app_dir does that
    sys.exit(main())
