"""Django in one file: `gateway serve hello:application --app-dir examples/django` (ASGI: `hello:asgi`), then /hello."""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="only this example's")


def hello(request):
    return HttpResponse("Hello from Django\n", content_type="text/plain")


urlpatterns = [path("hello", hello)]

application = get_wsgi_application()
asgi = get_asgi_application()
