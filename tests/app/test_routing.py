"""What a router notes of hosts for a quick way, within bounds."""

from __future__ import annotations

import pytest

from gateway.app import routing
from gateway.app.environ import Rejected
from gateway.app.routing import ByPath, Known, Router, Site
from gateway.protocol.events import RequestHead, Role
from gateway.settings import Binding
from tests.app.memory import NGINX, answering


def router(*bindings: Binding) -> Router:
    made = Router([(binding, Site("it", answering([b"x"]))) for binding in bindings], own=0)
    made.notes_hosts = True
    return made


def route(made: Router, **params: str) -> None:
    made.route(RequestHead(1, Role.RESPONDER, True, NGINX | params, []))


def test_host_whose_paths_have_one_binding_is_noted() -> None:
    made = router(Binding())
    route(made, SERVER_NAME="")
    known = made.hosts["a.example:8080"]["8080"]
    assert isinstance(known, Known)
    assert (known.name, known.host, known.server_name) == ("it", "a.example", "a.example")


def test_of_a_host_with_paths_it_is_noted_that_they_decide() -> None:
    made = router(Binding(path="/hello"), Binding(hostname="a.example", path="/hello/you"))
    route(made)
    route(made, HTTP_HOST="")
    by_path = made.hosts["a.example:8080"]["8080"]
    assert isinstance(by_path, ByPath)
    environ = {"SCRIPT_NAME": "", "PATH_INFO": "/hello/world"}
    known = by_path(environ)
    assert known is not None
    assert (known.name, known.host, known.server_name) == ("it", "a.example", "a.example")
    assert environ == {"SCRIPT_NAME": "/hello", "PATH_INFO": "/world"}
    assert by_path({"SCRIPT_NAME": "", "PATH_INFO": "/other"}) is None


def test_what_cannot_be_loaded_is_not_known_by_its_path() -> None:
    made = Router([(Binding(), Site("it", None, "broken"))], own=0)
    by_path = made.known(dict(NGINX))
    assert isinstance(by_path, ByPath)
    assert by_path({"SCRIPT_NAME": "/front", "PATH_INFO": "/x"}) is None


def test_without_a_prefix_the_front_ends_mount_stays() -> None:
    made = router(Binding(), Binding(path="/hello"))
    by_path = made.known(dict(NGINX))
    assert isinstance(by_path, ByPath)
    environ = {"SCRIPT_NAME": "/front", "PATH_INFO": "/hello"}
    assert by_path(environ) is not None
    assert environ == {"SCRIPT_NAME": "/front", "PATH_INFO": "/hello"}


def test_what_is_noted_is_bounded() -> None:
    made = router(Binding())
    for number in range(routing._MOST_HOSTS + 10):
        route(made, HTTP_HOST=f"h{number}.example")
    assert len(made.hosts) <= routing._MOST_HOSTS
    for number in range(routing._MOST_PORTS + 5):
        route(made, SERVER_PORT=str(1000 + number))
    assert max(map(len, made.hosts.values())) <= routing._MOST_PORTS


@pytest.mark.parametrize("uri", ["/a%", "/a%4", "/a%zz?x", "http://h/%2", "/%25%"])
def test_malformed_escapes_are_refused(uri: str) -> None:
    """lighttpd decodes what it can, and leaves the rest."""
    with pytest.raises(Rejected, match="malformed escape") as refused:
        route(router(Binding()), REQUEST_URI=uri, PATH_INFO="/a%")
    assert refused.value.status == 400


@pytest.mark.parametrize("uri", ["/a%25", "/a%25zz?%", "/%61%25", "/a%25#%", "http://h/a%25"])
def test_other_percent_signs_are_not(uri: str) -> None:
    route(router(Binding()), REQUEST_URI=uri, PATH_INFO="/a%")
