"""The headers of an SCGI request as bytes: what its netstring holds (the SCGI specification)."""

from __future__ import annotations

import re
from typing import Any

from gateway.protocol.events import Limits, ProtocolError
from gateway.protocol.records import LimitExceeded

_CONTENT_LENGTH = re.compile(r"[0-9]{0,18}\Z", re.ASCII)

# Parameters, repeated ones, whether these were searched for CR and LF without finding any, and the length of the body.
Headers = tuple[dict[str, Any], list[tuple[str, str]], bool, int]


def decode_headers(block: bytes, base: dict[str, Any], limits: Limits) -> Headers:
    """Decode the content of the netstring over a copy of `base`.

    Raises LimitExceeded, and ProtocolError for what the specification forbids, but for repeated names: nginx sends its
    own CONTENT_LENGTH and SCGI, and once more those of its scgi_params file (where CONTENT_LENGTH is empty when there
    is no body).
    """
    names, values = _split(block, limits)
    if names[0] != "CONTENT_LENGTH":
        raise ProtocolError("CONTENT_LENGTH is not the first header")
    announced = values[0]
    length = body_length(announced)
    params = base.copy()
    repeats = []
    for name, value in zip(names, values, strict=True):
        if not name:
            raise ProtocolError("a header without a name")
        if len(name) > limits.name_size:
            raise LimitExceeded(f"a parameter's name has more than {limits.name_size} bytes")
        if name not in params:
            params[name] = value
        elif name != "CONTENT_LENGTH":
            repeats.append((name, value))
        elif value not in ("", announced):
            raise ProtocolError("two lengths of the body")
    require_scgi(params)
    return params, repeats, False, length


def _split(block: bytes, limits: Limits) -> tuple[list[str], list[str]]:
    """The names and the values of NUL-terminated strings."""
    if block[-1] != 0:
        raise ProtocolError("the headers end in the middle of one")
    count, odd = divmod(block.count(0), 2)
    if odd:
        raise ProtocolError("a header without a value")
    if count > limits.params_count:
        raise LimitExceeded(f"more than {limits.params_count} parameters")
    fields = block.decode("latin-1").split("\0")
    return fields[:-1:2], fields[1::2]


def body_length(announced: str) -> int:
    """What CONTENT_LENGTH says; nothing is 0. Raises ProtocolError."""
    if not _CONTENT_LENGTH.match(announced):
        raise ProtocolError("CONTENT_LENGTH is not a number")
    return int(announced or "0")


def require_scgi(params: dict[str, Any]) -> None:
    """Raises ProtocolError unless the request says that it is one of SCGI."""
    if params.get("SCGI") != "1":
        raise ProtocolError("the header SCGI is not 1")
