"""Files without a name, in memory where the system has that (memfd_create(2))."""

from __future__ import annotations

import os
from typing import IO


def anonymous_file(name: str) -> IO[bytes]:
    """A new empty file, closed on exec; `name` is what /proc shows. It can be sealed where it is in memory."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create(f"gateway-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b")
    from tempfile import TemporaryFile  # with all that it imports, 4 ms

    return TemporaryFile()
