"""The files that a pool's code comes from, for `reload_on_change`: the zygote, who runs as the pool's user, looks at
them, and the master is told of one that has changed.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence

from gateway.net.memory import anonymous_file

Stamp = tuple[int, int, int]  # time of the last change in ns, size, inode

_MOST_FOLDERS = 1_000  # below app_dir that are looked at
_NOT_ITS_OWN = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})


def stamp(path: str) -> Stamp | None:
    """What tells whether a file has changed; None where there is none to be seen."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def imported_files() -> list[str]:
    """The files of all modules of this process."""
    files = (getattr(module, "__dict__", {}).get("__file__") for module in list(sys.modules.values()))
    return [file for file in files if isinstance(file, str)]


class Sources:
    """Python files below a folder, also new ones, and any others by name."""

    def __init__(self, folder: str, scripts: Sequence[str] = ()) -> None:
        """What changes from here on counts: make this before anything is imported."""
        self._folder = folder
        self._scripts = scripts  # which are run, not imported
        with anonymous_file("sources") as file:
            self._noted = os.dup(file.fileno())
        self._others: list[str] = []
        self._stamps: dict[str, Stamp] = {}
        self.changed()

    def note(self, files: Iterable[str]) -> None:
        """Name further files, in a forked process: this one takes them up by `take_up`."""
        os.write(self._noted, os.fsencode("\0".join([*self._scripts, *files])))

    def take_up(self) -> None:
        """Look at what was noted, too; it counts as it is now."""
        noted = os.pread(self._noted, os.fstat(self._noted).st_size, 0)
        self._others = os.fsdecode(noted).split("\0")
        for path in self._others:
            if path not in self._stamps and (found := stamp(path)):
                self._stamps[path] = found

    def changed(self) -> str:
        """The name of a file that is new, or another than at the last call, or "".

        One that is missing is no change: whoever saves it may have moved it away for a moment.
        """
        now = {path: found for path in (*self._below(), *self._others) if (found := stamp(path))}
        changed = [path for path, found in now.items() if self._stamps.get(path) != found]
        self._stamps |= now
        return changed[0] if changed else ""

    def _below(self) -> Iterator[str]:
        for folder, folders, files in itertools.islice(os.walk(self._folder), _MOST_FOLDERS):
            if "pyvenv.cfg" in files:
                folders.clear()  # a virtual environment
            folders[:] = [name for name in folders if name not in _NOT_ITS_OWN and not name.startswith(".")]
            yield from (os.path.join(folder, name) for name in files if name.endswith(".py"))
