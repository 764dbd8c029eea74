"""The depth of real listen queues, and the age of what waits in them."""

from __future__ import annotations

import errno
import itertools
import os
import pwd
import random
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.net import queue
from gateway.net.address import InheritedAddress
from gateway.net.listeners import open_listeners
from gateway.net.queue import QueueAge, QueueDepth, QueueGauge, SocketKey, UnixDiagnosis
from tests.waiting import wait_until

pytestmark = pytest.mark.alone  # it measures, or has to be fast

PYTHON = "/usr/bin/python3"  # one that every user may run
KINDS = ["unix", "127.0.0.1", "::1"]
KEY = SocketKey(inode=77, cookie=5 << 32 | 3)


class Place:
    """Listeners of every kind and their clients, closed together."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._numbers = itertools.count()

    def listener(self, kind: str, backlog: int) -> socket.socket:
        family = socket.AF_UNIX if kind == "unix" else socket.AF_INET6 if ":" in kind else socket.AF_INET
        sock = self._stack.enter_context(socket.socket(family))
        sock.bind(str(self._folder / f"{next(self._numbers)}.sock") if kind == "unix" else (kind, 0))
        sock.listen(backlog)
        sock.setblocking(False)
        return sock

    def gauge(self, *listeners: socket.socket) -> QueueGauge:
        gauge = QueueGauge(listeners)
        self._stack.callback(gauge.close)
        return gauge

    def client(self, listener: socket.socket) -> socket.socket:
        """Begin to connect, without waiting for it to be done."""
        client = self._stack.enter_context(socket.socket(listener.family))
        client.setblocking(False)
        assert client.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS, errno.EAGAIN)
        return client


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


def wait_for(gauge: QueueGauge, waiting: int, limit: int) -> None:
    wait_until(lambda: gauge.read().waiting == waiting, what=f"{waiting} connections in the queue")
    assert gauge.read() == QueueDepth(waiting, limit, exact=True)


@pytest.mark.parametrize("kind", KINDS)
def test_depth_follows_what_connects_and_what_is_accepted(place: Place, kind: str) -> None:
    listener = place.listener(kind, 64)
    gauge = place.gauge(listener)
    wait_for(gauge, 0, 64)
    for count in range(1, 8):
        place.client(listener)
        wait_for(gauge, count, 64)
    for count in reversed(range(7)):
        listener.accept()[0].close()
        wait_for(gauge, count, 64)


@pytest.mark.parametrize("kind", KINDS)
def test_full_queue_holds_one_more_than_its_limit(place: Place, kind: str) -> None:
    listener = place.listener(kind, 2)
    gauge = place.gauge(listener)
    for _ in range(6):
        place.client(listener)
    wait_for(gauge, 3, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_client_that_has_gone_still_takes_its_place(place: Place, kind: str) -> None:
    listener = place.listener(kind, 8)
    gauge = place.gauge(listener)
    client = place.client(listener)
    wait_for(gauge, 1, 8)
    client.close()
    wait_for(gauge, 1, 8)


def test_queues_of_several_listeners_are_summed(place: Place) -> None:
    listeners = [place.listener(kind, 10) for kind in [*KINDS, "unix"]]
    gauge = place.gauge(*listeners)
    for count, listener in enumerate(listeners, 1):
        for _ in range(count):
            place.client(listener)
    wait_for(gauge, 1 + 2 + 3 + 4, 40)
    assert place.gauge().read() == QueueDepth(0, 0, exact=True)


@pytest.mark.parametrize("kind", KINDS)
def test_inherited_socket_is_read_like_ones_own(place: Place, kind: str) -> None:
    listener = place.listener(kind, 9)
    place.client(listener)
    [inherited] = open_listeners(InheritedAddress(os.dup(listener.fileno())))
    with inherited.socket:
        gauge = place.gauge(inherited.socket)
        wait_for(gauge, 1, 9)
        listener.accept()[0].close()
        wait_for(gauge, 0, 9)


def test_limit_that_is_changed_later_is_seen(place: Place) -> None:
    listener = place.listener("unix", 5)
    gauge = place.gauge(listener)
    assert gauge.read().limit == 5
    listener.listen(6)
    assert gauge.read().limit == 6


@pytest.mark.parametrize("kind", KINDS)
def test_socket_that_does_not_listen_has_no_queue(place: Place, kind: str) -> None:
    with socket.socket(socket.AF_UNIX if kind == "unix" else place.listener(kind, 1).family) as sock:
        assert place.gauge(sock).read() == QueueDepth(0, 0, exact=False)


def test_bytes_received_are_no_connections_waiting(place: Place) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.send(b"some")
        assert place.gauge(other).read() == QueueDepth(1, 0, exact=False)


@pytest.mark.parametrize("kind", KINDS)
def test_closed_listener_and_closed_gauge_raise_nothing(place: Place, kind: str) -> None:
    listener, other = place.listener(kind, 4), place.listener("unix", 4)
    gauge = place.gauge(listener, other)
    place.client(other)
    listener.close()
    assert gauge.read() == QueueDepth(1, 4, exact=False)
    gauge.close()
    gauge.close()
    assert gauge.read() == QueueDepth(1, 0, exact=False)


def descriptors() -> set[int]:
    listed = os.listdir("/proc/self/fd")
    return {int(fd) for fd in listed if os.path.exists(f"/proc/self/fd/{fd}")}  # without the one that listed them


def test_gauge_keeps_one_descriptor_and_leaves_none(place: Place) -> None:
    listeners = [place.listener("unix", 1) for _ in range(3)]
    before = descriptors()
    gauge = QueueGauge(listeners)
    for _ in range(10):
        gauge.read()
    [netlink] = descriptors() - before
    assert not os.get_inheritable(netlink)
    gauge.close()
    assert descriptors() == before


def test_nobody_but_the_kernel_can_answer(place: Place) -> None:
    listener = place.listener("unix", 3)
    before = descriptors()
    gauge = place.gauge(listener)
    [netlink] = descriptors() - before
    with (
        socket.socket(fileno=os.dup(netlink)) as own,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as stranger,
        pytest.raises(OSError, match=r"refused|not permitted"),  # by the connection; without privilege, anyway
    ):
        stranger.sendto(answer(), own.getsockname())
    assert gauge.read() == QueueDepth(0, 3, exact=True)


# -- with few rights --------------------------------------------------------------------------------------------------

TELL = """
import os
listeners = [socket.socket(fileno=int(fd)) for fd in sys.argv[1:]]
gauge = QueueGauge(listeners)
depth = gauge.read()
print(os.geteuid(), depth.waiting, depth.limit, depth.exact)
"""
# A filter of secure computing, as systemd's RestrictAddressFamilies makes it: socket(AF_NETLINK, …) is EAFNOSUPPORT.
REFUSE_NETLINK = """
import ctypes, errno, platform
libc = ctypes.CDLL(None, use_errno=True)
call = {"x86_64": 41, "aarch64": 198}[platform.machine()]
code = b"".join(struct.pack("=HBBI", *step) for step in [
    (0x20, 0, 0, 0),                            # load the number of the system call
    (0x15, 0, 3, call),                         # anything but socket() is allowed
    (0x20, 0, 0, 16),                           # load the first argument
    (0x15, 0, 1, socket.AF_NETLINK),
    (0x06, 0, 0, 0x50000 | errno.EAFNOSUPPORT),
    (0x06, 0, 0, 0x7FFF0000),
])
steps = ctypes.create_string_buffer(code)
program = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(steps)))
assert libc.prctl(38, 1, 0, 0, 0) == 0          # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, program, 0, 0) == 0    # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
"""


def told_by_nobody(script: str, *listeners: socket.socket) -> list[str]:
    """What `script`, put behind the module's source, prints as the user nobody, or as us when we may not choose."""
    nobody = pwd.getpwnam("nobody")
    fds = [listener.fileno() for listener in listeners]
    root = os.geteuid() == 0
    process = subprocess.run(
        [PYTHON, "-", *map(str, fds)],
        input=Path(queue.__file__).read_text() + script,
        capture_output=True,
        text=True,
        timeout=30,
        pass_fds=fds,
        cwd="/",
        check=False,
        user=nobody.pw_uid if root else None,
        group=nobody.pw_gid if root else None,
        extra_groups=[] if root else None,
    )
    assert process.stderr == ""
    uid, *depth = process.stdout.split()
    assert int(uid) == (nobody.pw_uid if root else os.geteuid())
    return depth


@pytest.mark.parametrize("kind", KINDS)
def test_no_privilege_is_needed(place: Place, kind: str) -> None:
    listener = place.listener(kind, 33)
    for _ in range(3):
        place.client(listener)
    wait_for(place.gauge(listener), 3, 33)
    assert told_by_nobody(TELL, listener) == ["3", "33", "True"]


def test_without_netlink_it_tells_whether_one_waits(place: Place) -> None:
    unix, tcp = place.listener("unix", 33), place.listener("127.0.0.1", 7)
    assert told_by_nobody(REFUSE_NETLINK + TELL, unix) == ["0", "0", "False"]
    for _ in range(3):
        place.client(unix)
        place.client(tcp)
    wait_for(place.gauge(unix, tcp), 6, 40)
    assert told_by_nobody(REFUSE_NETLINK + TELL, unix) == ["1", "0", "False"]
    assert told_by_nobody(REFUSE_NETLINK + TELL, tcp) == ["3", "7", "True"]
    assert told_by_nobody(REFUSE_NETLINK + TELL, unix, tcp) == ["4", "7", "False"]


# -- answers that are not the one asked for ---------------------------------------------------------------------------


def key_of(listener: socket.socket) -> SocketKey:
    cookie = struct.unpack("=Q", listener.getsockopt(socket.SOL_SOCKET, 57, 8))[0]  # SO_COOKIE
    return SocketKey(os.fstat(listener.fileno()).st_ino, cookie)


def test_stale_answers_are_not_taken_for_the_one_asked_for(place: Place) -> None:
    full, empty = place.listener("unix", 50), place.listener("unix", 60)
    for _ in range(5):
        place.client(full)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 4) as netlink:
        diagnosis = UnixDiagnosis(netlink)
        for sequence in (0, 7, 0xFFFFFFFF):
            netlink.send(question(key_of(full), sequence))
        assert diagnosis.depth(key_of(empty)) == (0, 60)
        assert diagnosis.depth(key_of(full)) == (5, 50)
        with pytest.raises(BlockingIOError):
            netlink.recv(1)


def test_another_socket_with_the_same_inode_is_refused(place: Place) -> None:
    listener = place.listener("unix", 50)
    key = key_of(listener)
    diagnosis = UnixDiagnosis.open()
    assert diagnosis is not None
    assert diagnosis.depth(SocketKey(key.inode, key.cookie + 1)) is None
    assert diagnosis.depth(SocketKey(0xFFFFFFF0, key.cookie)) is None
    assert diagnosis.depth(key) == (0, 50)
    assert diagnosis.depth(SocketKey(key.inode)) == (0, 50)  # a kernel without SO_COOKIE
    diagnosis.close()
    assert diagnosis.depth(key) is None


def question(key: SocketKey, sequence: int) -> bytes:
    body = struct.pack("=BBHIIIQ", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, key.inode, 0x10, key.cookie)
    return struct.pack("=IHHII", 16 + len(body), 20, 1, sequence, 0) + body


def answer(
    *,
    sequence: int = 1,
    kind: int = 20,
    who: tuple[int, int, int, int] = (socket.AF_UNIX, 10, KEY.inode, KEY.cookie),
    attributes: bytes = struct.pack("=HHBxxxHHII", 5, 6, 0, 12, 4, 2, 64),
    longer: int = 0,
) -> bytes:
    family, state, inode, cookie = who
    body = struct.pack("=BBBBIQ", family, 1, state, 0, inode, cookie) + attributes
    return struct.pack("=IHHII", 16 + len(body) + longer, kind, 0, sequence, 0) + body


def depth_told_by(*answers: bytes) -> tuple[int, int] | None:
    """Ask for KEY where a socket pair stands for netlink, and the answers wait already."""
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, kernels:
        ours.setblocking(False)
        for message in answers:
            kernels.send(message)
        return UnixDiagnosis(ours).depth(KEY)


def test_answer_is_found_among_what_is_none() -> None:
    assert depth_told_by(answer()) == (2, 64)
    assert depth_told_by(b"", b"\x10\0\0\0", answer(sequence=0), answer(sequence=2), answer()) == (2, 64)


WRONG_ANSWERS = {
    "none": (),
    "of another question": (answer(sequence=2),),
    "too late": (*[answer(sequence=9)] * 8, answer()),
    "an error": (struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -2) + b"\0" * 16,),
    "of another kind": (answer(kind=21),),
    "of another family": (answer(who=(socket.AF_INET, 10, KEY.inode, KEY.cookie)),),
    "of a socket that does not listen": (answer(who=(socket.AF_UNIX, 1, KEY.inode, KEY.cookie)),),
    "of another inode": (answer(who=(socket.AF_UNIX, 10, KEY.inode + 1, KEY.cookie)),),
    "of another cookie": (answer(who=(socket.AF_UNIX, 10, KEY.inode, KEY.cookie + (1 << 32))),),
    "only a header": (struct.pack("=IHHII", 16, 20, 0, 1, 0),),
    "half a socket": (struct.pack("=IHHII", 24, 20, 0, 1, 0) + b"\1\1\12\0\0\0\0\0",),
    "longer than it says": (answer(longer=-4),),
    "shorter than it says": (answer(longer=4),),
    "longer than is read": (answer(attributes=struct.pack("=HHII", 12, 4, 2, 64) + b"\0" * 1000),),
    "without attributes": (answer(attributes=b""),),
    "an attribute of no length": (answer(attributes=struct.pack("=HHHHII", 0, 0, 12, 4, 2, 64)),),
    "an attribute beyond the end": (answer(attributes=struct.pack("=HHI", 12, 4, 2)),),
    "an attribute cut short": (answer(attributes=struct.pack("=HHII", 16, 4, 2, 64)),),
    "half an attribute": (answer(attributes=b"\x0c\0"),),
    "a depth of the wrong size": (answer(attributes=struct.pack("=HHI", 8, 4, 2)),),
}


@pytest.mark.parametrize("answers", WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_wrong_answer_is_no_depth(answers: tuple[bytes, ...]) -> None:
    assert depth_told_by(*answers) is None


@settings(deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=6))
def test_no_garbage_is_believed(messages: list[bytes]) -> None:
    assert depth_told_by(*messages) is None


@settings(deadline=None)
@given(st.binary(max_size=40), st.integers(0, 3))
def test_no_attributes_raise(attributes: bytes, longer: int) -> None:
    depth = depth_told_by(answer(attributes=attributes, longer=longer))
    assert depth is None or struct.pack("=HHII", 12, 4, *depth) in attributes


# -- cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_reading_costs_microseconds(place: Place, kind: str) -> None:
    listener = place.listener(kind, 64)
    gauge = place.gauge(listener)
    for _ in range(20):
        place.client(listener)
    costs = []
    for _ in range(500):
        before = time.perf_counter_ns()
        gauge.read()
        costs.append(time.perf_counter_ns() - before)
    assert statistics.median(costs) < 200_000


# -- age --------------------------------------------------------------------------------------------------------------


def ages(*samples: tuple[int, int, int]) -> list[int]:
    age = QueueAge()
    return [age.sample(*sample) for sample in samples]


def test_age_counts_from_the_first_sample_that_saw_the_connection() -> None:
    assert ages((1000, 0, 0), (1100, 0, 1), (1200, 0, 1), (1300, 0, 3)) == [0, 0, 100, 200]


def test_age_passes_on_to_the_next_when_the_oldest_is_accepted() -> None:
    assert ages((0, 5, 1), (100, 5, 2), (200, 5, 3), (300, 6, 2), (400, 7, 1), (500, 8, 0)) == [
        0, 100, 200, 200, 200, 0
    ]  # fmt: skip


def test_queue_that_stays_as_deep_but_moves_is_not_old() -> None:
    assert ages(*((100 * step, 10 * step, 10) for step in range(5))) == [0] * 5


def test_connections_accepted_between_two_samples_leave_no_age() -> None:
    assert ages((0, 0, 4), (100, 4, 4), (200, 4, 4), (300, 9, 2)) == [0, 0, 100, 0]


def test_count_from_a_new_start_forgets_what_was_before() -> None:
    assert ages((0, 100, 3), (100, 100, 3), (200, 0, 3), (250, 0, 3)) == [0, 100, 0, 50]


def test_count_that_is_lost_is_made_up_for() -> None:
    # At 100 the connection has been taken by a worker that died before it counted it.
    assert ages((0, 10, 1), (100, 10, 0), (200, 10, 1), (300, 10, 1)) == [0, 0, 0, 100]


def test_count_that_comes_late_makes_nothing_older() -> None:
    # The third connection is taken at 200 and counted at 300; the fourth came by 200, and is not as old as the third.
    assert ages((0, 0, 3), (100, 2, 1), (200, 2, 1), (300, 3, 1), (400, 3, 1)) == [0, 100, 200, 0, 100]


def test_what_had_arrived_by_a_moment_as_far_as_it_still_waits() -> None:
    age = QueueAge()
    age.sample(0, 5, 1)
    age.sample(100, 5, 2)
    age.sample(200, 5, 4)
    assert [age.arrived_before(moment) for moment in (-1, 0, 150, 200, 1000)] == [0, 6, 7, 9, 9]
    age.sample(300, 7, 2)
    assert [age.arrived_before(moment) for moment in (150, 250)] == [0, 9]


@settings(deadline=None)
@given(
    events=st.lists(st.sampled_from(["arrive", "accept", "sample", "wait"]), max_size=300),
    seed=st.integers(0, 1000),
    queues=st.integers(1, 3),
)
def test_age_is_never_more_than_the_oldest_has_waited(events: list[str], seed: int, queues: int) -> None:
    """Connections are taken in any order, as from several queues; in order, the age is as much as samples can tell."""
    age, pick = QueueAge(), random.Random(seed)
    now = accepted = 0
    waiting: list[tuple[int, int]] = []  # when it arrived, and the first sample after that
    for event in events:
        if event == "wait":
            now += pick.randrange(1, 1000)
        elif event == "arrive":
            waiting.append((now, -1))
        elif event == "accept" and waiting:
            waiting.pop(0 if queues == 1 else pick.randrange(min(queues, len(waiting))))
            accepted += 1
        elif event == "sample":
            waiting = [(arrived, seen if seen >= 0 else now) for arrived, seen in waiting]
            told = age.sample(now, accepted, len(waiting))
            assert 0 <= told <= (now - min(waiting)[0] if waiting else 0)
            if queues == 1:
                assert told == (now - waiting[0][1] if waiting else 0)


def test_age_of_a_real_queue(place: Place) -> None:
    listener = place.listener("unix", 16)
    gauge, age = place.gauge(listener), QueueAge()
    place.client(listener)
    assert age.sample(0, 0, gauge.read().waiting) == 0
    place.client(listener)
    assert age.sample(70, 0, gauge.read().waiting) == 70
    listener.accept()[0].close()
    assert age.sample(90, 1, gauge.read().waiting) == 20
    listener.accept()[0].close()
    assert age.sample(95, 2, gauge.read().waiting) == 0


def test_it_remembers_no_more_than_waits() -> None:
    age, pick = QueueAge(), random.Random(1)
    accepted = depth = 0
    for now in range(5000):
        depth = min(depth + pick.randrange(3), 40)
        taken = min(pick.randrange(3), depth)
        accepted, depth = accepted + taken, depth - taken
        age.sample(now, accepted, depth)
        assert len(age._arrivals) <= depth
