"""The examples of frameworks: one pool for all of them behind each front-end, and each as a CGI script."""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.end_to_end.cgiserver import cgi_server
from tests.end_to_end.examples.outcome import Outcome, tried
from tests.end_to_end.examples.site import FEATURES, OF_DJANGO, PASSWORD, Example, Mount
from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    ROOT,
    USER,
    Program,
    Settings,
    front,
    listens_at,
    short_place,
    site,
)
from tests.waiting import free_port

TABLE = "Frameworks"
NAMES = {
    "flask": "Flask",
    "django": "Django",
    "pyramid": "Pyramid",
    "bottle": "Bottle",
    "webpy": "web.py",
    "cherrypy": "CherryPy",
    "falcon": "Falcon",
    "fastapi": "FastAPI",
}
# Their ASGI applications, for which all.toml has no place: each at a host of its own, in a pool of its own.
ASGI = {"django": "mysite.asgi:application", "fastapi": "examples.fastapi.hello:app"}
SCRIPTS = dict.fromkeys(NAMES, "hello.py") | {"django": "run.py", "webpy": "code.py"}
# Each request starts an interpreter and imports a framework, so that these are few.
OF_CGI = {name: FEATURES[name] for name in ("`/hello`", "form", "upload of 20 MB", "redirect below a path")}
_PREPARE = f"""
import os, sys
sys.path.insert(0, "examples/django")
os.environ |= {{"DJANGO_SETTINGS_MODULE": "mysite.settings", "DJANGO_SUPERUSER_PASSWORD": {PASSWORD!r}}}
import django
from django.core.management import call_command
django.setup()
call_command("migrate", verbosity=0)
call_command("collectstatic", verbosity=0, interactive=False)
call_command("createsuperuser", username="admin", email="admin@example.com", interactive=False, verbosity=0)
"""


@contextlib.contextmanager
def prepared() -> Iterator[Path]:
    """A copy of the folder `examples`, in which Django's project has its database, its static files and an admin."""
    with short_place() as place:
        shutil.copytree(
            ROOT / "examples", place / "examples", ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3", "sta")
        )
        subprocess.run([sys.executable, "-c", _PREPARE], cwd=place, check=True, timeout=60)
        for written in ("django", "django/db.sqlite3", "jsonstore"):
            (place / "examples" / written).chmod(0o777)  # also by www-data, where root starts the workers
        yield place / "examples"


def in_one_pool(name: str, examples: Path) -> Iterator[Outcome]:
    """examples/all.toml behind the front-end `name`, and beside it a pool for ASGI."""
    settings = tomllib.loads((examples / "all.toml").read_text())
    (pool,) = settings["pools"].values()
    assert list(NAMES) == [application["name"] for application in settings["applications"]]
    with short_place() as place:
        folder = {"app_dir": str(examples.parent)}
        applications = settings["applications"] + [
            {"name": f"{key}-asgi", "pool": "asgi", "app": target, "bindings": _bindings(f"{key}-asgi")}
            for key, target in ASGI.items()
        ]
        asgi: dict[str, Any] = pool | folder | {"listen": f"{place}/asgi.sock", "max_children": 1, "user": USER}
        served = Settings(place, pool | folder, applications, {"pools": {"asgi": asgi}})
        with site(name, served, static=str(examples / "django" / "sta")) as running:
            for key, shown in NAMES.items():
                yield from _tried(key, shown, name, running.port, key)
                if key in ASGI:
                    yield from _tried(key, shown, f"{name}, ASGI", running.port, f"{key}-asgi")
            assert "Traceback" not in running.master.said, running.master.said


def _bindings(key: str) -> list[dict[str, str]]:
    return [{"hostname": f"{key}.localhost", "port": "*"}, {"hostname": "*", "port": "*", "path": f"/{key}"}]


def _tried(key: str, shown: str, how: str, port: int, name: str) -> Iterator[Outcome]:
    where = Example(shown, Mount(port, f"{name}.localhost"), Mount(port, "127.0.0.1", f"/{name}"))
    features = FEATURES | (OF_DJANGO if key == "django" else {})
    yield from tried(TABLE, _linked(key), how, features, where)


def _linked(key: str) -> str:
    return f"[{NAMES[key]}](../examples/{key}.md)"


def by_scgi(examples: Path) -> Iterator[Outcome]:
    """CherryPy over SCGI behind lighttpd, by what its page tells to write, but for the paths."""
    page = (ROOT / "docs" / "examples" / "cherrypy.md").read_text()
    with short_place() as place:
        command, configuration = (
            re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)[-1].replace("/run/shop", str(place))
            for language in ("sh", "lighttpd")
        )
        port = free_port()
        own = f'server.document-root = "{place}"\nserver.bind = "127.0.0.1"\nserver.port = {port}\n'
        words = command.split()[1:] + ([f"--user={USER}"] if USER else [])
        with (
            Program([*GATEWAY, *words], place / "log", cwd=examples.parent, env=ENVIRONMENT) as program,
            front("lighttpd", place, own + configuration, port),
        ):
            program.wait_for(lambda: listens_at(place / "cherrypy.sock"))
            mount = Mount(port, "127.0.0.1", "/shop")
            yield from tried(TABLE, _linked("cherrypy"), "lighttpd, SCGI", FEATURES, Example("CherryPy", mount, mount))


def by_cgi(name: str, shown: str, examples: Path) -> Iterator[Outcome]:
    """Each example as a script of the web server `name`, started for every request."""
    scripts = {key: f"-m gateway run {examples / key / script}" for key, script in SCRIPTS.items()}
    with short_place() as place, cgi_server(name, place, scripts) as server:
        for key in SCRIPTS:
            mount = Mount(server.port, "127.0.0.1", f"/cgi-bin/{key}.cgi")
            yield from tried(TABLE, _linked(key), f"{shown}, CGI", OF_CGI, Example(NAMES[key], mount, mount))
        assert "Traceback" not in server.said, server.said


TRIALS = {
    "nginx": functools.partial(in_one_pool, "nginx"),
    "lighttpd": functools.partial(in_one_pool, "lighttpd"),
    "lighttpd by SCGI": by_scgi,
    "Apache by CGI": functools.partial(by_cgi, "apache", "Apache"),
    "lighttpd by CGI": functools.partial(by_cgi, "lighttpd", "lighttpd"),
}
