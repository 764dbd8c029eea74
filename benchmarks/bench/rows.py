"""The rows: which contenders, what is measured of each in its turn, and how often they take turns."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.bench import bulk, generator, meters, wrk
from benchmarks.bench.peers import Flup, Gateway, Gunicorn, LibFcgi, PhpFpm, Uvicorn, Uwsgi, UwsgiAsBatch, UwsgiOfItsOwn
from benchmarks.bench.stage import Contender, Stage, answers

WORKERS = 4
MANY_HEADERS = {f"X-Header-{number}": f"value {number} of sixty" for number in range(60)} | {
    "Cookie": "c=" + "x" * 8192
}

Sample = dict[str, float]  # by the metric's key
Measure = Callable[[Stage, Contender], Sample]


@dataclass(frozen=True)
class Metric:
    """One number of a sample."""

    key: str
    title: str  # at most 9 characters
    unit: str  # at most 9 characters
    digits: int = 0


CPU = Metric("cpu", "CPU", "µs/req", 1)
RATE = Metric("rate", "rate", "req/s")


@dataclass(frozen=True)
class Row:
    """A case in which contenders are compared; the first of `ours` are the ones that ratios are of."""

    name: str
    title: str
    contenders: Sequence[Contender]
    ours: Sequence[str]
    measure: Measure
    metrics: Sequence[Metric] = (CPU, RATE)
    front: str = "nginx"
    repeats: int = 3  # turns of each contender
    alone: bool = False  # each contender is started for its turn, and ended after it
    differences: bool = False  # compare by subtracting instead of dividing


class WrongAnswers(Exception):
    """A contender failed under the load, so its figures would mean nothing."""


# -- what is measured -------------------------------------------------------------------------------------------------


def hello(stage: Stage, contender: Contender) -> wrk.Served:
    """Put wrk's load on a contender. Raises WrongAnswers."""
    served = wrk.load(
        stage.port(contender),
        connections=contender.connections,
        seconds=stage.scale.seconds,
        headers=contender.headers,
    )
    if served.errors:
        raise WrongAnswers(f"{contender.name}: {served.errors} of {served.requests} requests failed")
    return served


def cost(stage: Stage, contender: Contender) -> Sample:
    """CPU time of the backend for each request, and requests a second."""
    pids = stage.processes(contender)
    before = meters.cpu_nanoseconds(pids)
    served = hello(stage, contender)
    used = meters.cpu_nanoseconds(pids) - before
    return {"cpu": used / served.requests / 1000, "rate": served.rate}


def cost_and_memory(stage: Stage, contender: Contender) -> Sample:
    """The same, and what the largest process that has the application, and the master, have in memory."""
    sample = cost(stage, contender)
    master, *others = map(meters.resident, stage.processes(contender))
    return sample | {"memory": max(others), "master": master}


def waits(load: generator.Load) -> Measure:
    """How long quick requests take while others are slow, and how many of either fail."""

    def measure(stage: Stage, contender: Contender) -> Sample:
        outcome = generator.drive(stage.port(contender), load)
        quick = sorted(outcome.quick)
        return {
            "p99": quick[int(len(quick) * 0.99)] * 1000,
            "median": statistics.median(quick) * 1000,
            "errors": outcome.errors,
        }

    return measure


def beside_busy_loops(measure: Measure) -> Measure:
    """The same while each processor has a busy loop to run as well."""

    def measure_beside(stage: Stage, contender: Contender) -> Sample:
        with contextlib.ExitStack() as ended:
            for _ in os.sched_getaffinity(0):
                loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
                ended.callback(loop.wait)
                ended.callback(loop.kill)
            return measure(stage, contender)

    return measure_beside


def transfer(send: Callable[[int, int], float]) -> Measure:
    """Speed with a large body, the growth of a worker's peak, and how the time grows from a quarter of the size."""

    def measure(stage: Stage, contender: Contender) -> Sample:
        port, size = stage.port(contender), stage.scale.mebibytes
        quarter = send(port, size // 4)
        pids = stage.processes(contender)
        before = {pid: meters.resident(pid) for pid in pids}
        for pid in pids:
            meters.forget_peak(pid)
        whole = send(port, size)
        grown = max(meters.peak(pid) - before[pid] for pid in pids)
        return {"speed": size / whole, "grown": grown, "linear": whole / quarter / 4}

    return measure


def download(path: str) -> Callable[[int, int], float]:
    """Fetch from `path`."""
    return lambda port, mebibytes: bulk.download(port, path, mebibytes)


def memory(stage: Stage, contender: Contender) -> Sample:
    """PSS of all processes, after each worker has had requests."""
    stage.start(contender)
    stage.wait(contender)
    hello(stage, contender)
    return {"memory": meters.shared_out(stage.processes(contender))}


def start(stage: Stage, contender: Contender) -> Sample:
    """From the command to the first answer."""
    begun = time.perf_counter()
    stage.start(contender).wait_for(lambda: answers(stage.port(contender)))
    return {"time": (time.perf_counter() - begun) * 1000}


# -- the contenders ---------------------------------------------------------------------------------------------------

GATEWAY, KEPT = "gateway", "gateway, kept"
_gateway = Gateway()


def gateway(name: str = GATEWAY, *, keep: int = 0, connections: int = 4, **options: Any) -> Contender:
    """The gateway under a name of the row's."""
    return Contender(name, _gateway, keep, connections, options)


def with_peers(**options: Any) -> list[Contender]:
    """Everyone with a connection for each request, and with kept ones whoever can."""
    peers = (Uwsgi(), UwsgiOfItsOwn(), Gunicorn(), Flup(), PhpFpm(), LibFcgi())
    closed = [Contender(peer.name, peer, options=options) for peer in peers]
    kept = [Contender(f"{peer.name}, kept", peer, WORKERS, options=options) for peer in peers[-2:]]
    return [gateway(**options), gateway(KEPT, keep=WORKERS, **options), *closed, *kept]


def closing() -> list[Contender]:
    """Everyone with a connection for each request."""
    return [contender for contender in with_peers() if not contender.keep]


def logging() -> list[Contender]:
    """Those that run Python, each with an access log."""
    loggers = (Gateway.name, Uwsgi.name, UwsgiOfItsOwn.name, Gunicorn.name)
    return [contender for contender in with_peers(access_log=True) if contender.peer.name in loggers]


def pure() -> list[Contender]:
    """The gateway without its C twin, beside uWSGI."""
    pool = {"env": {"GATEWAY_PURE": "1"}}
    return [gateway(pool=pool), gateway(KEPT, keep=WORKERS, pool=pool), Contender(Uwsgi.name, Uwsgi())]


def with_headers() -> list[Contender]:
    """Requests with many headers and, beside them, the same servers with hello."""
    chosen = (Gateway.name, Uwsgi.name)
    plain = [contender for contender in with_peers() if contender.peer.name in chosen]
    named = [replace(contender, name=f"{contender.name}: hello") for contender in plain]
    return [*(replace(contender, headers=MANY_HEADERS) for contender in plain), *named]


def asynchronous() -> list[Contender]:
    """One worker each, which runs ASGI in uvloop; 16 clients."""
    options: dict[str, Any] = {"application": "hello_asgi", "workers": 1}
    peer = Uvicorn()
    return [
        gateway(KEPT, keep=16, connections=16, **options),
        gateway(connections=16, **options),
        Contender("uvicorn, kept", peer, 16, 16, options),
        Contender("uvicorn", peer, 0, 16, options),
    ]


def crowd(connections: int) -> list[Contender]:
    """Kept and closed."""
    return [gateway(KEPT, keep=connections, connections=connections), gateway(connections=connections)]


def slow() -> list[Contender]:
    """Kept and closed, with 16 workers."""
    return [gateway(KEPT, keep=64, workers=16, application="slow"), gateway(workers=16, application="slow")]


def scheduled() -> list[Contender]:
    """Workers scheduled as `process_scheduling` says, and uWSGI's as each."""
    pool = {"process_scheduling": "inherit"}
    return [
        gateway(),
        gateway(KEPT, keep=WORKERS),
        gateway("inherit", pool=pool),
        gateway("inherit, kept", keep=WORKERS, pool=pool),
        *(Contender(peer.name, peer) for peer in (UwsgiOfItsOwn(), UwsgiAsBatch())),
    ]


def transferring() -> list[Contender]:
    """Who passes large bodies."""
    options: dict[str, Any] = {"application": "transfer"}
    return [gateway(**options), *(Contender(peer.name, peer, options=options) for peer in (Uwsgi(), UwsgiOfItsOwn()))]


def bound() -> list[Contender]:
    """The last of many bindings, and the only one."""
    ours = [gateway("10,000 bindings", bindings=9_999), gateway("1 binding")]
    return [replace(contender, headers={"Host": "host9998.example"}) for contender in ours]


def with_flask() -> list[Contender]:
    """Eight workers with Flask."""
    options: dict[str, Any] = {"application": "flask_hello", "workers": 8}
    return [
        gateway(connections=32, **options),
        *(Contender(peer.name, peer, connections=32, options=options) for peer in (Gunicorn(), Uwsgi())),
    ]


def starting() -> list[Contender]:
    """Who is ready first."""
    return [gateway(), *(Contender(peer.name, peer) for peer in (Gunicorn(), Uwsgi()))]


def observed(keep: int = 0) -> list[Contender]:
    """All that watches requests on, and off."""
    pool = {"request_slowlog_timeout": 5, "request_terminate_timeout": 30, "queue_timeout": 10}
    return [gateway("log and deadlines", keep=keep, access_log=True, pool=pool), gateway("none of them", keep=keep)]


_SPEEDS = (
    Metric("speed", "speed", "MiB/s"),
    Metric("grown", "grows", "MiB", 1),
    Metric("linear", "time", "/linear", 2),
)
_WAITS = (Metric("p99", "p99", "ms", 1), Metric("median", "median", "ms", 1), Metric("errors", "errors", ""))
_BOUND = (CPU, Metric("memory", "RSS", "MiB", 1), Metric("master", "master", "MiB", 1))
_PSS = (Metric("memory", "PSS", "MiB", 1),)
_TIME = (Metric("time", "time", "ms"),)
_SLOW = generator.Load(connections=64, seconds=4, slow_share=0.05)
_PACED = generator.Load(connections=64, seconds=4, slow_share=0.05, rate=800)
_MANY = generator.Load(connections=16, seconds=2, rate=4000)
_BOTH = (GATEWAY, KEPT)

ROWS = [
    Row("hello", "hello, nginx", with_peers(), _BOTH, cost, repeats=10),
    Row("lighttpd", "hello, lighttpd", closing(), (GATEWAY,), cost, front="lighttpd", repeats=10),
    Row("logged", "hello, nginx, access logs on", logging(), _BOTH, cost),
    Row("pure", "hello, nginx, the gateway without its C twin", pure(), _BOTH, cost),
    Row("asgi", "hello by ASGI, nginx, one worker", asynchronous(), (KEPT, GATEWAY), cost, repeats=10),
    Row("headers", "60 headers and a cookie of 8 KiB, nginx", with_headers(), _BOTH, cost),
    *(
        Row(f"connections-{count}", f"hello, nginx, {count} connections over 4 workers", crowd(count), (KEPT,), cost)
        for count in (2, 8, 64)
    ),
    Row("slow", "quick requests, 64 connections over 16 workers, 5 % sleep", slow(), (KEPT,), waits(_SLOW), _WAITS),
    Row("paced", "the same, 800 requests a second", slow(), (KEPT,), waits(_PACED), _WAITS),
    Row("scheduling", "hello, nginx, by scheduling policy", scheduled(), _BOTH, cost, repeats=10),
    Row("busy", "4,000 a second beside busy loops", scheduled(), (GATEWAY,), beside_busy_loops(waits(_MANY)), _WAITS),
    Row("upload", "a large body up", transferring(), (GATEWAY,), transfer(bulk.upload), _SPEEDS),
    Row("download", "a large body down", transferring(), (GATEWAY,), transfer(download("/generator")), _SPEEDS),
    Row("file", "a large body by wsgi.file_wrapper", transferring(), (GATEWAY,), transfer(download("/file")), _SPEEDS),
    Row("bindings", "hello, nginx, many bindings", bound(), ("10,000 bindings",), cost_and_memory, _BOUND),
    Row("memory", "all processes, 8 workers, Flask", with_flask(), (GATEWAY,), memory, _PSS, repeats=2, alone=True),
    Row("start", "start to first answer", starting(), (GATEWAY,), start, _TIME, repeats=10, alone=True),
    Row("observed", "hello, access log and deadlines", observed(), ("log and deadlines",), cost, differences=True),
    Row("observed-kept", "the same, kept", observed(WORKERS), ("log and deadlines",), cost, differences=True),
]
