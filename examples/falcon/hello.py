"""Falcon: `gateway up hello:app --app-dir examples/falcon` (docs/examples/falcon.md)."""

import hashlib
from pathlib import Path

import falcon

app = falcon.App()


class Index:
    def on_get(self, request, response):
        response.content_type = falcon.MEDIA_HTML
        response.text = Path(__file__).parent.with_name("page.html").read_text()


class Hello:
    def on_get(self, request, response):
        response.content_type = falcon.MEDIA_TEXT
        response.text = "Hello from Falcon\n"


class Form:
    def on_post(self, request, response):
        response.content_type = falcon.MEDIA_TEXT
        response.text = f"Hello, {request.get_media()['name']}\n"


class Upload:
    def on_post(self, request, response):
        """Digest the file as it comes: Falcon keeps no copy of it."""
        for part in request.get_media():
            if part.name == "file":
                size, digest = 0, hashlib.sha256()
                while piece := part.stream.read(65_536):
                    size += len(piece)
                    digest.update(piece)
                response.media = {"name": part.filename, "size": size, "sha256": digest.hexdigest()}


class Download:
    def on_get(self, request, response):
        response.content_type = "text/csv"
        response.downloadable_as = "squares.csv"
        response.stream = (f"{number},{number**2}\n".encode() for number in range(5_000))


class Old:
    def on_get(self, request, response):
        raise falcon.HTTPFound(request.prefix + "/hello")


class Visits:
    def on_get(self, request, response):
        count = int(request.cookies.get("visits", 0)) + 1
        response.set_cookie("visits", str(count), path="/", secure=False)  # this example has no TLS
        response.content_type = falcon.MEDIA_TEXT
        response.text = f"{count}\n"


app.add_route("/", Index())
app.add_route("/hello", Hello())
app.add_route("/form", Form())
app.add_route("/upload", Upload())
app.add_route("/download", Download())
app.add_route("/old", Old())
app.add_route("/visits", Visits())

if __name__ == "__main__":
    import gateway

    gateway.run(app)
