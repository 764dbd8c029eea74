"""An application that answers with how many bytecodes its thread has run since `on_worker_start`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

run = 0


def count(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
    """Trace function that sees each bytecode (sys.settrace)."""
    global run
    frame.f_trace_opcodes = True
    frame.f_trace_lines = False
    if event == "opcode":
        run += 1
    return count


def begin() -> None:
    """Count in every function that is called from here on."""
    sys.settrace(count)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the count."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % run]
