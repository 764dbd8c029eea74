"""The requests that flup6 and this engine are compared by, and for each that they answer differently, why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.protocol import records
from gateway.protocol.events import Role

STOCK = {  # what every request has, as a front-end sends it
    "GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "QUERY_STRING": "",
    "SERVER_NAME": "shop.example", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": "front/1",
    "HTTP_HOST": "shop.example", "REMOTE_ADDR": "192.0.2.7",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A request: what it is about, what is asked for, and `why` two servers answer it differently, "" for alike.

    A parameter that is None is left out. `record` is the size of the records that PARAMS come in, 0 for one.
    """

    what: str
    uri: str
    why: str = ""
    body: bytes = b""
    params: Mapping[str, str | None] = field(default_factory=dict)
    more: tuple[tuple[str, str], ...] = ()  # further parameters, whose names may have come already
    record: int = 0
    role: Role = Role.RESPONDER
    raw: bytes = b""  # sent in place of a request

    def encoded(self) -> bytes:
        """The bytes of the request."""
        if self.raw:
            return self.raw
        path, _, query = self.uri.partition("?")
        params: dict[str, str | None] = {**STOCK, "PATH_INFO": path, "REQUEST_URI": self.uri, "QUERY_STRING": query}
        if self.body:
            params |= {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(self.body))}
        pairs = [(name, value) for name, value in (params | self.params).items() if value is not None]
        block = records.encode_params([*pairs, *self.more])
        size = self.record or 65_535
        stream = [records.encode_record(records.PARAMS, 1, block[at : at + size]) for at in range(0, len(block), size)]
        stdin = [*records.encode_stream(records.STDIN, 1, self.body), records.encode_record(records.STDIN, 1)]
        begin = records.encode_begin_request(1, self.role, 0)
        return b"".join([begin, *stream, records.encode_record(records.PARAMS, 1), *stdin])


_EXCEPTION = "flup6 writes the traceback, text, to a stream of bytes, which kills its worker; here it is logged"
_WRONG = "PEP 3333 forbids it: flup6's worker dies of it; here a line in the error log says what the application did"
_LENGTH = "flup6 announces the length of a list of one chunk, this engine that of any list"
_BROKEN = "PEP 3333 forbids it: one line in the log says what the application did"
_HTTPOXY = "a client chooses this header, and libraries take it for the variable (httpoxy)"
_DECODED = "the front-end has decoded the body: these headers say what it no longer is, and CGI has names of its own"
_MOUNT = "nginx's own fastcgi_params send just that for /shop: scriptName, or a binding, says that it is a mount"
_PATH = "the path is found, once, whatever the front-end has split"


def show(names: str, **params: str | None) -> dict[str, str | None]:
    """Parameters of a request whose answer shows variables."""
    return {"X_SHOW": names, **params}


CASES = (
    # methods
    Case("GET", "/echo"),
    Case("HEAD", "/echo", "no body on HEAD, whatever the application makes", params={"REQUEST_METHOD": "HEAD"}),
    Case(
        "HEAD, a generator", "/generator", "no body on HEAD, whatever the application makes",
        params={"REQUEST_METHOD": "HEAD"},
    ),
    Case("POST", "/echo", body=b"name=value"),
    Case("PUT", "/echo", body=b"stored", params={"REQUEST_METHOD": "PUT"}),
    Case("DELETE", "/echo", params={"REQUEST_METHOD": "DELETE"}),
    Case("a method of its own", "/echo", params={"REQUEST_METHOD": "BREW"}),
    # answers
    Case("a list of two chunks", "/chunks", _LENGTH),
    Case("an empty list", "/nothing", _LENGTH),
    Case("a generator", "/generator"),
    Case("write()", "/write"),
    Case("close()", "/closing"),
    Case("1 MB", "/large"),
    Case("wsgi.file_wrapper", "/wrapped", "flup6 has none", body=b"a file"),
    Case("404", "/status?line=404+Not+Found&body=gone"),
    Case("a status without a reason", "/status?line=200&body=x", "flup6 wants four characters, and dies of fewer"),
    Case("no status at all", "/status?line=OK+then&body=x", _WRONG),
    Case("204 with a body", "/status?line=204+No+Content&body=x", "no body on 204 and 304: RFC 9110 §6.4.1"),
    Case("304", "/status?line=304+Not+Modified", "no body on 204 and 304, so no length of one: RFC 9110 §6.4.1"),
    Case("a status of bytes", "/status_of_bytes", _BROKEN),
    Case("a header in latin-1", "/header?value=caf%C3%A9", "flup6 encodes headers as ASCII, and dies of others"),
    Case("a header that is not latin-1", "/header?value=%E2%82%AC", _WRONG),
    Case("a header with CR LF", "/header?value=a%0D%0AX-Injected:+b", "of this, nothing reaches the client"),
    Case(
        "headers in a list of the application's own", "/own_list",
        "flup6 adds Content-Length to that list, and a list that is used again announces the wrong length",
    ),
    # exceptions
    Case("raises before start_response", "/raising", _EXCEPTION),
    Case("raises in its first chunk; close()", "/closing_failure", _EXCEPTION),
    Case("raises after a chunk", "/raising_later", "both cut the answer; flup6's worker ends with it"),
    Case("sys.exit()", "/leaving", "a worker is not the application's to end"),
    Case("start_response with exc_info", "/replaced"),
    Case("start_response twice", "/twice", _WRONG),
    Case("no start_response", "/unstarted", _WRONG),
    Case("returns None", "/none", _WRONG),
    Case("a chunk of text", "/text", _WRONG),
    # the log
    Case("wsgi.errors", "/errors", "PEP 3333 says text, of which flup6's stream dies"),
    Case(
        "wsgi.errors, given bytes", "/errors_in_bytes",
        "flup6 takes them where its socket is fd 0; on an address of its own it writes them to sys.stderr, too",
    ),
    Case("print()", "/printing", "standard output is the error log's"),
    # what comes in
    Case("a header of 40 kB", "/show", params=show("HTTP_X", HTTP_X="x" * 40_000)),
    Case(
        "the same in records of 1,000 bytes", "/show", "flup6 decodes each record alone, and loses what crosses two",
        params=show("HTTP_X", HTTP_X="x" * 40_000), record=1_000,
    ),
    Case("300 headers", "/show", params={**show("HTTP_X7"), **{f"HTTP_X{n}": str(n) for n in range(300)}}),
    Case("an empty header", "/show", params=show("HTTP_X", HTTP_X="")),
    Case(
        "empty CONTENT_TYPE and CONTENT_LENGTH", "/show",
        "nginx sends them with every GET; libraries take an empty length for a body of no bytes",
        params=show("CONTENT_TYPE CONTENT_LENGTH", CONTENT_TYPE="", CONTENT_LENGTH=""),
    ),
    Case("HTTP_PROXY", "/show", _HTTPOXY, params=show("HTTP_PROXY", HTTP_PROXY="http://evil.example/")),
    Case(
        "HTTP_CONTENT_TYPE, HTTP_TRANSFER_ENCODING", "/show", _DECODED,
        params=show(
            "HTTP_CONTENT_TYPE HTTP_TRANSFER_ENCODING", HTTP_CONTENT_TYPE="a/b", HTTP_TRANSFER_ENCODING="chunked"
        ),
    ),
    Case(
        "a name twice, from the front-end's configuration", "/show",
        params=show("REMOTE_ADDR"), more=(("REMOTE_ADDR", "192.0.2.9"),),
    ),
    Case(
        "a header twice", "/show", "a list is joined, as RFC 9110 §5.3 says; flup6 keeps the last",
        params=show("HTTP_ACCEPT", HTTP_ACCEPT="a/b"), more=(("HTTP_ACCEPT", "c/d"),),
    ),
    Case(
        "a body of unknown length", "/echo", body=b"chunked",
        params={"CONTENT_LENGTH": None},
    ),
    Case("lines, and parts of them", "/lines", "flup6's readline(3) gives a whole line", body=b"one\ntwo\nthree\nfour"),
    Case("a body that is longer than its length", "/echo", "not read beyond it", body=b"too long",
         params={"CONTENT_LENGTH": "3"}),
    Case("a body that is cut short", "/counted", "a cut body is never taken for a complete one", body=b"short",
         params={"CONTENT_LENGTH": "100"}),
    Case("a length that is no number", "/echo", "answered before the application", body=b"x",
         params={"CONTENT_LENGTH": "1x"}),
    Case("NUL in a header", "/show", "answered before the application", params=show("HTTP_X", HTTP_X="a\0b")),
    Case("a host that is none", "/show", "answered before the application", params=show("HTTP_HOST", HTTP_HOST="a b")),
    # the environ
    Case("wsgi.* variables", "/show", "what is terminated may be read to its end; the rest is alike", params=show(
        "wsgi.version wsgi.url_scheme wsgi.multithread wsgi.multiprocess wsgi.run_once wsgi.input_terminated")),
    Case("environ= of the server", "/show", params=show("shop.name")),
    Case("HTTPS", "/show", params=show("wsgi.url_scheme", HTTPS="on")),
    Case("REQUEST_SCHEME", "/show", "nginx says it there", params=show("wsgi.url_scheme", REQUEST_SCHEME="https")),
    Case("missing variables", "/show", "defaults for both; flup6's complaint is bytes to a stream of text", params=show(
        "REQUEST_METHOD SERVER_NAME SERVER_PORT SERVER_PROTOCOL", REQUEST_METHOD=None, SERVER_NAME=None,
        SERVER_PORT=None, SERVER_PROTOCOL=None)),
    Case("an empty SERVER_NAME", "/show", "never empty, says PEP 3333", params=show("SERVER_NAME", SERVER_NAME="")),
    Case("no REQUEST_URI", "/show", "put together: web.py looks nowhere else",
         params=show("REQUEST_URI", REQUEST_URI=None)),
    Case("a path in UTF-8", "/show/caf%C3%A9", params=show("PATH_INFO", PATH_INFO="/show/cafÃ©")),
    Case("nginx's own fastcgi_params", "/show/caf%C3%A9", _PATH, params=show(
        "SCRIPT_NAME PATH_INFO", SCRIPT_NAME="/show/cafÃ©", PATH_INFO=None)),
    Case("mounted at /shop", "/shop/x", params=show("SCRIPT_NAME PATH_INFO", SCRIPT_NAME="/shop", PATH_INFO="/x")),
    Case("mounted at /shop, and that asked for", "/shop", _MOUNT, params=show(
        "SCRIPT_NAME PATH_INFO", SCRIPT_NAME="/shop", PATH_INFO="")),
    # FastCGI
    Case("an authorizer", "/show", "flup6's roles have responders alone", role=Role.AUTHORIZER),
    Case("FCGI_GET_VALUES", "", "flup6 looks a name of bytes up among text",
         raw=records.encode_record(records.GET_VALUES, 0, records.encode_params([("FCGI_MPXS_CONNS", "")]))),
)  # fmt: skip
