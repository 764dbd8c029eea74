"""httpbin from PyPI, unchanged, behind nginx: its own test suite, as its sdist has it, run over HTTP.

The suite talks to werkzeug's test client, which stays; only the application that the client calls is replaced, by one
that sends each request to nginx. What is different for that reason is in `adapted` and `WITHOUT_HTTP`.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tarfile
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import flask
import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Request

from tests.end_to_end.running import Settings, Site, short_place, site

VERSION = importlib.metadata.version("httpbin")
# They pass here as well, but ask no server: a function is called, sources are compiled, a fresh interpreter is asked.
WITHOUT_HTTP = {
    "test_bytes_endpoint_yields_bytes",
    "test_index_falls_back_to_static_page_without_flasgger",
    "test_parse_multi_value_header",
    "test_sources_have_no_invalid_escape_sequences",
}


@dataclass
class OverHttp:
    """A WSGI application that sends every request to a port of 127.0.0.1, and counts them."""

    port: int
    requests: int = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        self.requests += 1
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            self._send(connection, Request(environ))
            response = connection.getresponse()
            start_response(f"{response.status} {response.reason}", response.getheaders())
            return [response.read()]
        finally:
            connection.close()

    @staticmethod
    def _send(connection: http.client.HTTPConnection, request: Request) -> None:
        chunked = request.headers.get("Transfer-Encoding") == "chunked"
        body = request.environ["wsgi.input"].read()
        connection.putrequest(request.method, request.environ["REQUEST_URI"], skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers:
            if name and not (chunked and name == "Content-Length"):  # a header without a name cannot be sent
                connection.putheader(name, value)
        connection.endheaders([body] if chunked else body, encode_chunked=chunked)


def adapted(suite: Any, port: int) -> type[unittest.TestCase]:
    """The suite's tests, with requests that leave this process."""

    class Tests(suite.HttpbinTestCase):  # type: ignore[misc]
        def setUp(self) -> None:
            self.sent = OverHttp(port)
            self.app = Client(self.sent, flask.Response)

        def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
            outcome: unittest.TestResult | None = super().run(result)
            assert (self.sent.requests == 0) == (self._testMethodName in WITHOUT_HTTP), self._testMethodName
            return outcome

        def test_post_chunked(self) -> None:
            """httpbin's own expects 501, of "Flask-only"; here chunks arrive, as what it has in comments expects."""
            chunks = [("Transfer-Encoding", "chunked")]
            response = self.app.post("/post", content_type="application/json", headers=chunks, data='{"animal":"dog"}')
            assert response.status_code == 200
            assert json.loads(response.data.decode("utf-8"))["data"] == '{"animal":"dog"}'
            assert json.loads(response.data.decode("utf-8"))["json"] == {"animal": "dog"}

        def test_methods__to_status_endpoint(self) -> None:
            """httpbin's own asks with TRACE, too, which nginx answers itself, by 405, whatever is configured."""
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"]:
                assert self.app.open("/status/418", method=method).status_code == 418
            assert self.app.open("/status/418", method="TRACE").status_code == 405

    return Tests


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module of httpbin's tests, which are in the sdist alone."""
    place = tmp_path_factory.mktemp("sdist")
    download = ["download", "-q", "--no-deps", "--no-build-isolation", "--no-binary", "httpbin", f"httpbin=={VERSION}"]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *download, "-d", place]
    subprocess.run(command, check=True, stderr=subprocess.PIPE, timeout=100)
    (path,) = place.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(place, filter="data")
    (file,) = place.glob("*/tests/test_httpbin.py")
    spec = importlib.util.spec_from_file_location("httpbin_suite", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def behind_nginx(suite: Any) -> Iterator[Site]:
    with short_place() as place, site("nginx", Settings(place, {}, [{"name": "bin", "app": "httpbin:app"}])) as running:
        yield running


def outcome(test: unittest.TestCase) -> str:
    """What is wrong, or nothing."""
    result = unittest.TestResult()
    test.run(result)
    return "\n".join(text for _, text in [*result.failures, *result.errors, *result.skipped])


def test_its_own_suite(suite: Any, behind_nginx: Site) -> None:
    tests = unittest.defaultTestLoader.loadTestsFromTestCase(adapted(suite, behind_nginx.port))
    assert tests.countTestCases() >= 70
    with ThreadPoolExecutor(4) as threads:  # some of httpbin's pages take their time
        failures = [text for text in threads.map(outcome, tests) if text]
    assert failures == []
    assert "Traceback" not in behind_nginx.master.said
