"""How a command ends: its exit code, and what it says on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

TYPE_CHECKING = False  # see `process.spare`
if TYPE_CHECKING:
    from typing import Any

REFUSED, USAGE, OUR_BUG, SYSTEM, INTERRUPTED = 1, 100, 101, 111, 130


def tell(*messages: str) -> None:
    """Print each message; what follows its first line, a traceback of the application, stays as it is."""
    for message in messages:
        print(f"gateway: {message.rstrip()}", file=sys.stderr)


def guarded(command: Callable[[], Any]) -> Any:
    """Run a command; where it fails say why, in one line, and return the exit code for that."""
    try:
        return command()
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        return _explain(error)


def _explain(error: Exception) -> int:
    from gateway.net.control import ControlError
    from gateway.net.listeners import ListenError
    from gateway.settings import ConfigError

    match error:
        case ConfigError():
            tell(*str(error).splitlines())
            return USAGE
        case ListenError():
            tell(str(error))
            return error.exit_code
        case ControlError():
            tell(str(error))
            return SYSTEM
        case BrokenPipeError():
            # Whoever read the output has left, as in `gateway status | head`; nothing more can be said there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return SYSTEM
        case OSError():
            tell(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
            return SYSTEM
    import traceback

    traceback.print_exception(error)
    tell("this is a bug of gateway; please report it with the lines above")
    return OUR_BUG
