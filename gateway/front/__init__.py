"""Front-ends: their configurations, rendered from one source, and what serves without one of them installed.

`share` finds the bundled files; `sites` is what every front-end has to be told, `writing` and a module for each
(`nginx`, `lighttpd`, `haproxy`, `apache`, `caddy`) are how it is written there, `render` fills the templates, `units`
those of systemd. `embedded` is a front-end in Python, `up` starts a pool and a front-end together, `development` runs
applications with debugger and reloader, `bound` dispatches for it. May import `net`, `app`, `protocol`, `settings`,
`config` and `log`; starts programs, but never forks or signals workers.
"""
