"""Where the bundled files are: the front-ends' templates, static files and the demo.

In a checkout they are folders of the top level; in an installation they are inside the package, as `share/NAME`.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
_CHECKOUT = {
    "nginx": "nginx",
    "lighttpd": "lighttpd",
    "templates": "gateway/front/templates",  # of the other front-ends: here also in an installation
    "static": "static",
    "demo": "examples/demo",
}


def folder(name: str) -> Path:
    """The folder of bundled files called `name`: "nginx", "lighttpd", "templates", "static" or "demo"."""
    installed = PACKAGE / "share" / name
    return installed if installed.is_dir() else PACKAGE.parent / _CHECKOUT[name]
