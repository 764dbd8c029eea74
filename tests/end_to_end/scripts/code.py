#!/usr/bin/env python3
# In the manner of web.py's "FastCGI with lighttpd": https://webpy.org/cookbook/fastcgi-lighttpd
import web

urls = ("/", "index", "/raise", "failing", "/caf(.*)", "named", "/form", "form")
app = web.application(urls, globals(), True)


class index:
    def GET(self):
        return "Hello, world!\n"


class failing:
    def GET(self):
        raise ValueError("on purpose")


class named:
    def GET(self, rest):
        return repr((rest, web.ctx.path, web.ctx.homepath, web.ctx.environ["wsgi.multithread"]))


class form:
    def POST(self):
        return web.input(name="nobody").name


if __name__ == "__main__":
    app.run()
