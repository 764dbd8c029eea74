#!/usr/bin/env python3
import web

urls = ("/hello", "hello", "/(.*)", "index")
app = web.application(urls, globals(), True)


class hello:
    def GET(self):
        return "Hello from web.py\n"


class index:
    def GET(self, name):
        return "Hello, " + (name or "world") + "!\n"


if __name__ == "__main__":
    app.run()
