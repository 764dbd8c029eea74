"""Values against the declarations in `settings.py`: what a file or a flag gives is converted and checked, and what is
wrong with it is said in the operator's words; and the reference page of all settings is written from the same.
"""

from __future__ import annotations

import enum
import functools
import ipaddress
import math
import re
import resource
import typing
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from gateway.app.accessformat import compile_format
from gateway.net.address import InheritedAddress, UnixAddress, parse_address
from gateway.record import MISSING, Field, Record, fields
from gateway.settings import Application, Binding, Gateway, Pool

_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a table"}
_WORDS: dict[Any, str] = {
    str: "text",
    bool: "true or false",
    bool | None: "true or false",
    int: "a whole number",
    int | str: "a number or text",
    int | None: "a whole number",
    float: "a number",
    tuple[str, ...]: "text, or a list of texts",
    tuple[Binding, ...]: "a list of tables",
}
_OCTAL = re.compile(r"0?[0-7]{3}\Z")
_RLIMIT = "RLIMIT_"
_HAVE_THEIR_OWN = {"nofile": "rlimit_files", "core": "rlimit_core"}


def read_table(declared: type[Record], raw: object, place: str, report: Callable[[str], None]) -> dict[str, Any]:
    """Convert one table of a file to the types of the record `declared`; return the values that are right.

    `place` is where the table stands ("pools.main"), or "--" for flags, whose values may be text. Each mistake goes to
    `report` as one message.
    """
    if not isinstance(raw, dict):
        report(f"{place} is {_kind(raw)}; write a table of settings")
        return {}
    known = {field.name: field for field in fields(declared)}
    values = {}
    for key, value in raw.items():
        if key not in known:
            report(unknown(key, place, known))
            continue
        try:
            values[key] = _value(declared, known[key], value, strict=place != "--")
        except ValueError as error:
            report(_dotted(place, key, value, known) or f"{_at(place, key)}: {error}")
    return values


def _dotted(place: str, key: str, value: Any, known: Iterable[str]) -> str:
    """The message for a name as PHP-FPM writes it, pm.max_children or listen.mode, which TOML takes for a table; "" for
    anything else.
    """
    if isinstance(value, dict):
        for part in value:
            for name in (f"{key}_{part}", part):
                if name in known:
                    return f"{_at(place, f'{key}.{part}')} is unknown; write {name}"
    return ""


def unknown(key: str, place: str, known: Iterable[str]) -> str:
    """The message for a setting that does not exist, with the table that has one of this name or the nearest name."""
    names = list(known)
    for table, declared in (("[gateway]", Gateway), ("[pools.NAME]", Pool), ("[[applications]]", Application)):
        if key in {field.name for field in fields(declared)}:
            return f"{_at(place, key)} stands in the wrong place; it belongs in {table}"
    near = _nearest(key, names)
    return f"{_at(place, key)} is unknown; " + (f"did you mean {near}?" if near else f"there are: {', '.join(names)}")


def _nearest(name: str, known: Iterable[str]) -> str:
    import difflib

    return next(iter(difflib.get_close_matches(name, list(known), 1)), "")


def _at(place: str, key: str) -> str:
    if place == "--":
        return f"--{key.replace('_', '-')}"
    return f"{place}.{key}" if place else key


def _kind(value: object) -> str:
    return "null" if value is None else _KINDS.get(type(value), f"a {type(value).__name__}")


@functools.cache
def _hints(declared: type[Record]) -> dict[str, Any]:
    return typing.get_type_hints(declared)


def _value(declared: type[Record], field: Field, raw: Any, *, strict: bool) -> Any:
    hint = _hints(declared)[field.name]
    if field.metadata.get("rlimit"):
        raw = {key: _limit(value) for key, value in raw.items()} if isinstance(raw, dict) else _limit(raw)
    elif field.metadata.get("unit") and isinstance(raw, str):
        raw = _quantity(raw, sizes=field.metadata["unit"] == "bytes")
    if hint == tuple[str, ...] and isinstance(raw, str):
        raw = [raw]
    try:
        value = msgspec.convert(raw, hint, strict=strict)
    except msgspec.ValidationError:
        if hint == dict[str, str] and isinstance(raw, dict):
            name, wrong = next((name, wrong) for name, wrong in raw.items() if not isinstance(wrong, str))
            raise ValueError(f"{name}: {_shown(wrong)}; write text") from None
        raise ValueError(f"{_shown(raw)}; write {expected(field, hint)}{_example(field)}") from None
    _check(value, field)
    return value


def _limit(raw: Any) -> Any:
    """Read "unlimited", "2G" or "4096"; what is no text stays as it is."""
    if raw == "unlimited":
        return resource.RLIM_INFINITY
    return _quantity(raw, sizes=True) if isinstance(raw, str) else raw


def _quantity(text: str, *, sizes: bool) -> float:
    """Read "100M" (bytes, in powers of 1024) or "30s", "5m", "500ms" (seconds)."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text, re.ASCII)
    unit = (match[2].upper().removesuffix("B").removesuffix("I") if sizes else match[2]) if match else ""
    factors: dict[str, Any] = _BYTES if sizes else _SECONDS
    if not match or unit not in factors:
        how = (
            'a number of bytes, or text such as "100M"'
            if sizes
            else 'a number of seconds, or text such as "30s" or "5m"'
        )
        raise ValueError(f'"{text}" is no {"size" if sizes else "time"}; write {how}')
    number: float = float(match[1]) * factors[unit]
    return round(number) if sizes else number


def _shown(raw: Any) -> str:
    if isinstance(raw, str):
        return f'"{raw}" is text' if len(raw) < 80 else "this is text"
    return f"{_written(raw)} is {_kind(raw)}" if isinstance(raw, (int, float)) else f"this is {_kind(raw)}"


def expected(field: Field, hint: Any) -> str:
    """Say in words what may be written for a setting."""
    if choices := choices_of(field, hint):
        return "one of: " + ", ".join(f'"{c}"' if isinstance(c, str) else str(c) for c in choices)
    if field.metadata.get("rlimit"):
        kinds = 'text such as "2G", or "unlimited"'
        return f"a table of names and numbers, {kinds}" if hint == dict[str, int] else f"a number, {kinds}"
    if unit := field.metadata.get("unit"):
        return f'a number of {unit}, or text such as "{"30s" if unit == "seconds" else "100M"}"'
    if hint in _WORDS:
        return _WORDS[hint]
    return "a table of names and texts" if hint == dict[str, str] else "a table"


def choices_of(field: Field, hint: Any) -> tuple[Any, ...]:
    """The only values that a setting may have; empty when there are no such."""
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return tuple(member.value for member in hint)
    return tuple(field.metadata.get("choices", ()))


def default_of(field: Field) -> str:
    """The default as it would be written in a file; "" where there is none to show."""
    default = field.default.value if isinstance(field.default, enum.Enum) else field.default
    return _written(default) if default and default is not MISSING else ""


def _example(field: Field) -> str:
    default = default_of(field)
    return f", as in {default}" if default else ""


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _check(value: Any, field: Field) -> None:
    choices = field.metadata.get("choices")
    if choices and value not in choices:
        raise ValueError(f"{_written(value)} is none of its values; write one of: {', '.join(map(_written, choices))}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is no length of time; write a number of seconds")
    least = field.metadata.get("at_least")
    if least is not None and value is not None and value < least:
        raise ValueError(f"{_written(value)} is too small; write {least} or more")
    most = field.metadata.get("at_most")
    if most is not None and value is not None and value > most:
        raise ValueError(f"{_written(value)} is too large; write {most} or less")
    texts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
    if any(isinstance(text, str) and "\0" in text for text in texts):
        raise ValueError("there is a NUL character in it; remove it")
    _check_meaning(value, field)


def _check_meaning(value: Any, field: Field) -> None:
    """What the type of a few settings does not say."""
    if field.metadata.get("address"):
        for address in value:
            parse_address(address)
    elif field.name == "control" and value and not isinstance(parse_address(value), UnixAddress):
        raise ValueError(f'"{value}" is no Unix socket; write its path, as in "/run/gateway/control.sock"')
    elif field.name == "status_listen" and value:
        _check_status_listen(value)
    elif field.name in ("listen_mode", "status_listen_mode") and not _OCTAL.match(value):
        raise ValueError(f'"{value}" is no mode; write three octal digits after a 0, as in "0660"')
    elif field.name == "umask" and value and not _OCTAL.match(value):
        raise ValueError(f'"{value}" is no umask; write three octal digits after a 0, as in "0027"')
    elif field.metadata.get("rlimit"):
        _check_limits(value, field)
    elif field.name in ("error_log", "access_log", "slowlog") and value == "syslog":
        raise ValueError('syslog is not written to; write a path, or "stderr", which systemd passes on to the journal')
    elif field.name in ("listen_allowed_clients", "status_listen_allowed_clients"):
        for client in value:
            _check_ip(client)
    elif field.name == "access_format":
        compile_format(value, "")
    elif field.name in ("access_suppress_path", "touch_reload"):
        for path in value:
            if not path.startswith("/"):
                raise ValueError(f'"{path}" is no path; write one that begins with "/"')
    elif field.name == "env":
        for name in value:
            if not name or "=" in name:
                raise ValueError(f'"{name}" is no name of an environment variable; write NAME = "value"')


def _check_status_listen(text: str) -> None:
    if parse_address(text) == InheritedAddress(None):
        raise ValueError('"systemd" takes the sockets of every pool as well; write the one that is meant, systemd:NAME')


def _check_limits(value: Any, field: Field) -> None:
    limits = value if isinstance(value, dict) else {field.name: value}
    known = sorted(name.removeprefix(_RLIMIT).lower() for name in dir(resource) if name.startswith(_RLIMIT))
    for name, limit in limits.items():
        if name in _HAVE_THEIR_OWN:
            raise ValueError(f"{name} has a setting of its own; write {_HAVE_THEIR_OWN[name]}")
        if limits is value and name not in known:
            near = _nearest(name, known)
            raise ValueError(f"{name} is no limit; " + (f"did you mean {near}?" if near else "see getrlimit(2)"))
        if limit is not None and limit < resource.RLIM_INFINITY:
            raise ValueError(f'{limit} is too small; write 0 or more, or "unlimited"')


def _check_ip(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f'"{text}" is no IP address; write one as in "192.0.2.7" or "2001:db8::7"') from None


_INTRODUCTION = """# Settings

<!-- Written by `python -m gateway.declared` from gateway/settings.py; change it there. -->

A settings file is TOML, or JSON of the same shape. `gateway serve MODULE:CALLABLE` needs none. Every setting of
`[gateway]` and of a pool is a flag too: `max_children` is `--max-children`. A flag comes before the file; the flag of a
pool's setting is refused where the file has several pools. Sizes are bytes or text such as `"100M"` (K, M and G are
powers of 1024), times are seconds or text such as `"500ms"`, `"30s"`, `"5m"`, `"1h"`. Where a list of
texts is asked for, one text will do.

An unknown setting, a wrong type or an impossible value is refused with one line that names file, place and remedy, and
exit code 100. A mistake within one application leaves that application out; the others are served.

`include = ["/etc/gateway/sites/*.toml"]`, at the top of the settings file and relative to it, adds the pools and the
applications of other files, one site each; an application that names no pool runs in its file's own, if that has just
one. A file with a mistake is left out whole, and the others are served. Of two files with one pool, one address or one
binding, the second by name is left out.

`gateway reload` and SIGHUP read the settings again: pools whose settings have changed get them with their new workers,
new pools start, pools that are gone finish their requests and end. Nothing changes when the settings file itself has a
mistake; an included file with a mistake goes on as it was before. Changes of `control`, `pid_file`, `error_log`,
`status_…` and a pool's `protocol` need a new start; name `control` where the first pool's `listen` may change.

`gateway check --dump` prints all settings in force.

A JSON file with `provider` is accepted as it is: its applications run in the pool `main`, whose `port_from` is then
`host`, because bindings name the port that clients see. `provider.port` has no meaning here: the front-end listens.
"""
_TABLES = (
    (Gateway, "`[gateway]`"),
    (Pool, "`[pools.NAME]`"),
    (Application, "`[[applications]]`"),
    (Binding, "`bindings` of an application"),
)
_NOT_EMPTY = {"name", "hostname", "port", "bindings"}


def document() -> str:
    """The reference page of all settings, in Markdown (docs/reference/settings.md)."""
    parts = [_INTRODUCTION]
    columns = "| setting | write | default | meaning |\n| --- | --- | --- | --- |\n"
    for declared, title in _TABLES:
        parts.append(f"\n## {title}\n\n{declared.__doc__}\n\n{columns}")
        parts += [_row(field, _hints(declared)[field.name]) for field in fields(declared)]
    return "".join(parts)


def _row(field: Field, hint: Any) -> str:
    default = f"`{default_of(field)}`" if default_of(field) else ""
    shown = "none: has to be given" if field.name in _NOT_EMPTY else default
    least = field.metadata.get("at_least")
    what = expected(field, hint) + (f", at least {least}" if least is not None else "")
    if (most := field.metadata.get("at_most")) is not None:
        what += f", at most {most}"
    text = field.metadata["text"].replace("|", "\\|")
    return f"| `{field.name}` | {what} | {shown} | {text} |\n"


if __name__ == "__main__":
    print(document(), end="")
