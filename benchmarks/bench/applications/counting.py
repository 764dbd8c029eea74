"""Answers with the bytecodes of the request before, a line for each function; `begin` is its `on_worker_start`."""

from __future__ import annotations

import collections
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

_counts: collections.Counter[str] = collections.Counter()  # by function


def _count(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
    frame.f_trace_opcodes = True
    frame.f_trace_lines = False
    if event == "opcode":
        code = frame.f_code
        _counts[f"{code.co_qualname} {code.co_filename.rpartition('/')[2]}"] += 1
    return _count


def begin() -> None:
    """Count in every function that is called from here on."""
    sys.settrace(_count)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with what has been counted since the last call."""
    sys.settrace(None)
    counted = "\n".join(f"{count} {name}" for name, count in _counts.most_common()).encode()
    _counts.clear()
    sys.settrace(_count)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(counted)))])
    return [counted]
