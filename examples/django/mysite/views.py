"""The pages of the example."""

import hashlib

from django.conf import settings
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

TEXT = "text/plain; charset=utf-8"


def index(request):
    return HttpResponse((settings.BASE_DIR.parent / "page.html").read_text())


def hello(request):
    return HttpResponse("Hello from Django\n", TEXT)


@csrf_exempt  # page.html is the same for every framework, and has no token; the admin's forms have
@require_POST
def form(request):
    return HttpResponse(f"Hello, {request.POST['name']}\n", TEXT)


@csrf_exempt
@require_POST
def upload(request):
    file = request.FILES["file"]
    digest = hashlib.sha256()
    for piece in file.chunks():
        digest.update(piece)
    return JsonResponse({"name": file.name, "size": file.size, "sha256": digest.hexdigest()})


def download(request):
    rows = (f"{number},{number**2}\n" for number in range(5_000))
    disposition = {"Content-Disposition": "attachment; filename=squares.csv"}
    return StreamingHttpResponse(rows, content_type="text/csv", headers=disposition)


def old(request):
    return redirect("hello")


def visits(request):
    """Count in the session, which is in the database and known by its cookie."""
    request.session["visits"] = count = request.session.get("visits", 0) + 1
    return HttpResponse(f"{count}\n", TEXT)
