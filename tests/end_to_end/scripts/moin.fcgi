#!/usr/bin/env python3
# In the manner of MoinMoin 1.9's moin.fcgi and MoinMoin.web.flup_frontend: the kind of server is chosen by an argument,
# its class found by the module's name, subclassed with flup's own signature, and given a page for errors.
import sys

try:
    import flup.server.fcgi

    have_flup = bool(flup.server.fcgi)
    try:
        import flup.server.fcgi_single

        have_single = bool(flup.server.fcgi_single)
    except ImportError:
        have_single = False
except ImportError:
    have_flup = have_single = False

from flup.server.fcgi_base import FCGI_RESPONDER

PAGES = {"/": "FrontPage", "/raise": None}
SERVERS = {"threaded": "flup.server.fcgi", "forking": "flup.server.fcgi_fork"}
if have_single:
    SERVERS["single"] = "flup.server.fcgi_single"


def wiki(environ, start_response):
    if environ["PATH_INFO"] == "/raise":
        raise LookupError("no such page, on purpose")
    title = PAGES.get(environ["PATH_INFO"], environ["PATH_INFO"].lstrip("/"))
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [f"<title>{title} - {environ['moin.farm']}</title>{environ['SCRIPT_NAME']}\n".encode()]


fix_script_name = ""


def script_name_fixer(environ, start_response):
    environ["SCRIPT_NAME"] = fix_script_name
    return wiki(environ, start_response)


def run(kind, **options):
    module = __import__(SERVERS[kind], globals(), locals(), ["WSGIServer"])
    wrapped = module.WSGIServer

    class WSGIServer(wrapped):
        def __init__(
            self, application, environ=None, multithreaded=True, multiprocess=False, bindAddress=None, umask=None,
            multiplexed=False, debug="off", roles=(FCGI_RESPONDER,),
        ):  # fmt: skip
            wrapped.__init__(
                self, application, environ=environ, multithreaded=multithreaded, multiprocess=multiprocess,
                bindAddress=bindAddress, umask=umask, multiplexed=multiplexed, debug=debug, roles=roles,
            )  # fmt: skip

        def error(self, req):
            if self.debug == "external":
                raise
            req.stdout.write("Content-Type: text/html\r\n\r\n<h1>Unhandled Exception</h1>" + str(sys.exc_info()[1]))

    return WSGIServer(script_name_fixer, environ={"moin.farm": "farm"}, **options).run()


assert have_flup
arguments = sys.argv[1:]
kind = arguments.pop(0) if arguments else "single"
print("run() returned", run(kind, **({"bindAddress": arguments[0]} if arguments else {})), file=sys.stderr)
