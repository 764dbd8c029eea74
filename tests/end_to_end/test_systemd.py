"""The unit files of docs/systemd/, and a real `gateway serve` under a stand-in for systemd that runs their commands:
NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS and JOURNAL_STREAM as systemd sets them.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.end_to_end.running import (
    ENVIRONMENT,
    GATEWAY,
    HERE,
    ROOT,
    Program,
    Settings,
    alive,
    descendants,
    stat,
)
from tests.waiting import wait_until

UNITS = ROOT / "docs" / "systemd"
HOWTO = ROOT / "docs" / "howto" / "systemd.md"
WATCHDOG = 0.4  # seconds


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNITS / name)
    return parser


def command(key: str, settings: Settings) -> list[str]:
    """A command of the service, with this test's places in it."""
    places = {
        "/opt/gateway/bin/gateway": shlex.join(GATEWAY),
        "/etc/gateway/gateway.toml": str(settings.file),
        "/run/gateway/control.sock": str(settings.control),
    }
    line = unit("gateway.service")["Service"][key]
    for there, here in places.items():
        line = line.replace(there, here)
    return shlex.split(line)


class Systemd:
    """Starts the service as systemd does, and hears what it says."""

    def __init__(self, settings: Settings, sockets: Sequence[socket.socket] = (), names: str = "") -> None:
        self.settings = settings
        self.heard: list[str] = []
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(settings.place / "notify"))
        self._notify.setblocking(False)
        environment = ENVIRONMENT | {
            "NOTIFY_SOCKET": str(settings.place / "notify"), "WATCHDOG_USEC": str(int(WATCHDOG * 1_000_000)),
            "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names,
        }  # fmt: skip
        launch = (
            "import os, sys\n"
            "fds = [os.dup2(int(fd), 100 + n) for n, fd in enumerate(sys.argv[1].split())]\n"
            "for n, fd in enumerate(fds): os.dup2(fd, 3 + n); os.close(fd)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), WATCHDOG_PID=str(os.getpid()))\n"
            "os.execv(sys.argv[2], sys.argv[2:])\n"
        )
        fds = [sock.fileno() for sock in sockets]
        self.program = Program(
            [sys.executable, "-c", launch, " ".join(map(str, fds)), *command("ExecStart", settings)],
            settings.place / "gateway.log",
            cwd=settings.place,
            env=environment,
            pass_fds=fds,
        )

    def listen(self) -> list[str]:
        """Everything the service has said so far, but for its signs of life."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard.append(self._notify.recv(65_536).decode())
        return [message for message in self.heard if message != "WATCHDOG=1"]

    def states(self) -> list[str]:
        """The states that it has told, without what came beside them."""
        return [message.partition("\n")[0] for message in self.listen() if not message.startswith("STATUS=")]

    def signs_of_life(self) -> int:
        self.listen()
        return self.heard.count("WATCHDOG=1")

    def wait_for_states(self, *states: str) -> None:
        """Wait until it has told so many states, which must be these."""
        self.program.wait_for(lambda: len(self.states()) >= len(states))
        assert self.states() == list(states)

    def run(self, key: str) -> subprocess.CompletedProcess[str]:
        """Run another command of the service."""
        return subprocess.run(
            command(key, self.settings), capture_output=True, text=True, env=ENVIRONMENT, timeout=30, check=False
        )

    def close(self) -> None:
        self.program.stop()
        self._notify.close()


@contextlib.contextmanager
def serving(settings: Settings, sockets: Sequence[socket.socket] = (), names: str = "") -> Iterator[Systemd]:
    systemd = Systemd(settings, sockets, names)
    try:
        yield systemd
    finally:
        systemd.close()


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        yield listener


def ask(address: Path, path: str = "/hello") -> str:
    """The body of a pool's answer."""
    asked = [*GATEWAY, "request", str(address), f"http://localhost{path}"]
    done = subprocess.run(asked, capture_output=True, text=True, env=ENVIRONMENT, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.replace("\r\n", "\n").partition("\n\n")[2]


@pytest.fixture
def settings(place: Path) -> Settings:
    """A pool whose application waits at import for the gate `import`, and is a copy that a test may break."""
    shutil.copy(HERE / "everything.py", place / "everything.py")
    source = "from everything import *\njournal('importing')\nwait_for_gate('import')\n"
    (place / "slow.py").write_text(source + "from everything import application\n")
    pool = {"app_dir": str(place), "max_children": 2, "clear_env": False}
    return Settings(place, pool, [{"name": "slow", "app": "slow:application"}])


def test_ready_when_the_workers_are(settings: Settings) -> None:
    with serving(settings) as systemd:
        systemd.program.wait_for(lambda: "importing" in settings.journal())
        signs = systemd.signs_of_life()
        systemd.program.wait_for(lambda: systemd.signs_of_life() >= signs + 3)
        assert systemd.listen() == ["STATUS=loading main"]
        settings.open_gate("import")
        systemd.wait_for_states("READY=1")
        assert systemd.listen()[-1] == "READY=1\nSTATUS=serving main"
        assert ask(settings.socket) == "Hello\n"


def test_no_process_below_can_speak_for_the_service(settings: Settings) -> None:
    settings.open_gate("import")
    with serving(settings) as systemd:
        systemd.wait_for_states("READY=1")
        environ = json.loads(ask(settings.socket, "/process"))["environ"]
        assert environ["SECRET"]  # the environment is passed on
        assert not [name for name in environ if name.startswith(("NOTIFY_", "WATCHDOG_", "LISTEN_"))]


def test_a_service_that_cannot_start_is_never_ready(settings: Settings) -> None:
    (settings.place / "slow.py").write_text("raise RuntimeError('broken on purpose')\n")
    with serving(settings) as systemd:
        assert systemd.program.wait() == 100
        assert systemd.states() == ["STOPPING=1"]


def test_a_service_whose_workers_cannot_start_yet_is_ready_to_say_so(place: Path) -> None:
    application = {"name": "hooked", "app": "hooked:application"}
    settings = Settings(place, {"on_worker_start": "hooked:connect", "max_children": 1}, [application])
    settings.open_gate("no-database")
    with serving(settings) as systemd:
        systemd.program.wait_for(systemd.states)
        assert systemd.states()[0] == "READY=1"
        status = systemd.listen()[-1].partition("\nSTATUS=")[2]
        assert status.startswith("serving main; pool main: on_worker_start: hooked:connect raised ConnectionError")
        asked = [*GATEWAY, "request", str(settings.socket), "/"]
        answered = subprocess.run(asked, capture_output=True, text=True, env=ENVIRONMENT, timeout=30)
        assert answered.stdout.startswith("503")
        (place / "gates" / "no-database").unlink()
        systemd.program.wait_for(lambda: systemd.listen()[-1].endswith("\nSTATUS=serving main"), 40)


def test_a_reload_is_told_from_beginning_to_end(settings: Settings) -> None:
    settings.open_gate("import")
    with serving(settings) as systemd:
        systemd.wait_for_states("READY=1")
        before = time.monotonic_ns() // 1000
        done = systemd.run("ExecReload")
        assert (done.returncode, done.stderr) == (0, "")
        systemd.wait_for_states("READY=1", "RELOADING=1", "READY=1")
        at = int(systemd.listen()[-2].partition("MONOTONIC_USEC=")[2])
        assert before <= at <= time.monotonic_ns() // 1000
        systemd.program.signal(signal.SIGHUP)
        systemd.wait_for_states("READY=1", "RELOADING=1", "READY=1", "RELOADING=1", "READY=1")


def test_a_reload_that_is_refused_ends_too(settings: Settings) -> None:
    settings.open_gate("import")
    with serving(settings) as systemd:
        systemd.wait_for_states("READY=1")
        (settings.place / "slow.py").write_text("raise RuntimeError('broken on purpose')\n")
        done = systemd.run("ExecReload")
        assert done.returncode == 1
        assert "broken on purpose" in done.stderr
        systemd.wait_for_states("READY=1", "RELOADING=1", "READY=1")
        assert systemd.listen()[-1] == "READY=1\nSTATUS=serving main; pool main: cannot load slow"
        assert ask(settings.socket) == "Hello\n"


def test_settings_that_cannot_be_read_end_a_reload_too(settings: Settings) -> None:
    """As with Type=notify-reload, which sends a signal and waits for the end."""
    settings.open_gate("import")
    with serving(settings) as systemd:
        systemd.wait_for_states("READY=1")
        settings.pool["max_childen"] = 3
        settings.write()
        systemd.program.signal(signal.SIGHUP)
        systemd.wait_for_states("READY=1", "RELOADING=1", "READY=1")
        said = systemd.listen()[-1]
        assert said.startswith("READY=1\nSTATUS=serving main; reload refused: ")
        assert said.endswith("pools.main.max_childen is unknown; did you mean max_children?")


def test_a_reload_in_which_every_pool_stays_as_it_was_ends_too(settings: Settings) -> None:
    """What included files ask for and cannot have costs their pools alone the reload, and may be all there are."""
    settings.open_gate("import")
    text = json.loads(settings.file.read_text())
    site = {"pools": {"shop": text["pools"]["main"]}, "applications": [text["applications"][0] | {"pool": "shop"}]}
    (settings.place / "site.json").write_text(json.dumps(site))
    settings.file.write_text(json.dumps({"gateway": text["gateway"], "include": ["site.json"]}))
    with serving(settings) as systemd:
        systemd.wait_for_states("READY=1")
        settings.socket.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(settings.socket))
            other.listen()
            systemd.program.signal(signal.SIGHUP)
            systemd.wait_for_states("READY=1", "RELOADING=1", "READY=1")
        assert f"cannot listen on {settings.socket}: another process serves it" in systemd.listen()[-1]


def test_an_upgrade_is_told_as_a_reload_and_keeps_what_systemd_gave(settings: Settings) -> None:
    settings.open_gate("import")
    settings.pool["listen"] = "systemd:shop"
    settings.write()
    with (
        listening(settings.place / "shop.sock") as shop,
        listening(settings.place / "blog.sock") as blog,
        serving(settings, [shop, blog], "shop:blog") as systemd,
    ):
        systemd.wait_for_states("READY=1")
        for count in (1, 2):
            done = subprocess.run(
                [*GATEWAY, "upgrade", settings.file], capture_output=True, text=True, env=ENVIRONMENT, timeout=60
            )
            assert (done.returncode, done.stderr) == (0, "")
            systemd.wait_for_states("READY=1", *["RELOADING=1", "READY=1"] * count)
        assert systemd.listen()[-1] == "READY=1\nSTATUS=serving main"
        assert ask(settings.place / "shop.sock") == "Hello\n"
        signs = systemd.signs_of_life()
        systemd.program.wait_for(lambda: systemd.signs_of_life() >= signs + 3)
        settings.pool["listen"] = ["systemd:shop", "systemd:blog"]  # which nobody has taken so far
        settings.write()
        assert systemd.run("ExecReload").returncode == 0
        assert ask(settings.place / "blog.sock") == "Hello\n"
        environ = json.loads(ask(settings.place / "shop.sock", "/process"))["environ"]
        assert not [name for name in environ if name.startswith(("NOTIFY_", "WATCHDOG_", "LISTEN_", "GATEWAY_"))]


def test_a_stop_is_told_and_graceful(settings: Settings) -> None:
    settings.open_gate("import")
    with serving(settings) as systemd:
        systemd.wait_for_states("READY=1")
        url = "http://localhost/hold?gate=quit"
        asking = Program([*GATEWAY, "request", settings.socket, url], settings.place / "asking.log")
        systemd.program.wait_for(lambda: "running quit" in settings.journal())
        systemd.program.signal(signal.Signals[unit("gateway.service")["Service"]["KillSignal"]])
        systemd.wait_for_states("READY=1", "STOPPING=1")
        settings.open_gate("quit")
        assert asking.wait() == 0
        assert asking.said.endswith("held\n")
        assert systemd.program.wait() == 0
        assert systemd.states() == ["READY=1", "STOPPING=1"]


@pytest.mark.alone  # it measures
def test_signs_of_life_come_from_the_masters_loop(settings: Settings) -> None:
    settings.open_gate("import")
    with serving(settings) as systemd:
        systemd.wait_for_states("READY=1")
        started, signs = time.monotonic(), systemd.signs_of_life()
        systemd.program.wait_for(lambda: systemd.signs_of_life() >= signs + 5)
        assert time.monotonic() - started < 5 * WATCHDOG
        systemd.program.signal(signal.SIGSTOP)
        wait_until(lambda: (stat(systemd.program.pid) or "?")[0] == "T")
        signs = systemd.signs_of_life()
        with pytest.raises(AssertionError, match="a sign of life"):
            wait_until(lambda: systemd.signs_of_life() > signs, 3 * WATCHDOG, "a sign of life")
        started_by_it = descendants(systemd.program.pid)
        systemd.program.signal(signal.Signals[unit("gateway.service")["Service"]["WatchdogSignal"]])
        systemd.program.wait()
        wait_until(lambda: not any(map(alive, started_by_it)))


def test_pools_take_their_sockets_by_name(place: Path) -> None:
    settings = Settings(place)
    names = ("shop", "blog")
    pool = json.loads(settings.file.read_text())["pools"]["main"]
    text = {
        "pools": {name: pool | {"listen": f"systemd:{name}", "env": pool["env"] | {"SITE": name}} for name in names},
        "applications": [
            {"name": name, "app": "everything:application", "pool": name, "bindings": [{"hostname": "*", "port": "*"}]}
            for name in names
        ],
    }
    settings.file.write_text(json.dumps(text))
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(listening(place / f"{name}.sock")) for name in ("blog", "shop", "more")]
        systemd = stack.enter_context(serving(settings, sockets, "blog:shop:shop"))
        systemd.wait_for_states("READY=1")
        for path, name in (("blog.sock", "blog"), ("shop.sock", "shop"), ("more.sock", "shop")):
            assert json.loads(ask(place / path, "/process"))["environ"]["SITE"] == name
        systemd.program.signal(signal.SIGQUIT)
        assert systemd.program.wait() == 0
    assert (place / "shop.sock").is_socket()  # who made it removes it


def test_one_pool_may_take_a_socket_by_name(place: Path) -> None:
    settings = Settings(place, {"listen": "systemd:shop"})
    with listening(place / "shop.sock") as shop, listening(place / "other.sock") as other:
        with serving(settings, [other, shop], "other:shop") as systemd:
            systemd.wait_for_states("READY=1")
            assert ask(place / "shop.sock") == "Hello\n"
        other.setblocking(False)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place / "other.sock"))
            other.accept()[0].close()  # it waited here, and nobody else has taken it


def test_what_the_journal_gets(settings: Settings) -> None:
    """Every record of master, zygote and workers has a priority, and leaves the time to the journal."""
    settings.open_gate("import")
    source = settings.place / "slow.py"
    source.write_text(source.read_text() + "print('said by the application')\n")
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            status = os.fstat(theirs.fileno())
            environment = ENVIRONMENT | {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
            process = subprocess.Popen(
                command("ExecStart", settings), stderr=theirs.fileno(), stdin=subprocess.DEVNULL, env=environment
            )
        try:
            wait_until(settings.socket.exists)
            assert ask(settings.socket) == "Hello\n"
        finally:
            process.terminate()
            process.wait(15)
        with ours.makefile() as file:
            said = file.read().splitlines()
    assert said
    assert [line for line in said if not re.match(r"<[345]>\[\d+\] ", line)] == []
    assert any(re.fullmatch(r"<4>\[\d+\] said by the application", line) for line in said)


def verified(folder: Path) -> str:
    """What systemd says against the units in `folder`, in which every program is taken for installed."""
    for path in folder.rglob("*.service"):
        path.write_text(re.sub("/opt/gateway/bin/gateway(-spawn)?", "/bin/true", path.read_text()))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(path.name for path in folder.iterdir() if path.is_file())],
        capture_output=True,
        text=True,
        cwd=folder,
        env=ENVIRONMENT | {"SYSTEMD_UNIT_PATH": f"{folder}:"},
        timeout=60,
    )
    return done.stdout + done.stderr


@pytest.fixture
def units(place: Path) -> Path:
    """A folder with a copy of the units."""
    folder = place / "units"
    shutil.copytree(UNITS, folder)
    return folder


def test_systemd_accepts_the_units(units: Path) -> None:
    assert verified(units) == ""
    service = units / "gateway.service"
    service.write_text(service.read_text() + "[Service]\nOutOfMemoryPolicy=continue\n")
    assert "Unknown key 'OutOfMemoryPolicy'" in verified(units)  # it would have said so


@pytest.mark.parametrize(("page", "count"), [("systemd", 2), ("spawn", 1)])
def test_systemd_accepts_the_files_of_the_howto(units: Path, page: str, count: int) -> None:
    """Each block of the page that names its file in the first line."""
    text = HOWTO.with_stem(page).read_text()
    blocks = re.findall(r"^```ini\n# /etc/systemd/system/(\S+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= count
    for name, text in blocks:
        (units / name).parent.mkdir(exist_ok=True)
        (units / name).write_text(text)
    assert verified(units) == ""


def test_the_howto_explains_every_line_of_the_units() -> None:
    page = HOWTO.read_text()
    keys = {key for name in ("gateway.service", "gateway.socket") for section in unit(name).values() for key in section}
    assert sorted(key for key in keys - {"Description", "WantedBy"} if f"`{key}" not in page) == []


def test_the_sandbox_is_one(units: Path) -> None:
    secure = ["systemd-analyze", "security", "--offline=yes", "--threshold=25", "--no-pager", "./gateway.service"]
    done = subprocess.run(secure, capture_output=True, text=True, cwd=units, env=ENVIRONMENT, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("status", "waits"), [("100", True), ("0", False), ("KILL", False), ("111", False)])
def test_only_a_mistake_in_the_settings_delays_the_next_start(place: Path, status: str, waits: bool) -> None:
    line = unit("gateway.service")["Service"]["ExecStopPost"].replace("$$", "$")  # systemd.service(5), Command lines
    (place / "sleep").write_text("#!/bin/sh\necho slept\n")
    (place / "sleep").chmod(0o755)
    environment = ENVIRONMENT | {"EXIT_STATUS": status, "PATH": f"{place}:{ENVIRONMENT['PATH']}"}
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, env=environment, timeout=30)
    assert (done.returncode, done.stdout) == (0, "slept\n" if waits else "")
