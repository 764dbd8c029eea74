"""Tracebacks as the application's author wants to read them: from the first line that is the application's own."""

from __future__ import annotations

import importlib
import os
import threading
import traceback
from itertools import dropwhile
from types import FrameType, TracebackType
from typing import Any

_MACHINERY = (os.path.dirname(__file__) + os.sep, os.path.dirname(importlib.__file__) + os.sep, "<frozen importlib")
_BELOW_REQUESTS = (os.path.dirname(os.path.dirname(__file__)) + os.sep, threading.__file__)


def from_application(error: BaseException) -> str:
    """The traceback of `error` without the leading frames that are the gateway's or the import system's."""
    return "".join(traceback.format_exception(type(error), error, own_frames(error)))


def own_frames(error: BaseException) -> TracebackType | None:
    """The frames of `error` from the first that is the application's own; None where there is none."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_MACHINERY):
        frames = frames.tb_next
    return frames


def stack_of(frame: FrameType) -> str:
    """The stack of another thread without the leading frames that are the gateway's or of what starts threads."""
    lines = dropwhile(lambda line: line.filename.startswith(_BELOW_REQUESTS), traceback.extract_stack(frame))
    return "".join(traceback.format_list(list(lines)))


def stack_of_coroutine(coroutine: Any) -> str:
    """Where a coroutine waits, and what it waits for, without the leading frames that are the gateway's."""
    frames = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            break
        frames.append((frame, frame.f_lineno))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    lines = dropwhile(lambda line: line.filename.startswith(_BELOW_REQUESTS), traceback.StackSummary.extract(frames))
    return "".join(traceback.format_list(list(lines)))
