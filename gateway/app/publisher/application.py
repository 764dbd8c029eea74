"""The publisher as a WSGI application: path → node → method → arguments → function → answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from gateway.app.publisher.answers import answer, plain_text
from gateway.app.publisher.binding import Request
from gateway.app.publisher.sources import Import, find
from gateway.app.publisher.tree import Node, Published, publish


class Publisher:
    """Answers with what modules publish (PEP 3333)."""

    def __init__(self, published: Published) -> None:
        self.published = published

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        try:
            chunks: Iterable[bytes] = self._answer(request)(environ, start_response)
        except BaseException:
            request.close()
            raise
        # The files of a form are closed when the answer is: it may be made of them.
        return ClosingIterator(chunks, request.close) if vars(request).get("files") else chunks

    def _answer(self, request: Request) -> Response | Any:
        """The answer; an HTTPException of the application's own is one, too. Raises whatever else a function does."""
        path = _path(request)
        node = _find(self.published.root, path)
        if node is None:
            return plain_text(f"There is nothing at {path}", 404)
        method = request.method
        call = node.answers.get("GET" if method == "HEAD" and "HEAD" not in node.answers else method)
        if call is None:
            return _without_call(node, method, path)
        try:
            run = call.bind(request)
        except HTTPException as error:
            return plain_text(str(error.description), error.code or 400)
        try:
            return answer(run(), request, call.name)
        except HTTPException as error:
            return error.get_response(request.environ)


def _path(request: Request) -> str:
    """The path as it was sent, with every slash (PEP 3333: UTF-8 shown as latin-1)."""
    text: str = request.environ.get("PATH_INFO", "")
    return text.encode("latin-1").decode("utf-8", "replace") or "/"


def _find(root: Node, path: str) -> Node | None:
    """What answers at a path: the names are looked up as they are, in the tree alone."""
    *names, last = path.removeprefix("/").split("/")
    node = root
    for name in [*names, last] if last else names:
        if name not in node.children:
            return None
        node = node.children[name]
    return node if node.answers and (last or node.is_place) else None


def _without_call(node: Node, method: str, path: str) -> Response:
    """The answer to OPTIONS (RFC 9110 §9.3.7), or that it is another method that is answered (§15.5.6)."""
    allowed = sorted({*node.answers, "OPTIONS", *(["HEAD"] if "GET" in node.answers else [])})
    if method == "OPTIONS":
        response = Response(status=204)
        del response.headers["Content-Type"]
    else:
        response = plain_text(f"{path} answers {', '.join(allowed)}, not {method}", 405)
    response.headers["Allow"] = ", ".join(allowed)
    return response


def load(texts: Sequence[str], import_module: Import) -> Publisher:
    """Publish the modules that `texts` name; `import_module` raises what it does. Raises Unpublishable."""
    return Publisher(publish(find(texts, import_module)))
