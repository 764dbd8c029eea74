"""FastCGI's Authorizer role (1.0 §6.3): a pool's `authorizer` says whether a front may answer by other means."""

from __future__ import annotations

import json
from pathlib import Path

from tests.end_to_end.browsing import Answer, fetch
from tests.end_to_end.clients import apache, lighttpd
from tests.end_to_end.clients.features import Bench, Shown, feature

BODY = bytes(range(256)) * 1_000
STRANGERS = "by a stranger, by who may not, by who may"
_APACHE = """LoadModule authn_core_module ${modules}/mod_authn_core.so
LoadModule authz_user_module ${modules}/mod_authz_user.so
LoadModule authnz_fcgi_module ${modules}/mod_authnz_fcgi.so
DocumentRoot FOLDER
AuthnzFcgiDefineProvider authn guard fcgi://ADDRESS/
<Location /secret>
    AuthType None
    AuthnzFcgiCheckAuthnProvider guard Authoritative On RequireBasicAuth Off UserExpr "%{reqenv:REMOTE_USER}"
    Require valid-user
</Location>
"""


WHO: list[dict[str, str]] = [{}, {"X_User": "nobody"}, {"X_User": "me"}]


def check_refused(answers: list[Answer]) -> None:
    assert [answer.status for answer in answers] == [401, 403, 200], answers
    assert {answer.text for answer in answers[:2]} == {"the authorizer's page\n"}
    assert answers[0].headers["www-authenticate"] == "Own"
    assert not any(name.startswith("variable-") for answer in answers for name in answer.headers)


def secret(bench: Bench) -> Path:
    """A folder with /secret/file.txt in it."""
    folder = bench.folder()
    (folder / "secret").mkdir()
    (folder / "secret" / "file.txt").write_bytes(BODY)
    return folder


@feature(lighttpd.CLIENT, '`mode = "authorizer"` before files of lighttpd\'s own')
def files_are_guarded(bench: Bench) -> Shown:
    folder = secret(bench)
    more = f'"check-local" => "disable", "docroot" => "{folder}"'
    guard = f'( "socket" => "{bench.pool("authorizer").socket}", "mode" => "authorizer", {more} )'
    lines = f'fastcgi.server = ( "/secret" => ( {guard} ) )\n'
    with lighttpd.lighttpd(bench, lines) as (port, _):
        answers = [fetch(port, "/secret/file.txt", **headers) for headers in WHO]
    check_refused(answers)
    assert answers[2].body == BODY
    return Shown(f"`GET` of a file {STRANGERS}", "401 and 403 of the authorizer; the file")


@feature(lighttpd.CLIENT, '`mode = "authorizer"` before an application of WSGI')
def applications_are_guarded(bench: Bench) -> Shown:
    return before_application(bench, "authorizer", "/variables")


@feature(lighttpd.CLIENT, '`mode = "authorizer"` before an application of ASGI')
def asynchronous_ones_too(bench: Bench) -> Shown:
    return before_application(bench, "authorizer of ASGI", "/scope")


def before_application(bench: Bench, kind: str, path: str) -> Shown:
    own = f'"socket" => "{bench.pool(kind).socket}", "check-local" => "disable", "fix-root-scriptname" => "enable"'
    lines = f'fastcgi.server = ( "/" => ( ( {own}, "mode" => "authorizer" ), ( {own} ) ) )\n'
    with lighttpd.lighttpd(bench, lines) as (port, _):
        found = [fetch(port, f"{path}?a", **headers) for headers in WHO]
        echoed = fetch(port, "/echo", "POST", body=BODY, X_User="me")
    check_refused(found)
    shown = json.loads(found[2].body)
    seen = shown["extensions"]["gateway"]["params"] if kind == "authorizer of ASGI" else shown
    assert (seen["REMOTE_USER"], seen["GUARD_ASKED"]) == ("me", f"AUTHORIZER about {path}")
    assert (echoed.status, echoed.body) == (200, BODY)
    return Shown(
        f"`GET` {STRANGERS}; `POST` of 256,000 bytes",
        "401 and 403 of the authorizer; the page, with REMOTE_USER of its `Variable-REMOTE_USER`; the bytes",
    )


@feature(apache.CLIENT, "mod_authnz_fcgi, an authorizer before files of Apache's own")
def files_of_apache_are_guarded(bench: Bench) -> Shown:
    folder, address = secret(bench), bench.tcp("authorizer")

    def configure(place: Path, port: int) -> str:
        return apache.with_lines(place, port, _APACHE.replace("FOLDER", str(folder)).replace("ADDRESS", address))

    with bench.front("apache", configure) as (port, _):
        found = [fetch(port, "/secret/file.txt", **headers) for headers in WHO]
    check_refused(found)
    assert found[2].body == BODY
    return Shown(f"`GET` of a file {STRANGERS}", "401 and 403 of the authorizer; the file")
