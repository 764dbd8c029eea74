"""Pyramid: `gateway serve hello:application --app-dir examples/pyramid`, then /hello."""

from pyramid.config import Configurator
from pyramid.response import Response


def hello(request):
    return Response("Hello from Pyramid\n", content_type="text/plain")


with Configurator() as config:
    config.add_route("hello", "/hello")
    config.add_view(hello, route_name="hello")
    application = config.make_wsgi_app()
