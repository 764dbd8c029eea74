"""Addresses as they are written."""

from __future__ import annotations

import pytest

from gateway.net.address import InheritedAddress, TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("/run/gateway/main.sock", "/run/gateway/main.sock"),
        ("unix:/run/gateway/main.sock", "/run/gateway/main.sock"),
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("[::1]:9000", "[::1]:9000"),
        ("[0:0::1]:9000", "[::1]:9000"),
        ("fd:0", "fd:0"),
        ("systemd", "systemd"),
        ("systemd:shop", "systemd:shop"),
        ("systemd:shop.socket /1", "systemd:shop.socket /1"),
    ],
)
def test_an_address_is_read_and_written(text: str, written: str) -> None:
    assert str(parse_address(text)) == written


def test_the_kinds() -> None:
    assert isinstance(parse_address("/a"), UnixAddress)
    assert isinstance(parse_address("127.0.0.1:1"), TcpAddress)
    assert parse_address("fd:7") == InheritedAddress(7)
    assert parse_address("systemd") == InheritedAddress(None)
    assert parse_address("systemd:shop") == InheritedAddress(None, "shop")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "write /path.sock"),
        ("9000", "write /path.sock"),
        (":9000", "IP address"),
        ("localhost:9000", "IP address"),
        ("::1:9000", "in brackets"),
        ("[127.0.0.1]:9000", "in brackets"),
        ("127.0.0.1:0", "write /path.sock"),
        ("127.0.0.1:65536", "write /path.sock"),
        ("127.0.0.1:09000", "write /path.sock"),
        ("127.0.0.1:+900", "write /path.sock"),
        ("unix:relative.sock", "absolute"),
        ("run/main.sock", "absolute"),
        ("/" + "a" * 107, "107 bytes"),
        ("fd:", "number"),
        ("fd:-1", "number"),
        ("systemd:", "FileDescriptorName"),
        ("systemd:a:b", "no colon"),
        ("systemd:caf\xe9", "ASCII"),
        ("systemd:a\n", "FileDescriptorName"),
        ("systemd:" + "a" * 256, "255"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        parse_address(text)
