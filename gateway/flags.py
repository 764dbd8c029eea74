"""The settings as flags of a command: one for each setting of the master and of a pool, made from its declaration."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from typing import Any

import click

from gateway.declared import choices_of, default_of
from gateway.record import Field, fields
from gateway.settings import ConfigError, Gateway, Pool

_TABLES = (dict[str, str], dict[str, int])
_METAVARS: dict[Any, str] = {
    int: "N",
    int | None: "N",
    float: "SECONDS",
    **dict.fromkeys(_TABLES, "NAME=VALUE"),
}


publisher_flag = click.option(
    "--publisher",
    multiple=True,
    metavar="MODULE",
    help="publish a module, a Python file or a directory of them, in place of TARGET (repeatable)",
)


def settings_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command one flag for each setting of [gateway] and of a pool; their values stay text for `config`."""
    for declared in (Gateway, Pool):
        hints = typing.get_type_hints(declared)
        for field in reversed(fields(declared)):
            command = _option(field, hints[field.name])(command)
    return command


def _option(field: Field, hint: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    flag = "--" + field.name.replace("_", "-")
    text = field.metadata["text"]
    if hint in (bool, bool | None):
        off = flag.replace("--no-", "--", 1) if flag.startswith("--no-") else f"--no-{flag[2:]}"
        return click.option(f"{flag}/{off}", field.name, default=None, help=text)
    several = hint in (tuple[str, ...], *_TABLES)
    if several:
        text += " (repeatable)"
    elif default := default_of(field):
        text += " (default: " + default.strip('"') + ")"
    return click.option(flag, field.name, multiple=several, metavar=_metavar(field, hint), help=text)


def _metavar(field: Field, hint: Any) -> str:
    if choices := choices_of(field, hint):
        return "|".join(map(str, choices))
    if field.metadata.get("address"):
        return "ADDRESS"
    return "BYTES" if field.metadata.get("unit") == "bytes" else _METAVARS.get(hint, "TEXT")


def given(flags: Mapping[str, Any]) -> dict[str, object]:
    """The flags that were given, with NAME=VALUE made a table. Raises ConfigError."""
    values = {name: value for name, value in flags.items() if value is not None and value != ()}
    for setting in ("env", "rlimits", "x_accel"):
        if setting in values:
            values[setting] = dict(_assignment(setting, text) for text in values[setting])
    return values


def _assignment(setting: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f'--{setting}: "{text}" has no "="; write NAME=VALUE')
    return name, value
