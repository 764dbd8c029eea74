"""The access log's lines: a format of PHP-FPM's atoms (`access.format`), or "json", compiled once to what renders them.

Whatever a client sent is escaped as nginx does it: control characters, what is not ASCII, `"` and `\\` become \\xNN.
"""

from __future__ import annotations

import functools
import json
import os
import re
import resource
import time
from collections.abc import Callable, Mapping
from typing import Any


class Entry:
    """One request that is over. Times in seconds, sizes in bytes."""

    __slots__ = ("began", "complete", "cpu", "head", "params", "parent", "pid", "seconds", "size", "status")

    def __init__(
        self,
        params: Mapping[str, Any],
        status: int,
        complete: bool,  # the front-end was given the whole answer
        head: bytes,  # of the answer, in CGI form
        size: int,  # of the answer's body
        began: float,  # seconds since the epoch
        seconds: float,
        cpu: tuple[float, float],  # that the process, or one of several threads, spent meanwhile, in user mode, kernel
        pid: int = 0,  # of the process that ran it, and of that one's parent; 0 for this one
        parent: int = 0,
    ) -> None:
        self.params = params
        self.status = status
        self.complete = complete
        self.head = head
        self.size = size
        self.began = began
        self.seconds = seconds
        self.cpu = cpu
        self.pid = pid
        self.parent = parent


Render = Callable[[Entry], str]

# What C renders in a line (`_line.h`): an atom's letter, "" for text that is always the same, or a letter for what only
# JSON has, with what it needs: bytes, a parameter's name, both, or what makes text of a second; a factor or unit; and
# digits behind the point.
Item = tuple[str, object, int, int]

_ATOM = re.compile(r"%(?:\{([^}]*)\})?(.?)", re.DOTALL)
_TIME = "%d/%b/%Y:%H:%M:%S %z"
_DURATIONS = {  # what seconds are multiplied by, and digits behind the point
    "": (1, 3),
    "seconds": (1, 3),
    "milli": (1_000, 3),
    "miliseconds": (1_000, 3),  # PHP-FPM's spelling
    "milliseconds": (1_000, 3),
    "micro": (1_000_000, 0),
    "microseconds": (1_000_000, 0),
}
_SIZES = {"": 1, "bytes": 1, "kilo": 1 << 10, "kilobytes": 1 << 10, "mega": 1 << 20, "megabytes": 1 << 20}
_SHARES = {"": 0, "total": 0, "user": 1, "system": 2}
_PARAMETERS = {"f": "SCRIPT_FILENAME", "m": "REQUEST_METHOD", "R": "REMOTE_ADDR", "u": "REMOTE_USER"}
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0x100), ord('"'), ord("\\"))}


def compile_format(text: str, pool: str) -> Render:
    """Make what renders one entry of the pool as a line without its end. Raises ValueError, which names the atom."""
    if text == "json":
        return lambda entry: _json(entry, pool)
    template, renders = "", []
    end = 0
    for match in _ATOM.finditer(text):
        template += _literal(text[end : match.start()])
        end = match.end()
        if match[0] == "%%":
            template += "%%"
        else:
            template += "%s"
            renders.append(_atom(match[0], match[2], match[1], pool))
    template += _literal(text[end:])
    return lambda entry: template % tuple([render(entry) for render in renders])


def items(text: str, pool: str) -> tuple[Item, ...]:
    """A format that `compile_format` takes, for C."""
    if text == "json":
        return _json_items(pool)
    found: list[Item] = []
    end = 0
    for match in _ATOM.finditer(text):
        found += _text(text[end : match.start()]), _item(match[2], match[1] or "", pool)
        end = match.end()
    return (*found, _text(text[end:]))


def _item(letter: str, argument: str, pool: str) -> Item:
    if letter in _PARAMETERS:
        return "e", _PARAMETERS[letter], 0, 0
    match letter:
        case "%":
            return _text(letter)
        case "n":
            return _text(pool or "-")
        case "C":
            return letter, None, _SHARES[argument], 0
        case "d":
            return letter, None, *_DURATIONS[argument]
        case "e":
            return letter, argument, 0, 0
        case "M":
            return letter, None, _SIZES[argument], 0
        case "o":
            return letter, argument.encode(), 0, 0
        case "t" | "T":
            return letter, functools.partial(_stamp, argument or _TIME), 0, 0
    return letter, None, 0, 0


def _text(text: str) -> Item:
    return "", encode(text), 0, 0


def encode(text: str) -> bytes:
    """What a rendered line, or a piece of it, is in the file."""
    return text.encode("utf-8", "backslashreplace")


def spends_cpu(text: str) -> bool:
    """Say whether a format has an atom that needs `Entry.cpu`."""
    return text != "json" and any(match[2] == "C" for match in _ATOM.finditer(text))


def _literal(text: str) -> str:
    if not text.isprintable():
        raise ValueError("there is a control character in it; remove it")
    return text.replace("%", "%%")


def _atom(written: str, letter: str, argument: str | None, pool: str) -> Render:
    """What renders one atom, such as %{milli}d. Raises ValueError."""
    if letter in _PLAIN and argument is None:
        return _PLAIN[letter]
    if letter == "n" and argument is None:
        return lambda entry: pool or "-"
    if letter in _WITH_ARGUMENT:
        try:
            return _WITH_ARGUMENT[letter](argument or "")
        except ValueError as error:
            raise ValueError(f'"{written}": {error}') from None
    if letter in _PLAIN or letter == "n":
        raise ValueError(f'"{written}": this one takes no {{…}}; write %{letter}')
    if letter in ("", "{"):
        raise ValueError(f'"{written}": an atom that is not complete; write %% for the sign itself')
    known = " ".join(f"%{letter}" for letter in sorted((*_PLAIN, *_WITH_ARGUMENT, "n"), key=lambda c: (c.lower(), c)))
    raise ValueError(f'"{written}" is no atom; there are: %% {known}')


def _safe(value: object) -> str:
    """One field of a line: escaped, "-" for none."""
    if not isinstance(value, str) or not value:
        return "-"
    if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
        return value
    return value.translate(_ESCAPES).encode("ascii", "backslashreplace").decode()


def _parameter(name: str) -> Render:
    return lambda entry: _safe(entry.params.get(name))


def _path(entry: Entry) -> str:
    uri = entry.params.get("REQUEST_URI")
    return _safe(uri.partition("?")[0] if isinstance(uri, str) else uri)


def _query(entry: Entry) -> str:
    return _safe(entry.params["QUERY_STRING"]) if entry.params.get("QUERY_STRING") else ""


def _choice(table: Mapping[str, Any], argument: str) -> Any:
    if argument not in table:
        raise ValueError(f"write one of: {', '.join(f'{{{name}}}' for name in table if name)}")
    return table[argument]


def _duration(argument: str) -> Render:
    factor, digits = _choice(_DURATIONS, argument)
    form = f"%.{digits}f" if digits else "%d"
    return lambda entry: form % (entry.seconds * factor)


def _cpu(argument: str) -> Render:
    share = _choice(_SHARES, argument)

    def render(entry: Entry) -> str:
        user, system = entry.cpu
        spent = (user + system, user, system)[share]
        return "%.2f" % (100 * spent / entry.seconds if entry.seconds else 0)

    return render


def _peak_memory(argument: str) -> Render:
    unit = _choice(_SIZES, argument)
    return lambda entry: "-" if entry.pid else str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // unit)


def _environment(argument: str) -> Render:
    if not argument:
        raise ValueError("write the parameter's name, as in %{HTTP_HOST}e")
    return _parameter(argument)


def _header(argument: str) -> Render:
    if not argument.isascii() or not argument.isprintable() or not argument:
        raise ValueError("write the header's name, as in %{Content-Type}o")
    line = re.compile(rb"^" + re.escape(argument.encode()) + rb":[ \t]*(.*)\r$", re.IGNORECASE | re.MULTILINE)

    def render(entry: Entry) -> str:
        found = line.search(entry.head)
        return _safe(found[1].decode("latin-1") if found else "")

    return render


def _stamp(form: str, second: int) -> str:
    return _safe(time.strftime(form, time.localtime(second)))


def _time(moment: Callable[[Entry], float]) -> Callable[[str], Render]:
    def of_format(argument: str) -> Render:
        form = argument or _TIME
        last = (-1, "")

        def render(entry: Entry) -> str:
            nonlocal last
            second = int(moment(entry))
            known = last
            if known[0] != second:  # many requests share a second, and strftime is slow
                last = known = (second, _stamp(form, second))
            return known[1]

        return render

    return of_format


_PLAIN: dict[str, Render] = {
    "l": lambda entry: _safe(entry.params.get("CONTENT_LENGTH") or "0"),
    "p": lambda entry: str(entry.pid or os.getpid()),
    "P": lambda entry: str(entry.parent or os.getppid()),
    "q": _query,
    "Q": lambda entry: "?" if entry.params.get("QUERY_STRING") else "",
    "r": _path,
    "s": lambda entry: str(entry.status),
} | {letter: _parameter(name) for letter, name in _PARAMETERS.items()}
_WITH_ARGUMENT: dict[str, Callable[[str], Render]] = {
    "C": _cpu,
    "d": _duration,
    "e": _environment,
    "M": _peak_memory,
    "o": _header,
    "t": _time(lambda entry: entry.began),
    "T": _time(lambda entry: entry.began + entry.seconds),
}
_JSON_PARAMETERS = {
    "remote_addr": "REMOTE_ADDR",
    "remote_user": "REMOTE_USER",
    "method": "REQUEST_METHOD",
    "host": "HTTP_HOST",
    "uri": "REQUEST_URI",
    "protocol": "SERVER_PROTOCOL",
    "referer": "HTTP_REFERER",
    "user_agent": "HTTP_USER_AGENT",
    "application": "gateway.application",
}


def _json(entry: Entry, pool: str) -> str:
    stamp = _utc(int(entry.began))
    fields: dict[str, object] = {"time": f"{stamp}.{int(entry.began * 1000) % 1000:03d}Z", "pool": pool}
    fields |= {"pid": entry.pid or os.getpid(), "status": entry.status, "complete": entry.complete}
    fields |= {"bytes": entry.size, "seconds": round(entry.seconds, 6)}
    for name, parameter in _JSON_PARAMETERS.items():
        value = entry.params.get(parameter)
        if isinstance(value, str) and value:
            fields[name] = value if value.isascii() else _as_utf_8(value)
    return json.dumps(fields)


def _json_items(pool: str) -> tuple[Item, ...]:
    members: dict[str, tuple[Item, ...]] = {
        "time": (_text('"'), ("t", _utc, 0, 0), ("i", None, 0, 0), _text('Z"')),
        "pool": (_text(json.dumps(pool)),),
        "pid": (("p", None, 0, 0),),
        "status": (("s", None, 0, 0),),
        "complete": (("c", None, 0, 0),),
        "bytes": (("b", None, 0, 0),),
        "seconds": (("S", None, 0, 0),),
    }
    found: list[Item] = []
    for name, rendered in members.items():
        found += _text(f'{", " if found else "{"}"{name}": '), *rendered
    found += [("j", (encode(f', "{name}": "'), parameter), 0, 0) for name, parameter in _JSON_PARAMETERS.items()]
    return (*found, _text("}"))


@functools.lru_cache(maxsize=4)
def _utc(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _as_utf_8(value: str) -> str:
    """PEP 3333 strings are bytes as latin-1; what they say is mostly UTF-8."""
    return value.encode("latin-1", "backslashreplace").decode("utf-8", "backslashreplace")
