"""What modules that the publisher publishes may import: `handler`, and Werkzeug's request and response."""

from __future__ import annotations

from werkzeug.wrappers import Response as Response

from gateway.app.publisher.binding import Request as Request
from gateway.app.publisher.handler import Handler as Handler
from gateway.app.publisher.handler import handler as handler
