"""The settings in force as TOML 1.0, in the order of their declarations: `config` reads the same settings from it."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.record import Record, as_dict
from gateway.settings import Settings

MASK = "***"
_SECRET = re.compile(r"pass|secret|token|key|credential|auth|private|salt|dsn", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^/@:]*):[^/]*(?=@)")  # RFC 3986 §3.2.1, userinfo
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_MASKED = ("env", "settings")  # settings whose values are the application's own, secrets among them


def toml(settings: Settings) -> str:
    """Write them, with what looks like a secret in `env` and `settings` masked.

    What is None has no form in TOML and is left out: null, in `settings` that came from JSON, is lost.
    """
    lines = ["[gateway]", *_settings(settings.gateway)]
    for name, pool in settings.pools.items():
        lines += ["", f"[pools.{_key(name)}]", *_settings(pool)]
    for application in settings.applications:
        lines += ["", "[[applications]]", *_settings(application)]
    return "\n".join(lines) + "\n"


def _settings(declared: Record) -> Iterator[str]:
    for name, value in as_dict(declared).items():
        if name in _MASKED:
            value = {key: _masked(key, item) for key, item in value.items()}
        if value is not None:
            yield f"{name} = {_value(value)}"


def _masked(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _masked(name, item) for name, item in value.items()}
    if isinstance(value, list):
        return [_masked(key, item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if _SECRET.search(key):
        return MASK
    return _PASSWORD_IN_URL.sub(rf"\1:{MASK}", value) if isinstance(value, str) else value


def _key(name: str) -> str:
    return name if _BARE_KEY.match(name) else _text(name)


def _value(value: Any) -> str:
    if isinstance(value, Record):
        value = as_dict(value)
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, Mapping):
        items = [f"{_key(name)} = {_value(item)}" for name, item in value.items() if item is not None]
        return "{ " + ", ".join(items) + " }" if items else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value if item is not None) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else repr(value)


def _text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, which wants DEL escaped as well."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
