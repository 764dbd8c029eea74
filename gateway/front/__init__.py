"""Front-ends: their configurations, rendered from one source, and what serves without one of them installed.

`share` finds the bundled files, `render` fills the configurations of nginx and lighttpd, `embedded` is a front-end in
Python, `up` starts a pool and a front-end together, `development` runs an application with debugger and reloader. May
import `net`, `app`, `protocol`, `settings`, `config` and `log`; starts programs, but never forks or signals workers.
"""
