"""flup.server.scgi on this engine."""

from __future__ import annotations

from gateway.app.flup import NoDefault as NoDefault
from gateway.app.flup import server_class
from gateway.compat.flupserver import serve

__all__ = ["WSGIServer"]

WSGIServer = server_class("scgi", serve)
