"""The project as a start script: `gateway run examples/django/run.py`, by hand, under lighttpd's bin-path or as CGI."""

from mysite.wsgi import application

import gateway

gateway.run(application)
