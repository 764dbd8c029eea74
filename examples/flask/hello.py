"""Flask: `gateway serve hello:app --app-dir examples/flask`, then /hello."""

from flask import Flask

app = Flask(__name__)


@app.route("/hello")
def hello():
    return "Hello from Flask\n", {"Content-Type": "text/plain"}
