"""Thirteen bytes from Flask."""

from __future__ import annotations

from flask import Flask

application = Flask(__name__)


@application.get("/")
def hello() -> str:
    """Answer with the same as the others."""
    return "Hello, world!"
