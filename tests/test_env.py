"""Addresses as text, and the real network behind the seam, on loopback."""

import socket

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.env import AddressError, RealEnv, format_address, is_loopback, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7", ("127.0.0.1", 7)),
        ("node-1.example", ("node-1.example", 7400)),
        (" a:0 ", ("a", 0)),
        ("[::1]:9", ("::1", 9)),
        ("[::1]", ("::1", 7400)),
        ("::1", ("::1", 7400)),
    ],
)
def test_addresses_are_read(text: str, address: tuple[str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", ":1", "a:", "a:b", "a:70000", "a:-1", "a b:1", "[::1:9", "a,b:1", "[]:1", "http://a:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="wanted host:port"):
        parse_address(text)


@given(st.from_regex(r"[a-z0-9.-]{1,20}|[0-9a-f]{0,4}(:[0-9a-f]{1,4}){2,7}", fullmatch=True), st.integers(0, 65535))
def test_the_text_form_reads_back(host: str, port: int) -> None:
    assert parse_address(format_address((host, port))) == (host, port)


def test_only_this_machine_is_loopback() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org")] == [False] * 4


async def echo_once(env: RealEnv) -> bytes:
    with env.listen("127.0.0.1", 0) as listener, await env.dial("127.0.0.1", listener.getsockname()[1]) as dialled:
        assert dialled.getblocking() is False
        await trio.lowlevel.wait_readable(listener)
        accepted, _ = listener.accept()
        with accepted:
            accepted.sendall(b"over the seam")
            await trio.lowlevel.wait_readable(dialled)
            return dialled.recv(100)


def test_a_dialled_socket_reaches_a_listening_one() -> None:
    assert trio.run(echo_once, RealEnv(disk=None)) == b"over the seam"


def test_dialling_nobody_is_refused_and_a_used_port_cannot_be_had() -> None:
    async def try_both() -> None:
        env = RealEnv(disk=None)
        with env.listen("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            with pytest.raises(OSError, match="in use"):
                env.listen("127.0.0.1", port)
        with pytest.raises(ConnectionRefusedError):
            await env.dial("127.0.0.1", port)
        with pytest.raises(socket.gaierror):
            await env.resolve("no-such-name.invalid", 1)

    trio.run(try_both)
