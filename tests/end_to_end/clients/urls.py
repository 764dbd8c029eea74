"""The same URLs behind every front: what the application is told of each, and the URL that PEP 3333's algorithm makes
of that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.front.render import render
from gateway.settings import Pool
from gateway.settings import Settings as Rendered
from tests.end_to_end.clients import apache
from tests.end_to_end.clients.asking import get
from tests.end_to_end.clients.features import Bench, Shown, feature, line
from tests.end_to_end.running import HERE, USER, by_scgi

ROOT = "urls.example"
MOUNTED = "mounted.example"  # the application is bound to /app there


@dataclass(frozen=True)
class Url:
    """A request target, and what PATH_INFO, QUERY_STRING and the URL without its host come out as.

    `url` "" is for what is refused. `info` is decoded, as latin-1.
    """

    target: str
    info: str = ""
    query: str = ""
    url: str = ""
    host: str = ROOT

    @property
    def script(self) -> str:
        return "/app" if self.host == MOUNTED else ""


URLS = (
    Url("/", "/", "", "/"),
    Url("/?q", "/", "q", "/?q"),
    Url("/?a=/b/c&d=%2F%20+%41", "/", "a=/b/c&d=%2F%20+%41", "/?a=/b/c&d=%2F%20+%41"),
    Url("http://urls.example", "/", "", "/"),
    Url("http://urls.example?q=1", "/", "q=1", "/?q=1"),
    Url("/a?", "/a", "", "/a"),
    Url("/a?b?c", "/a", "b?c", "/a?b?c"),
    Url("/hello/", "/hello/", "", "/hello/"),
    Url("/a/b/c?x=1&y=%20", "/a/b/c", "x=1&y=%20", "/a/b/c?x=1&y=%20"),
    Url("/a%20b", "/a b", "", "/a%20b"),
    Url("/a%09b", "/a\tb", "", "/a%09b"),
    Url("/a+b", "/a+b", "", "/a%2Bb"),
    Url("/a%2Bb", "/a+b", "", "/a%2Bb"),
    Url("/caf%C3%A9/x", "/caf\xc3\xa9/x", "", "/caf%C3%A9/x"),
    Url("/%E2%82%AC", "/\xe2\x82\xac", "", "/%E2%82%AC"),
    Url("/%FF", "/\xff", "", "/%FF"),
    Url("/a%2Fb", "/a/b", "", "/a/b"),
    Url("/a%2fb", "/a/b", "", "/a/b"),
    Url("/a%2F%2Fb", "/a/b", "", "/a/b"),
    Url("/a%252Fb", "/a%2Fb", "", "/a%252Fb"),
    Url("/a%25b", "/a%b", "", "/a%25b"),
    Url("/a%2525b", "/a%25b", "", "/a%2525b"),
    Url("/a%3Fb?c", "/a?b", "c", "/a%3Fb?c"),
    Url("/a%23b/c", "/a#b/c", "", "/a%23b/c"),
    Url("/a%5Cb", "/a\\b", "", "/a%5Cb"),
    Url("/a%22%3Cb%3E%7C", '/a"<b>|', "", "/a%22%3Cb%3E%7C"),
    Url("/a%7Eb/~c", "/a~b/~c", "", "/a~b/~c"),
    Url("/%61pp/y", "/app/y", "", "/app/y"),
    Url("/a;b=c/d", "/a;b=c/d", "", "/a;b=c/d"),
    Url("/a:b@c/d", "/a:b@c/d", "", "/a%3Ab%40c/d"),
    Url("/a'b(c)!$&*,=", "/a'b(c)!$&*,=", "", "/a%27b%28c%29%21%24%26%2A,="),
    Url("/index.php/x", "/index.php/x", "", "/index.php/x"),
    Url("/main.fcgi/x", "/main.fcgi/x", "", "/main.fcgi/x"),
    Url("/a//b", "/a/b", "", "/a/b"),
    Url("//a", "/a", "", "/a"),
    Url("/a/./b", "/a/b", "", "/a/b"),
    Url("/x/../y", "/y", "", "/y"),
    Url("/a/b/..", "/a/", "", "/a/"),
    Url("/a/%2e%2e/b", "/b", "", "/b"),
    Url("/a%2F..%2Fb", "/b", "", "/b"),
    Url("/../a", "/a", "", "/a"),
    Url("/app", "", "", "/app", MOUNTED),
    Url("/app/", "/", "", "/app/", MOUNTED),
    Url("/app/x%2Fy?z", "/x/y", "z", "/app/x/y?z", MOUNTED),
    Url("/app/%C3%BC//x", "/\xc3\xbc/x", "", "/app/%C3%BC/x", MOUNTED),
    Url("/%61pp/x/../y", "/y", "", "/app/y", MOUNTED),
    Url("/app/a%00b", host=MOUNTED),
    Url("/a%00b"),
    Url("/a%0Ab"),
    Url("/a%0Db"),
    Url("/a%zzb"),
    Url("/a%"),
    Url("/a%4"),
)


POOLS_OWN = b"Bad Request\n"  # the page of a pool that refuses a request; every front has another


Configure = Callable[[Path, int, Path], str]
CLIENT = "The same URLs behind every front"
KNOWN = {  # what a front hands on differently, by its own reading of the URL
    ("lighttpd", "/?a=/b/c&d=%2F%20+%41"): {"QUERY_STRING": "a=/b/c&d=%2F%20+A"},
}


def bundled(name: str) -> Configure:
    """What `gateway front` prints."""

    def configure(place: Path, port: int, pool: Path) -> str:
        settings = Rendered(pools={"main": Pool(listen=(str(pool),))})
        user = USER if name == "nginx" else ""
        return render(name, settings, listen=f"127.0.0.1:{port}", run_directory=str(place), user=user)

    return configure


def scgi(name: str) -> Configure:
    """The same, by SCGI."""
    return lambda place, port, pool: by_scgi(bundled(name)(place, port, pool))


FRONTS: dict[str, tuple[str, str, Configure]] = {
    "nginx, `fastcgi_pass`": ("nginx", "wsgi", bundled("nginx")),
    "nginx, `scgi_pass`": ("nginx", "scgi", scgi("nginx")),
    "lighttpd, mod_fastcgi": ("lighttpd", "wsgi", bundled("lighttpd")),
    "lighttpd, mod_scgi": ("lighttpd", "scgi", scgi("lighttpd")),
    "HAProxy, fcgi-app": ("haproxy", "wsgi", bundled("haproxy")),
    "HAProxy, fcgi-app with `path-info`": (
        "haproxy",
        "wsgi",
        lambda *where: bundled("haproxy")(*where).replace("docroot /", "docroot /\n    path-info ^(/)(.*)$"),
    ),
    "Apache, ProxyPass `fcgi://`": ("apache", "wsgi", bundled("apache")),
    "Apache, SetHandler `fcgi://`": ("apache", "wsgi", apache.by_handler),
    "Apache, ProxyPass `scgi://`": ("apache", "scgi", apache.by_scgi),
    "Apache, mod_fcgid": (
        "apache",
        "",
        lambda place, port, _: apache.spawning(place, port, f"clients.showing:application --app-dir {HERE}"),
    ),
    "Caddy, `transport fastcgi`": ("caddy", "wsgi", bundled("caddy")),
}


def expected(front: str, url: Url) -> dict[str, str]:
    """What the application shows."""
    usual = {"SCRIPT_NAME": url.script, "PATH_INFO": url.info, "QUERY_STRING": url.query}
    shown = usual | KNOWN.get((front, url.target), {})
    query = shown["QUERY_STRING"]
    return shown | {"url": f"http://{url.host}{url.url.partition('?')[0]}" + (f"?{query}" if query else "")}


def judge(urls: Sequence[Url], front: str, what: str, port: int) -> tuple[list[str], dict[str, list[str]]]:
    """What the front hands on differently; and who refuses which URLs, and how. The rest is as it is to be."""
    differently: list[str] = []
    refusals: dict[str, list[str]] = {}
    for url in urls:
        status, body = get(port, url.target, host=url.host)
        if status == 200:
            assert json.loads(body) == expected(front, url), (url, body)
            differently += [f"`{url.target}`: {k} `{v}`" for k, v in KNOWN.get((front, url.target), {}).items()]
        else:
            own = body == POOLS_OWN
            assert not own or (status == 400 and not url.url), (url, status)  # the pool serves what it has to
            refusals.setdefault(f"{status} by {'the pool' if own else what.split(',')[0]}", []).append(
                f"`{url.target}`"
            )
    return differently, refusals


def register(what: str, front: str, kind: str, configure: Configure) -> None:
    """A row for a front; kind "" for one that starts the application itself, which is then bound to no path."""

    @feature(CLIENT, what)
    def same(bench: Bench) -> Shown:
        urls = [url for url in URLS if kind or url.host == ROOT]
        pool = bench.pool(kind).socket if kind else Path()
        with bench.front(front, lambda place, port: configure(place, port, pool)) as (port, _):
            differently, refusals = judge(urls, front, what, port)
        others = [f"{who}: {' '.join(targets)}" for who, targets in sorted(refusals.items())]
        which = f"the {len(urls)} below" if kind else f"the {len(urls)} below of {ROOT}"
        return Shown(which, "; ".join(["as below", *differently, *others]))


for _what, _front in FRONTS.items():
    register(_what, *_front)


def table() -> str:
    """What is sent, and what an application is told behind every front."""
    names = ("sent", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "URL by PEP 3333")
    text = "\n" + line(names) + line(["---"] * len(names))
    for url in URLS:
        target = f"`{url.target}`" + (f" ({url.host})" if url.host != ROOT else "")
        values = [url.script, repr(url.info)[1:-1], url.query, f"http://{url.host}{url.url}"]
        told = [f"`{value}`" if value else "" for value in values] if url.url else ["refused: 400", "", "", ""]
        text += line([target, *told])
    return text
