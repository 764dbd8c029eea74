"""What `_records.c` does as `records` and `headers` do: None means that their function of that name is to be asked."""

from typing import Any

def decode_params(
    block: bytes, base: dict[str, Any], params_size: int, params_count: int, name_size: int, /
) -> tuple[dict[str, Any], list[tuple[str, str]], bool] | None: ...
def decode_whole_head(
    data: bytes, base: dict[str, Any], params_size: int, params_count: int, name_size: int, /
) -> tuple[bool, dict[str, Any], list[tuple[str, str]], bool, int, bool] | None: ...
def decode_headers(
    block: bytes, base: dict[str, Any], params_size: int, params_count: int, name_size: int, /
) -> tuple[dict[str, Any], list[tuple[str, str]], bool] | None: ...
def encode_answer(request_id: int, data: bytes, app_status: int, /) -> bytes | None: ...
