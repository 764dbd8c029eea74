"""The files that a settings file includes, one site each: one that is invalid is left out, and the rest is served."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from typing import Any

from gateway.declared import unknown
from gateway.parsing import parse_text, read_text
from gateway.record import replace
from gateway.settings import Application, ConfigError, Pool, Settings
from gateway.tables import Owners, check_authorizer, check_listener, check_numbers, check_total, pool_tables, sound

_TABLES = ("pools", "applications")


class Sites:
    """The settings of the main file, to which included files are added one after the other."""

    def __init__(self, main: Settings, addresses: dict[str, str], owners: Owners, remembered: dict[str, str]) -> None:
        """`addresses` and `owners` are taken by the main file; for `remembered` see `config.read_settings`."""
        self.problems: list[str] = []
        self._settings = main
        self._main = main
        self._addresses = addresses
        self._owners = owners
        self._remembered = remembered
        self._files = dict.fromkeys(main.pools, main.source)  # the file that declares a pool

    def read(self) -> Settings:
        """Add every file that one of the main file's patterns fits, in the order of the names. Raises ConfigError."""
        paths = dict.fromkeys(path for pattern in self._main.included for path in _matches(pattern))
        for path in self._remembered.keys() - paths.keys():
            del self._remembered[path]
        for path in paths:
            text = ""
            try:
                text = read_text(path)
                mistakes = self._add(path, parse_text(path, text))
            except ConfigError as error:
                mistakes = [str(error)]
            before = self._remembered.get(path)
            if not mistakes:
                self._remembered[path] = text
            elif before is not None and not self._add(path, parse_text(path, before)):
                mistakes.append(f"{path}: what it said before stays in force")
            self.problems += mistakes
        return self._settings

    def _add(self, path: str, raw: dict[str, Any]) -> list[str]:
        """Add one file's tables; return what is wrong with them, and then nothing of them has been added."""
        mistakes: list[str] = []

        def report(message: str) -> None:
            mistakes.append(f"{path}: {message}")

        for key in raw:
            if key not in _TABLES:
                report(unknown(key, "", _TABLES) if key not in ("gateway", "include") else f"{key} {_ONLY_IN_MAIN}")
        pools = pool_tables(raw, report)
        addresses = dict(self._addresses)
        owners = {pool: dict(places) for pool, places in self._owners.items()}
        for name, pool in pools.items():
            if name in self._files:
                report(f"pools.{name}: {self._files[name]} has a pool of this name already; give it another")
            elif not pool.listen:
                report(f'pools.{name}.listen is missing: name an address, as in "/run/gateway/{name}.sock"')
            for address in pool.listen:
                check_listener(name, pool, address, addresses, report)
            check_numbers(name, pool, report)
            check_authorizer(name, pool, report)
        check_total(self._settings.pools | pools, self._main.gateway.process_max, report)
        applications = self._applications(path, raw.get("applications", []), pools, owners, mistakes)
        if not mistakes:
            self._addresses, self._owners = addresses, owners
            self._files |= dict.fromkeys(pools, path)
            self._settings = replace(
                self._settings,
                pools=self._settings.pools | pools,
                files=self._settings.files | dict.fromkeys(pools, path),
                applications=self._settings.applications + applications,
            )
        return mistakes

    def _applications(
        self, path: str, tables: Any, pools: dict[str, Pool], owners: Owners, mistakes: list[str]
    ) -> tuple[Application, ...]:
        """A site's applications run in its own pools, or in those of the main file."""
        if not isinstance(tables, list):
            mistakes.append(f"{path}: applications is no list; write [[applications]] before each one")
            return ()
        known = self._main.pools | pools
        own = next(iter(pools)) if len(pools) == 1 else ""
        found = sound(tables, known, lambda m: mistakes.append(f"{path}: {m}"), owners, only_pool=own, file=path)
        return tuple(found)


_ONLY_IN_MAIN = "belongs in the main settings file; an included one holds [pools.NAME] and [[applications]]"


def _matches(pattern: str) -> Iterator[str]:
    """The files that a pattern fits; never hidden ones. Raises ConfigError for a folder that cannot be listed: a reload
    would take the sites in it for gone.
    """
    folder = os.path.dirname(pattern)
    if not glob.has_magic(folder):
        try:
            os.scandir(folder or ".").close()
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise ConfigError(f'include = "{pattern}": cannot list {folder or "."}: {error.strerror}') from None
    for path in sorted(glob.glob(pattern)):
        if os.path.isfile(path):
            yield path
