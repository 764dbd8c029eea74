"""A settings file's text, TOML or JSON, to tables; what is wrong with it names the file and the line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from gateway.settings import ConfigError


def parse(path: str) -> dict[str, Any]:
    """Read a settings file. Raises ConfigError."""
    return parse_text(path, read_text(path))


def read_text(path: str) -> str:
    """The text of a settings file. Raises ConfigError."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None


def parse_text(path: str, text: str) -> dict[str, Any]:
    """Parse a settings file: JSON by its name or its first character, else TOML. Raises ConfigError."""
    is_json = path.endswith(".json") or (not path.endswith(".toml") and text.lstrip().startswith("{"))
    raw = _parse_json(path, text) if is_json else _parse_toml(path, text)
    if not isinstance(raw, dict):
        raise ConfigError(f'{path}: the file holds no table; write {{"applications": […]}}')
    return raw


def _parse_json(path: str, text: str) -> object:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError(
                f'{path}: "{twice}" is there twice in one table; the second would replace the first: remove one'
            )
        return table

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: is no JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None


def _parse_toml(path: str, text: str) -> object:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", place)
        raise ConfigError(f"{path}:{line[1] if line else text.count(chr(10)) + 1}: is no TOML: {reason}") from None
