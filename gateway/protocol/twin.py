"""The functions of `records` and `headers` that every request passes, by their twin in C (`_records.c`).

Importing this raises ImportError where the twin was not built for this interpreter, or GATEWAY_PURE is set in the
environment. What the twin returns None for is left to the function that it stands for, which words every refusal.
"""

from __future__ import annotations

import sys
from typing import Any

from gateway.protocol import headers, records
from gateway.protocol.events import Limits

if "t" in sys.abiflags:  # CPython 3.13 without a GIL would load a file for the stable ABI, and crash (issue 120901)
    raise ImportError("the twin needs an interpreter with a GIL")

from gateway.protocol import _records


def decode_params(block: bytes, base: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """See `records.decode_params`."""
    decoded = _records.decode_params(block, base, limits.params_size, limits.params_count, limits.name_size)
    return decoded[:2] if decoded is not None else records.decode_params(block, base, limits)


def decode_whole_head(data: bytes, base: dict[str, Any], limits: Limits) -> records.WholeHead | None:
    """See `records.decode_whole_head`."""
    return _records.decode_whole_head(data, base, limits.params_size, limits.params_count, limits.name_size)


def encode_answer(request_id: int, data: bytes, app_status: int = 0) -> bytes:
    """See `records.encode_answer`."""
    answer = _records.encode_answer(request_id, data, app_status)
    return answer if answer is not None else records.encode_answer(request_id, data, app_status)


def decode_headers(block: bytes, base: dict[str, Any], limits: Limits) -> headers.Headers:
    """See `headers.decode_headers`."""
    decoded = _records.decode_headers(block, base, limits.params_size, limits.params_count, limits.name_size)
    if decoded is None:
        return headers.decode_headers(block, base, limits)
    params, repeats, plain = decoded
    length = headers.body_length(params["CONTENT_LENGTH"])
    headers.require_scgi(params)
    return params, repeats, plain, length
