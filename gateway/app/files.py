"""Files that the front-end sends in place of the application (PEP 3333 "Optional Platform-Specific File Handling"): by
X-Accel-Redirect for nginx, by X-Sendfile for lighttpd and Apache.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

_UNCLEAR = re.compile(r"[%\x00-\x1f]|\s\Z")


class Files:
    """Which files a front-end can send, and how it is told to. Falsy where there are none."""

    def __init__(self, x_accel: Mapping[str, str], x_sendfile: Sequence[str]) -> None:
        """`x_accel`: folders, and the internal location of each in nginx; `x_sendfile`: folders."""
        self._locations = {os.path.realpath(folder): location for folder, location in x_accel.items()}
        self._folders = tuple(os.path.realpath(folder) for folder in x_sendfile)

    def __bool__(self) -> bool:
        return bool(self._locations or self._folders)

    def header(self, filelike: Any) -> tuple[str, int] | None:
        """The line that lets the front-end send an open file from where it is, and how many bytes it then sends.

        None for what is no regular file below one of the folders, or is not at its beginning: that is sent as usual.
        """
        try:
            found = os.fstat(filelike.fileno())
            path = os.path.realpath(os.fspath(filelike.name))
            is_same = os.path.samestat(found, os.stat(path))
            if not (is_same and stat.S_ISREG(found.st_mode) and filelike.tell() == 0):
                return None
        except (AttributeError, OSError, TypeError, ValueError):  # not such a file at all
            return None
        line = self._line(path)
        return None if line is None else (line, found.st_size)

    def _line(self, path: str) -> str | None:
        for folder, location in self._locations.items():
            if path.startswith(folder + os.sep):
                return f"X-Accel-Redirect: {location.rstrip('/')}{quote(path[len(folder) :])}\r\n"
        if any(path.startswith(folder + os.sep) for folder in self._folders):
            # lighttpd decodes the path, Apache's mod_xsendfile 0.12 does not: they agree where nothing is encoded.
            return None if _UNCLEAR.search(path) else f"X-Sendfile: {os.fsencode(path).decode('latin-1')}\r\n"
        return None
