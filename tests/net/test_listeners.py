"""Listeners on real sockets: atomic, never stolen, reclaimed when stale."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.net.address import InheritedAddress, UnixAddress, parse_address
from gateway.net.kept import KeptQueue
from gateway.net.listeners import (
    AddressInUse,
    Listener,
    ListenError,
    SocketFile,
    describe_access,
    fd_is_listening,
    open_listeners,
    who_may_connect,
)
from tests.waiting import free_port


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "main.sock")


@pytest.fixture
def listener(path: str) -> Iterator[Listener]:
    [listener] = open_listeners(UnixAddress(path))
    yield listener
    listener.close()


def test_the_socket_has_its_mode_and_leaves_nothing_beside_it(path: str, tmp_path: Path) -> None:
    for mode in (0o600, 0o660, 0o666):
        [listener] = open_listeners(UnixAddress(path), file=SocketFile(mode))
        assert stat.S_IMODE(os.stat(path).st_mode) == mode
        assert os.listdir(tmp_path) == ["main.sock"]
        listener.close()
        assert os.listdir(tmp_path) == []


def test_a_live_socket_is_refused_and_stays(listener: Listener, path: str) -> None:
    inode = os.stat(path).st_ino
    with pytest.raises(AddressInUse, match="another process serves it") as refusal:
        open_listeners(UnixAddress(path))
    assert refusal.value.exit_code == 75
    assert os.stat(path).st_ino == inode


def test_a_live_socket_with_a_full_queue_is_refused(path: str) -> None:
    [listener] = open_listeners(UnixAddress(path), backlog=1)
    waiting = []
    for _ in range(2):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        waiting.append(sock)
    with pytest.raises(AddressInUse):
        open_listeners(UnixAddress(path))
    for sock in waiting:
        sock.close()
    listener.close()


def test_a_stale_socket_is_reclaimed(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    [listener] = open_listeners(UnixAddress(path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        listener.socket.accept()[0].close()
    listener.close()


def test_anything_else_at_the_path_is_left_alone(path: str, tmp_path: Path) -> None:
    Path(path).write_text("precious")
    with pytest.raises(ListenError, match="no socket is there") as refusal:
        open_listeners(UnixAddress(path))
    assert refusal.value.exit_code == 100
    assert Path(path).read_text() == "precious"
    link = tmp_path / "link.sock"
    link.symlink_to(path)
    with pytest.raises(ListenError, match="no socket is there"):
        open_listeners(UnixAddress(str(link)))
    assert link.is_symlink()


def test_closing_leaves_a_successor_its_file(path: str) -> None:
    [first] = open_listeners(UnixAddress(path))
    os.unlink(path)
    [second] = open_listeners(UnixAddress(path))
    first.close()
    assert os.path.exists(path)
    second.close()
    assert not os.path.exists(path)


def test_what_waits_at_a_retired_socket_is_handed_on(path: str) -> None:
    [listener] = open_listeners(UnixAddress(path))
    queue = KeptQueue.create()
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        one.connect(path)
        other.connect(path)
        one.send(b"first")
        assert listener.retire(queue)
        assert not os.path.exists(path)
        assert queue.waiting() == 2
        taken = queue.take()
        assert taken is not None
        assert taken[0].socket.recv(10) == b"first"
        taken[0].close()
    queue.close()


def test_what_a_full_queue_does_not_take_waits_at_the_retired_socket(path: str) -> None:
    [listener] = open_listeners(UnixAddress(path))
    queue = KeptQueue.create()
    with contextlib.ExitStack() as fronts:
        for _ in range(400):
            fronts.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        served = 0
        while not listener.retire(queue):
            while (taken := queue.take()) is not None:
                taken[0].close()
                served += 1
        assert served + queue.waiting() == 400
    queue.close()


def test_the_port_of_a_retired_socket_is_free_though_a_copy_is_open() -> None:
    address = parse_address(f"127.0.0.1:{free_port()}")
    [listener] = open_listeners(address)
    with listener.socket.dup():
        assert listener.retire(None)
        [successor] = open_listeners(address)
        successor.close()


def test_of_many_starts_at_once_one_wins(path: str) -> None:
    script = (
        "import sys\n"
        "from gateway.net.address import UnixAddress\n"
        "from gateway.net.listeners import AddressInUse, open_listeners\n"
        "sys.stdin.readline()\n"
        "try:\n    kept = open_listeners(UnixAddress(sys.argv[1]))\n"
        "except AddressInUse:\n    print('refused', flush=True); sys.exit()\n"
        "print('won', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(12)
    ]
    for start in starts:
        assert start.stdin is not None
        start.stdin.write("go\n")
        start.stdin.flush()
    outcomes = [start.stdout.readline().strip() for start in starts if start.stdout]
    for start in starts:
        start.communicate("end\n")
    assert sorted(outcomes) == ["refused"] * 11 + ["won"]


@pytest.mark.parametrize(
    ("prepare", "remedy"),
    [
        (lambda folder: folder.rmdir(), "mkdir -p"),
        (lambda folder: folder.chmod(0o777), "chmod o-w"),
    ],
)
def test_a_folder_that_will_not_do_is_named_with_the_remedy(tmp_path: Path, prepare: object, remedy: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    prepare(folder)  # type: ignore[operator]
    with pytest.raises(ListenError, match=remedy):
        open_listeners(UnixAddress(str(folder / "main.sock")))


def test_a_sticky_folder_such_as_tmp_will_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    [listener] = open_listeners(UnixAddress(str(tmp_path / "main.sock")))
    listener.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_tcp_answers_and_is_not_taken_twice(host: str) -> None:
    address = parse_address(f"{host}:{free_port()}")
    [listener] = open_listeners(address)
    assert fd_is_listening(listener.socket.fileno())
    assert who_may_connect(listener) == "whoever reaches this address may connect"
    assert who_may_connect(listener, ["192.0.2.1", "::1"]) == "192.0.2.1, ::1 may connect"
    with pytest.raises(AddressInUse, match="another process uses this port"):
        open_listeners(address)
    listener.close()


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on 192\.0\.2\.1:9000"):
        open_listeners(parse_address("192.0.2.1:9000"))


def test_only_a_listening_socket_counts_as_one(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, socket.socket() as idle:
        assert not fd_is_listening(file.fileno())
        assert not fd_is_listening(idle.fileno())
    assert not fd_is_listening(9_999)


def test_an_inherited_descriptor_that_is_no_listener_is_refused() -> None:
    with socket.socket() as idle, pytest.raises(ListenError, match="is no listening socket"):
        open_listeners(InheritedAddress(idle.fileno()))


def test_an_inherited_listener_is_moved_away_from_its_number() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        number = os.dup(given.fileno())
        [listener] = open_listeners(InheritedAddress(number))
        assert not fd_is_listening(number)
        assert listener.socket.getsockname() == given.getsockname()
        assert not listener.socket.get_inheritable()
        listener.close()


def test_a_stray_listen_fds_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    with pytest.raises(ListenError, match="no socket from systemd"):
        open_listeners(InheritedAddress(None))


def given_by_systemd(names: str, script: str, sockets: int = 3) -> str:
    """What `script` prints in a process that was passed `sockets` listeners from descriptor 3 on (sd_listen_fds(3)).

    In it, `opened(address)` lists address, number among the sockets, and whether the descriptor is inheritable.
    """
    launch = (
        "import os, sys\n"
        "fds = [os.dup2(int(fd), 100 + n) for n, fd in enumerate(sys.argv[3:])]\n"
        "for n, fd in enumerate(fds): os.dup2(fd, 3 + n); os.close(fd)\n"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=sys.argv[1])\n"
        "os.execv(sys.executable, [sys.executable, '-Werror', '-c', sys.argv[2], *sys.argv[3:]])\n"
    )
    prelude = (
        "import os, sys\n"
        "from gateway.net.address import parse_address\n"
        "from gateway.net.listeners import ListenError, open_listeners\n"
        "inodes = [os.fstat(3 + n).st_ino for n in range(len(sys.argv) - 1)]\n"
        "def opened(address):\n"
        "    try: listeners = open_listeners(parse_address(address))\n"
        "    except ListenError as error: return str(error)\n"
        "    rows = [(str(l.address), inodes.index(os.fstat(l.socket.fileno()).st_ino), l.socket.get_inheritable())\n"
        "        for l in listeners]\n"
        "    for l in listeners: l.close()\n"
        "    return rows\n"
    )
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(sockets)]
        fds = [listener.fileno() for listener in listeners]
        command = [sys.executable, "-c", launch, names, prelude + script, *map(str, fds)]
        done = subprocess.run(command, pass_fds=fds, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_name_selects_among_the_sockets_of_systemd() -> None:
    given = "shop:blog:shop"
    script = "for address in ('systemd:blog', 'systemd:shop', 'systemd'): print(opened(address))"
    blog, shop, every = given_by_systemd(given, script).splitlines()
    assert blog == "[('systemd:blog', 1, False)]"
    assert shop == "[('systemd:shop', 0, False), ('systemd:shop', 2, False)]"
    assert every == "[('systemd:shop', 0, False), ('systemd:blog', 1, False), ('systemd:shop', 2, False)]"


def test_sockets_of_systemd_can_be_taken_again() -> None:
    """A reload may take a pool away and bring it back."""
    assert given_by_systemd("a:b:c", "print(opened('systemd:b') == opened('systemd:b'))") == "True"


def test_a_name_that_systemd_did_not_give_is_told_with_those_it_did() -> None:
    said = given_by_systemd("shop:blog:shop", "print(opened('systemd:sohp'))")
    assert said == (
        "no socket from systemd is called sohp, only shop, blog; write FileDescriptorName=sohp in its .socket unit"
    )


@pytest.mark.parametrize("names", ["", "shop", "a:b:c:d"])
def test_sockets_without_names_are_only_taken_all(names: str) -> None:
    every, one = given_by_systemd(names, "print(opened('systemd'), opened('systemd:shop'), sep='\\n')").splitlines()
    assert every == "[('systemd', 0, False), ('systemd', 1, False), ('systemd', 2, False)]"
    assert "only one without a name;" in one


def test_who_may_connect_is_said(listener: Listener, path: str, tmp_path: Path) -> None:
    os.chmod(path, 0o602)
    tmp_path.chmod(0o755)
    assert who_may_connect(listener).startswith("mode 0602: user ")
    assert "everyone may connect" in who_may_connect(listener)
    tmp_path.chmod(0o700)
    assert "lets only its owner in" in describe_access(path)


def test_what_has_become_of_a_file(listener: Listener, path: str, tmp_path: Path) -> None:
    assert listener.loss == ""
    os.rename(path, f"{path}.moved")
    assert listener.loss == "has been removed"
    Path(path).write_text("another's")
    assert listener.loss == "has been replaced"
    os.rename(f"{path}.moved", path)
    assert listener.loss == ""


def test_a_file_whose_folder_is_gone_has_been_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    [listener] = open_listeners(UnixAddress(str(folder / "main.sock")))
    os.unlink(folder / "main.sock")
    folder.rmdir()
    assert listener.loss == "has been removed"
    folder.write_text("no folder")
    assert listener.loss == "has been removed"
    folder.unlink()
    folder.symlink_to(folder)  # ELOOP: nobody knows
    assert listener.loss == ""
    listener.close()


def test_what_was_given_or_has_no_file_is_never_lost(tmp_path: Path) -> None:
    [tcp] = open_listeners(parse_address(f"127.0.0.1:{free_port()}"))
    with socket.socket(socket.AF_UNIX) as given:
        given.bind(str(tmp_path / "given.sock"))
        given.listen()
        [inherited] = open_listeners(InheritedAddress(os.dup(given.fileno())))
    os.unlink(tmp_path / "given.sock")
    assert (tcp.loss, inherited.loss) == ("", "")
    tcp.close()
    inherited.close()


def test_a_socket_on_which_a_program_waits_is_retired_without_waiting(path: str) -> None:
    [listener] = open_listeners(UnixAddress(path))
    listener.socket.setblocking(True)
    assert listener.retire(None)
    assert not os.path.exists(path)
