"""What a site that is published may import: `handler`, Werkzeug's request and response; and `publish`, for a script."""

from __future__ import annotations

import importlib

from werkzeug.wrappers import Response as Response

from gateway.app.publisher.application import Publisher, load
from gateway.app.publisher.binding import Request as Request
from gateway.app.publisher.handler import Handler as Handler
from gateway.app.publisher.handler import handler as handler
from gateway.app.publisher.sources import Unpublishable as Unpublishable


def publish(*names: str) -> Publisher:
    """A WSGI application (PEP 3333) that publishes modules, named as by `publisher` in the settings.

    `gateway.run(publish("pages/"))` ends a start script. Raises Unpublishable, and whatever the modules raise.
    """
    return load(names, importlib.import_module)
