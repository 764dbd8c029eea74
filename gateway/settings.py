"""Every setting, declared once: name, type, default and text. Plain frozen records on the standard library alone,
because a worker reads its part of them too; `config.py` reads files and flags into them.
"""

from __future__ import annotations

import enum
import itertools
import json
from collections.abc import Iterable
from typing import Any

from gateway.record import Record, as_dict, field, fields


def setting(default: Any, text: str, **more: Any) -> Any:
    """Declare a setting with its default and its text for `--help` and the reference.

    `more`: `at_least` and `at_most` (numbers), `unit` ("seconds", "bytes"), `choices` (strings), `address` (True: the
    value is one that `net.address` reads), `rlimit` (True: a resource limit, -1 where it is "unlimited").
    """
    return field(default=default, text=text, **more)


def table(factory: Any, text: str, **more: Any) -> Any:
    """Declare a setting whose default is a new empty table; `more` as for `setting`."""
    return field(factory=factory, text=text, **more)


class ProcessManager(enum.Enum):
    """How a pool decides on its number of workers (PHP-FPM's `pm`)."""

    STATIC = "static"
    DYNAMIC = "dynamic"
    ONDEMAND = "ondemand"


class Binding(Record):
    """Where an application answers: a host name, a port and a path prefix."""

    hostname: str = setting("*", 'a host name, "*.example.com" for those below one, or "*" for any')
    port: int | str = setting("*", 'the port of the request, or "*" for any')
    path: str = setting("", "the path prefix that becomes SCRIPT_NAME")


class Application(Record):
    """One application: where its code is, where it answers, and what it is given."""

    name: str = setting("", "the name used in messages")
    pool: str = setting("main", "the pool whose workers run it")
    app: str = setting("", "MODULE:CALLABLE, MODULE:FACTORY() or MODULE:APP with a web.application")
    moduleName: str = setting("", "the module of `className`")
    className: str = setting("", "a class, instantiated with settings=… to give the application")
    script: str = setting(
        "", "a start script: it ends in gateway.run(application), or calls a server of flup's or web.py's"
    )
    publisher: tuple[str, ...] = setting(
        (), "modules, Python files or a directory of them, whose public names answer at URLs: shop.cart at /cart"
    )
    interface: str = setting(
        "auto", "how it is called; auto: ASGI where it is a coroutine function", choices=("auto", "wsgi", "asgi")
    )
    bindings: tuple[Binding, ...] = setting((), "the hosts, ports and paths that it answers")
    settings: dict[str, Any] = table(dict, "handed to `className` as settings=…")


class Pool(Record):
    """One pool of workers: a user, listeners, limits."""

    listen: tuple[str, ...] = setting(
        (), "addresses to listen on: /path.sock, 127.0.0.1:9000, [::1]:9000, fd:0, systemd, systemd:NAME", address=True
    )
    listen_mode: str = setting("0660", "permissions of a Unix socket, octal")
    listen_owner: str = setting("", "user who owns a Unix socket; default: the pool's user")
    listen_group: str = setting("", "group of a Unix socket; default: the pool's group")
    listen_backlog: int = setting(511, "length of the kernel's listen queue", at_least=1)
    listen_allowed_clients: tuple[str, ...] = setting((), "IP addresses that may connect over TCP")
    protocol: str = setting("fastcgi", "what the front-end speaks", choices=("fastcgi", "scgi"))
    user: str = setting("", "user that the zygote and the workers run as")
    group: str = setting("", "group that they run as; default: the user's own")
    python: str = setting("", "interpreter for the pool; default: the one that runs gateway")
    pm: ProcessManager = setting(ProcessManager.STATIC, "how the number of workers is decided")
    max_children: int = setting(4, "number of workers: static, or at most", at_least=1)
    threads: int = setting(
        1,
        "threads of a worker, each of which runs a request at a time; for applications that are thread-safe",
        at_least=1,
    )
    max_concurrency: int = setting(
        1000, "ASGI: requests that a worker runs at once; what comes beyond waits in the listen queue", at_least=1
    )
    start_servers: int = setting(0, "dynamic: workers at the start; default: between the spare ones", at_least=0)
    min_spare_servers: int = setting(1, "dynamic: idle workers that there should at least be", at_least=0)
    max_spare_servers: int = setting(3, "dynamic: idle workers that there may at most be", at_least=1)
    process_idle_timeout: float = setting(
        10.0, "dynamic, ondemand: how long a worker that is not needed may be idle", unit="seconds", at_least=0.1
    )
    max_requests: int = setting(0, "requests after which a worker is replaced; 0 for no limit", at_least=0)
    max_requests_jitter: int = setting(0, "at most so many more, at random for each worker", at_least=0)
    max_memory: int = setting(
        0, "resident memory over which a worker is replaced; 0 for no limit", unit="bytes", at_least=0
    )
    max_lifetime: float = setting(0.0, "age at which a worker is replaced; 0 for no limit", unit="seconds", at_least=0)
    recycling_at_once: int = setting(1, "workers that are being replaced for such a limit at the same time", at_least=1)
    start_timeout: float = setting(
        60.0, "time to import the applications and answer the probe", unit="seconds", at_least=0.1
    )
    process_control_timeout: float = setting(
        30.0, "how long a running request may go on when its worker is told to leave", unit="seconds", at_least=0.1
    )
    on_worker_start: str = setting(
        "", "MODULE:CALLABLE that each worker calls, in its main thread, before it serves: the place to connect"
    )
    authorizer: str = setting(
        "",
        "MODULE:CALLABLE that says whether the front-end may answer a request by other means: its 200 lets one through "
        '(FastCGI\'s Authorizer role; lighttpd: `mode = "authorizer"`); default: whatever is bound to the URL',
    )
    preload: bool = setting(
        True, "import the applications once and fork the workers from that; otherwise each worker imports them"
    )
    app_dir: str = setting("", "first on sys.path, and the working directory; default: where gateway was started")
    chdir: str = setting("", "working directory where it is not app_dir, to which it is relative")
    touch_reload: tuple[str, ...] = setting(
        (), "files, looked at each second, of which one that is touched or appears reloads the pool"
    )
    reload_on_change: bool = setting(
        False,
        "for development: reload when a module that was imported changes, or another Python file below app_dir; "
        "and, whatever pools it changes, when the settings do",
    )
    request_head_timeout: float = setting(
        5.0, "time for the whole head of a request to arrive", unit="seconds", at_least=0.1
    )
    request_body_timeout: float = setting(60.0, "longest pause in a request's body", unit="seconds", at_least=0.1)
    response_timeout: float = setting(
        30.0, "longest pause of a front-end that takes no more of an answer", unit="seconds", at_least=0.1
    )
    request_slowlog_timeout: float = setting(
        0.0, "running time after which a request and its stacks are noted in `slowlog`; 0 for never",
        unit="seconds", at_least=0,
    )  # fmt: skip
    queue_timeout: float = setting(
        0.0, "waiting time after which a request is answered 503 and not run; 0 for never", unit="seconds", at_least=0
    )
    slowlog: str = setting("", "file of the slow log; default: the error log")
    request_terminate_timeout: float = setting(
        0.0, "running time after which a request is ended and its client gets 504; 0 for never",
        unit="seconds", at_least=0,
    )  # fmt: skip
    keepalive_timeout: float = setting(75.0, "how long a kept connection may be idle", unit="seconds", at_least=0.1)
    max_body: int = setting(
        104_857_600, 'largest request body; 0 for no limit; "100M" may be written', unit="bytes", at_least=0
    )
    x_accel: dict[str, str] = table(
        dict,
        "folders whose files nginx sends for wsgi.file_wrapper, each with the internal location of it there: "
        '{ "/srv/shop/files" = "/files" }',
    )
    x_sendfile: tuple[str, ...] = setting(
        (), "the same for lighttpd and Apache (X-Sendfile): folders whose files they may send"
    )
    port_from: str = setting("server", "what the port of a binding is compared with", choices=("server", "host"))
    unknown_host: int = setting(503, "status for a host that nothing is bound to", choices=(503, 421))
    clear_env: bool | None = setting(None, "drop the environment of gateway; default: true where `user` changes")
    access_log: str = setting("", "file of the access log, or stderr; none by default")
    access_format: str = setting(
        '%R - %u %t "%m %r" %s', "its lines, in PHP-FPM's atoms; json for a JSON object in each line"
    )
    access_suppress_path: tuple[str, ...] = setting(
        (), "paths whose GET and HEAD, answered 2xx, without query and body, are not logged"
    )
    env: dict[str, str] = table(dict, "environment variables to set")
    no_new_privileges: bool = setting(True, "PR_SET_NO_NEW_PRIVS; off where the application runs set-user-ID programs")
    umask: str = setting("", "permissions that new files are not given, octal, as in 0027; default: gateway's own")
    process_priority: int | None = setting(
        None, "niceness, from -20 (first) to 19 (last); default: gateway's own", at_least=-20, at_most=19
    )
    process_scheduling: str = setting(
        "batch",
        "policy of the scheduler (sched(7)); batch: a request that comes does not interrupt what runs, first of all "
        "the front-end that is sending it; inherit: gateway's own",
        choices=("batch", "inherit"),
    )
    process_dumpable: bool = setting(
        True, "let the user's other processes look into these (PR_SET_DUMPABLE), and core files be written"
    )
    rlimit_files: int | None = setting(
        None, "files that each process may have open (RLIMIT_NOFILE); default: gateway's own", rlimit=True
    )
    rlimit_core: int | None = setting(
        None, "largest core file, in bytes (RLIMIT_CORE); default: gateway's own", rlimit=True
    )
    rlimits: dict[str, int] = table(
        dict,
        'other limits of each process, named as in getrlimit(2): { as = "2G", nproc = 200 }',
        rlimit=True,
    )

    @property
    def first_servers(self) -> int:
        """How many workers it starts with; PHP-FPM's default for `start_servers`."""
        if self.pm is not ProcessManager.DYNAMIC:
            return self.max_children if self.pm is ProcessManager.STATIC else 0
        return min(self.start_servers or (self.min_spare_servers + self.max_spare_servers) // 2, self.max_children)


class Gateway(Record):
    """What concerns the master alone."""

    control: str = setting(
        "", "Unix socket for gateway status, reload and stop; default: beside the first listen socket"
    )
    pid_file: str = setting("", "file that holds the master's process ID")
    error_log: str = setting("stderr", "file of the error log, or stderr")
    error_log_format: str = setting("text", "lines of text, or a JSON object in each line", choices=("text", "json"))
    process_max: int = setting(0, "workers that all pools together may want; 0 for no limit", at_least=0)
    status_listen: str = setting(
        "", "address where the console answers /status, /ping and /metrics over FastCGI; none by default"
    )
    status_listen_mode: str = setting("0660", "permissions of its Unix socket, octal")
    status_listen_allowed_clients: tuple[str, ...] = setting((), "IP addresses that may connect to it over TCP")
    status_user: str = setting("", "user that the console runs as, started by root; default: the first pool's")
    drain_delay: float = setting(
        0.0, "graceful stop: how long to go on serving after front-ends can know of it", unit="seconds", at_least=0
    )


class Settings(Record):
    """A whole settings file."""

    gateway: Gateway = table(Gateway, "the master")
    pools: dict[str, Pool] = table(dict, "pools by name")
    applications: tuple[Application, ...] = setting((), "applications")
    source: str = ""  # the file they came from, for messages; "" for flags alone
    included: tuple[str, ...] = ()  # patterns of the files that it includes
    files: dict[str, str] = field(factory=dict)  # the included file of each pool that is from one

    def named(self, pool: str, message: object) -> str:
        """A message about a pool, with its name and the file that declares it."""
        file = self.files.get(pool, self.source)
        return f"{file}: pools.{pool}: {message}" if file else str(message)

    def of_pool(self, name: str) -> tuple[Application, ...]:
        """The applications that the pool `name` runs, in the file's order."""
        return tuple(a for a in self.applications if a.pool == name)


class ConfigError(Exception):
    """The operator's mistake: `str()` is one message that names the place and the remedy (exit 100)."""


def to_json(value: Any) -> Any:
    """Turn settings into what `json` can write; `settings_from_json` and those for their parts read it back."""
    if isinstance(value, Application):
        return {**{name: to_json(item) for name, item in as_dict(value).items()}, "bindings": _grouped(value.bindings)}
    if isinstance(value, Record):
        return {name: to_json(item) for name, item in as_dict(value).items()}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value.value if isinstance(value, enum.Enum) else value


def _grouped(bindings: Iterable[Binding]) -> list[tuple[list[str], int | str, str]]:
    """Hosts in a row that have a port and a path in common, of which there may be ten thousand."""
    groups = itertools.groupby(bindings, lambda binding: (binding.port, binding.path))
    return [([binding.hostname for binding in alike], port, path) for (port, path), alike in groups]


def settings_from_json(data: dict[str, Any]) -> Settings:
    """Read settings that `to_json` wrote."""
    pools = {name: pool_from_json(pool) for name, pool in data["pools"].items()}
    applications = tuple(map(application_from_json, data["applications"]))
    gateway = Gateway(**_values(Gateway, data["gateway"]))
    return Settings(**{**_values(Settings, data), "gateway": gateway, "pools": pools, "applications": applications})


def pool_from_json(data: dict[str, Any]) -> Pool:
    """Read a pool that `to_json` wrote."""
    return Pool(**{**_values(Pool, data), "pm": ProcessManager(data["pm"])})


def application_from_json(data: dict[str, Any]) -> Application:
    """Read an application that `to_json` wrote."""
    groups = data["bindings"]
    bindings = tuple(Binding(hostname=host, port=port, path=path) for hosts, port, path in groups for host in hosts)
    return Application(**{**_values(Application, data), "bindings": bindings})


def _values(kind: type[Record], data: dict[str, Any]) -> dict[str, Any]:
    """What there is of the fields of `kind`; a later version, from which one goes back to this, may have more."""
    known = {each.name: data[each.name] for each in fields(kind) if each.name in data}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}


class Work(Record):
    """What the workers of a pool run. The master, which may be root, passes it on as the texts that it is."""

    applications: str = "[]"  # JSON, as `to_json` gives it
    elsewhere: str = "{}"  # JSON: hosts of other pools, by what these are called
    count: int = 0  # of applications
    hosts: tuple[str, ...] = ("",)  # that the scoreboard counts apart, as their bindings are written

    def read_applications(self) -> tuple[Application, ...]:
        """What `applications` says."""
        return tuple(map(application_from_json, json.loads(self.applications)))


class Brief(Record):
    """Settings as the master has them: without applications, of which it has the `works` of each pool."""

    settings: Settings
    works: dict[str, Work] = field(factory=dict)

    def work(self, pool: str) -> Work:
        """What the workers of a pool run."""
        return self.works.get(pool, Work())


def brief_from_json(data: dict[str, Any]) -> Brief:
    """Read a brief that `to_json` wrote."""
    works = {name: work_from_json(work) for name, work in data["works"].items()}
    return Brief(settings=settings_from_json(data["settings"]), works=works)


def work_from_json(data: dict[str, Any]) -> Work:
    """Read the work of a pool that `to_json` wrote."""
    return Work(**_values(Work, data))
