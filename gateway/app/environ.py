"""The rules for a request's parameters, host and path (PEP 3333 "environ Variables", RFC 3875 §4.1, docs/design.md).

Every request passes here, so the common case is a few dictionary look-ups and string searches; what only some
front-ends need stands in functions of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from gateway.app.bindings import NAME, NAME_LENGTH, canonical_ipv6


class Rejected(Exception):
    """The request gets an error answer without, or instead of, the application: `status` and, for the log, `reason`."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


# httpoxy, and headers that describe a body which the front-end has already decoded and CGI has names of its own for.
_DROPPED = ("HTTP_PROXY", "HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE", "HTTP_TRANSFER_ENCODING")

# Headers with one value (RFC 9110 §5.3), and those of proxies that applications base trust on: two different values
# mean that two programs would see two different requests. Every HTTP_IF_… is one as well.
_SINGLE_NAMES = """
    HOST AUTHORIZATION PROXY_AUTHORIZATION REFERER RANGE IF USER_AGENT FROM ORIGIN DATE MAX_FORWARDS DESTINATION DEPTH
    OVERWRITE X_REAL_IP X_CLIENT_IP X_CLUSTER_CLIENT_IP TRUE_CLIENT_IP CF_CONNECTING_IP X_FORWARDED_HOST
    X_FORWARDED_PROTO X_FORWARDED_PROTOCOL X_FORWARDED_PORT X_FORWARDED_SSL X_FORWARDED_SCHEME X_FORWARDED_SERVER
    X_FORWARDED_PREFIX X_FORWARDED_URI X_FORWARDED_USER X_SCHEME X_URL_SCHEME X_SCRIPT_NAME X_ORIGINAL_URL X_REWRITE_URL
    X_HTTP_METHOD_OVERRIDE X_REMOTE_USER REMOTE_USER FRONT_END_HTTPS X_CSRFTOKEN X_CSRF_TOKEN
"""
_SINGLE = frozenset("HTTP_" + name for name in _SINGLE_NAMES.split())

_DEFAULTS = {"REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.0"}
_ON = frozenset(("on", "1", "https"))

# Which values of some parameters `normalise` leaves as they are. The quick way counts on that, and does itself what is
# left about the content and https; of a SERVER_PORT that is none no host is known to it.
USUAL: Mapping[str, Callable[[str], bool]] = {
    **dict.fromkeys(_DROPPED, ().__contains__),
    **dict.fromkeys(("REQUEST_METHOD", "SERVER_PROTOCOL", "REQUEST_URI", "HTTP_HOST"), bool),
    "HTTPS": ("on", "off", "").__contains__,
}
_LONGEST_NUMBER = 18  # digits: more than any body has, and int() stays cheap

_HOST = re.compile(rf"({NAME.pattern})\.?(?::([1-9][0-9]{{0,4}}))?", re.ASCII)
_IPV6 = re.compile(r"\[([^][]*)\](?::([1-9][0-9]{0,4}))?", re.ASCII)
_PORT = re.compile(r":[0-9]*\Z", re.ASCII)
_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*", re.ASCII)
_MALFORMED = re.compile(r"[^?#]*?%(?![0-9A-Fa-f]{2})")
_SAFE = "/:@!$&'()*+,;=~"  # of a path, what quote() leaves (RFC 3986 §3.3)


def normalise(params: dict[str, Any], repeats: Iterable[tuple[str, str]], own: int = 0, *, plain: bool = False) -> None:
    """Make an environ of a request's parameters, in place; `wsgi.input` and the path are not its business.

    `repeats` holds the pairs whose names were there already. The first `own` keys of `params` are the gateway's, and
    their values need not be strings; all others are. With `plain` none holds NUL, CR or LF. Raises Rejected (400, 413).
    """
    for name, value in repeats:
        _repeat(params, name, value)
    for name in _DROPPED:
        params.pop(name, None)
    if not plain:
        _refuse_controls(params, own)
    _check_length(params)
    get = params.get
    if get("CONTENT_TYPE") == "":
        del params["CONTENT_TYPE"]  # nginx on GET
    if get("HTTP_HOST") == "":
        del params["HTTP_HOST"]  # nginx's $http_host for a request without Host
    https = get("HTTPS", "").lower() in _ON or get("REQUEST_SCHEME") == "https"
    params["wsgi.url_scheme"] = "https" if https else "http"
    params["wsgi.input_terminated"] = True
    if not (
        get("REQUEST_METHOD")
        and get("SERVER_NAME")
        and (get("SERVER_PORT") or "0") != "0"
        and get("SERVER_PROTOCOL")
        and get("REQUEST_URI")
        and "QUERY_STRING" in params
    ):
        _complete(params)


def _repeat(params: dict[str, Any], name: str, value: str) -> None:
    """A repeated header comes from the client, any other repeated name from the front-end's own configuration."""
    known = params[name]
    if not isinstance(known, str) or "." in name:
        return  # one of the gateway's own keys, wsgi.… : never replaced
    if not name.startswith("HTTP_"):
        params[name] = value  # nginx: `include fastcgi_params;` and then a line that overrides it
    elif name in _SINGLE or name.startswith("HTTP_IF_") or _has_two_spellings(params):
        if known != value:
            raise Rejected(400, f"{name} came twice, as {known!r:.80} and {value!r:.80}")
    else:
        params[name] = f"{known}; {value}" if name == "HTTP_COOKIE" else f"{known}, {value}"


def _has_two_spellings(params: dict[str, Any]) -> bool:
    """Whether a header that is repeated has two: lighttpd 1.4 joins those of one name, and passes X-Forwarded-For and
    X.Forwarded.For as the same variable, so that a client could add to what a proxy before it has said.
    """
    software: str = params.get("SERVER_SOFTWARE", "")
    return software.startswith("lighttpd/")


def _refuse_controls(params: dict[str, Any], own: int) -> None:
    """All names and values are searched at once: joining is cheap, and these three characters never occur rightly."""
    values = [*params.values()][own:]
    text = "".join([*values, *params])
    if "\n" in text or "\r" in text or "\0" in text:
        raise Rejected(400, "a parameter holds NUL, CR or LF")


def _check_length(params: dict[str, Any]) -> None:
    """CONTENT_LENGTH is digits or absent: empty or -1 (nginx on GET; unbuffered chunked uploads) means "to the end"."""
    length = params.get("CONTENT_LENGTH")
    if length is None:
        return
    if length == "" or length == "-1":
        del params["CONTENT_LENGTH"]
    elif not (length.isascii() and length.isdigit()):
        raise Rejected(400, f"CONTENT_LENGTH is {length!r:.80}")
    elif len(length) > _LONGEST_NUMBER:
        raise Rejected(413, f"CONTENT_LENGTH is {length:.80}")


def _complete(params: dict[str, Any]) -> None:
    """Supply what a front-end left out or empty: nginx sends what its administrator wrote."""
    for name, default in _DEFAULTS.items():
        params[name] = params.get(name) or default
    if params.get("SERVER_PORT", "0") in ("", "0"):  # on a Unix socket nginx sends "", lighttpd 1.4.69 "0"
        params["SERVER_PORT"] = "443" if params["wsgi.url_scheme"] == "https" else "80"
    if not params.get("SERVER_NAME"):
        params["SERVER_NAME"] = server_name(params)
    uri = params.get("REQUEST_URI")
    if not uri:
        uri = params["REQUEST_URI"] = _request_uri(params)
    params.setdefault("QUERY_STRING", uri.partition("?")[2])


def server_name(params: dict[str, Any]) -> str:
    """The host of the request, else the address it came to, else localhost: never empty (PEP 3333)."""
    for text in (params.get("HTTP_HOST", ""), params.get("SERVER_ADDR", "")):
        name = _PORT.sub("", text) if text.count(":") == 1 or text.startswith("[") else text
        if name and not name.startswith("unix:"):
            return f"[{name}]" if ":" in name and not name.startswith("[") else name
    return "localhost"


def _request_uri(params: dict[str, Any]) -> str:
    """The URI that was asked for, put together from its parts; web.py takes its path from nowhere else."""
    script, info, query = (params.get(name, "") for name in ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING"))
    path = info if script == info else script.rstrip("/") + info
    uri = quote(path or "/", safe=_SAFE, encoding="latin-1")
    return f"{uri}?{query}" if query else uri


def host_and_port(params: dict[str, Any], port_from: str = "server") -> tuple[str, int]:
    """The canonical host and the port that bindings are compared with, of normalised parameters.

    `port_from`: "server" for SERVER_PORT, "host" for the Host header's port or else the scheme's. Raises Rejected
    (400).
    """
    text = params.get("HTTP_HOST") or params["SERVER_NAME"]
    match = _HOST.fullmatch(text.lower())
    if match is not None:
        host, port = match.groups()
        if len(host) > NAME_LENGTH:
            raise Rejected(400, f"the host name has {len(host)} characters")
    else:
        host, port = _ipv6(text)
    if port is not None and int(port) > 65535:
        raise Rejected(400, f"the host is {text!r:.80}")
    if port_from == "host":
        return host, int(port) if port is not None else 443 if params["wsgi.url_scheme"] == "https" else 80
    return host, _server_port(params["SERVER_PORT"])


def _ipv6(text: str) -> tuple[str, str | None]:
    match = _IPV6.fullmatch(text)
    try:
        return canonical_ipv6(match[1] if match else ""), match[2] if match else None
    except ValueError:
        raise Rejected(400, f"the host is {text!r:.80}") from None


@lru_cache(maxsize=64)  # the front-end's configuration names few
def _server_port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = 0
    if 0 < port < 65536 and str(port) == text:  # no sign, space, underscore or leading zero
        return port
    raise Rejected(400, f"SERVER_PORT is {text!r:.80}")


def request_path(params: dict[str, Any]) -> tuple[str, str]:
    """The whole decoded path of a request, and the prefix at which the front-end mounts the gateway ("" for the root).

    S is SCRIPT_NAME, P is PATH_INFO; front-ends decode both, so nothing is decoded again. U is REQUEST_URI's path,
    decoded and with its dot segments resolved. It only tells how S and P relate: the path is never taken from it while
    there is S or P, because the front-end's access rules looked at its own reading of the path and not at ours. For the
    same reason S is left out only where U proves that P is the whole path.

    | sent for /a/b                             | S         | P    | path, mount      |
    |-------------------------------------------|-----------|------|------------------|
    | nginx as bundled, lighttpd with root fix  |           | /a/b | P                |
    | nginx stock, Apache fcgi://, HAProxy      | /a/b      |      | S                |
    | nginx with both set to the whole path     | /a/b      | /a/b | P                |
    | lighttpd rewrite to /app.fcgi$0           | /app.fcgi | /a/b | P, as U is P     |
    | lighttpd or nginx prefix /a               | /a        | /b   | S + P, mount S   |
    | lighttpd "/" without root fix             | /a        | /b   | S + P, mount S   |
    | Apache, SetHandler fcgi://                | /a        | /b   | S + P            |

    The two before the last cannot be told apart: a binding with the path "/" says that the root is meant.
    """
    script: str = params.get("SCRIPT_NAME", "")
    info: str = params.get("PATH_INFO", "")
    if not info:
        path = script or _uri_path(params["REQUEST_URI"])
        return path if path[0] == "/" else "/" + path, ""
    if script and script.strip("/"):
        path, prefix = _joined_path(script, info, params["REQUEST_URI"])
        return path, "" if prefix and _is_split_by_files(params) else prefix
    return info if info[0] == "/" else "/" + info, ""


def _joined_path(script: str, info: str, uri: str) -> tuple[str, str]:
    script = "/" + script.strip("/")
    path = script + info
    if info[0] != "/":
        return path, ""  # nginx: ^(/a)(.*) for /apple, where /a is no mount
    asked = _uri_path(uri)
    if asked == info or (script == info and asked != path):
        return info, ""
    return path, script


def _is_split_by_files(params: dict[str, Any]) -> bool:
    """Whether Apache 2.4's mod_proxy, as a handler, has cut the path behind the first name that is no folder there."""
    filename: str = params.get("SCRIPT_FILENAME", "")
    place = params.get("CONTEXT_DOCUMENT_ROOT", "") + params["SCRIPT_NAME"].removeprefix(
        params.get("CONTEXT_PREFIX", "")
    )
    return filename.startswith("proxy:") and filename.endswith(place)


def check_escapes(uri: str) -> None:
    """Refuse a path with a `%` that no two hexadecimal digits follow (RFC 3986 §2.1): lighttpd takes it for itself.

    Only a `%` that is left in the decoded path can be one. Raises Rejected (400).
    """
    if _MALFORMED.match(uri):
        raise Rejected(400, f"REQUEST_URI has a malformed escape: {uri!r:.80}")


def _uri_path(uri: str) -> str:
    """The path of REQUEST_URI as front-ends read it: decoded once, slashes merged, dot segments resolved."""
    uri = _AUTHORITY.sub("", uri, count=1) if uri[:1] != "/" else uri
    path = unquote_to_bytes(re.split(r"[?#]", uri, maxsplit=1)[0].encode("latin-1")).decode("latin-1")
    segments: list[str] = []
    parts = path.split("/")
    for part in parts:
        if part == "..":
            del segments[-1:]
        elif part not in ("", "."):
            segments.append(part)
    tail = "/" if segments and parts[-1] in ("", ".", "..") else ""
    return "/" + "/".join(segments) + tail


def mount(params: dict[str, Any], path: str, prefix: str) -> None:
    """Set SCRIPT_NAME to `prefix` and PATH_INFO to what follows it in `path`; they are never both empty (PEP 3333)."""
    prefix = prefix.rstrip("/")
    params["SCRIPT_NAME"] = prefix
    params["PATH_INFO"] = path[len(prefix) :] if prefix else path
