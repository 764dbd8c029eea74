"""An application for every URL: it answers with the path and the query it was given, and the URL that PEP 3333's
algorithm makes of its environ.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from wsgiref.util import request_uri
from wsgiref.validate import validator

NAMES = ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING")


def showing(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    shown = {name: environ[name] for name in NAMES} | {"url": request_uri(environ)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(shown).encode()]


application = validator(showing)
