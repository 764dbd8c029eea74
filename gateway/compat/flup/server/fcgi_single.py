"""flup.server.fcgi_single on this engine."""

from __future__ import annotations

from gateway.app.flup import FCGI_AUTHORIZER as FCGI_AUTHORIZER
from gateway.app.flup import FCGI_FILTER as FCGI_FILTER
from gateway.app.flup import FCGI_RESPONDER as FCGI_RESPONDER
from gateway.app.flup import server_class
from gateway.compat.flupserver import serve

__all__ = ["WSGIServer"]

WSGIServer = server_class("fcgi_single", serve)
