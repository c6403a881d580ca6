"""Connections on real loopback sockets: how each begins and ends, whoever ends it and whatever it is owed."""

import gc
import os
import resource
import socket
import struct
from contextlib import suppress

import pytest
import trio
import trio.lowlevel

from dynamo_fast.net import reactor as reactor_module
from dynamo_fast.wire.data_messages import decode_get_reply, encode_get, encode_put
from dynamo_fast.wire.frame import encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.net.served import Caller, ask, served, until

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends a reset


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep comes all the time, and has no patience."""
    monkeypatch.setattr(reactor_module, "SWEEP_S", 0.001)
    monkeypatch.setattr(reactor_module, "HELLO_S", 0)
    monkeypatch.setattr(reactor_module, "STUCK_S", 0)


def test_what_was_foreseen_of_one_connections_bytes_is_not_believed_of_anothers() -> None:
    """Both receive into one memory: the frames of the second lie exactly where those of the first, never handled, were."""

    async def main() -> None:
        async with served() as (_, address):
            first = await Caller.connect(address)
            puts = [encode_frame(MessageType.PUT, encode_put(key, key, put_id=key * 4), request_id=1) for key in (b"aaaa", b"bbbb")]
            await first.send(ask(b"raise") + puts[0] * 3)
            assert await first.ended()
            second = await Caller.connect(address, b"")
            await second.send(encode_frame(MessageType.HELLO, b"hello") + puts[1] * 2)
            assert [(await second.frame()).status for _ in range(3)] == [Status.OK] * 3
            for key, status in ((b"aaaa", Status.NOT_FOUND), (b"bbbb", Status.OK)):
                await second.send(encode_frame(MessageType.GET, encode_get(key), request_id=2))
                assert (await second.frame()).status == status

    trio.run(main)


@pytest.mark.parametrize("step_bytes", [100_000, 4093, 211])
def test_more_frames_than_are_looked_at_at_once_each_meet_their_own_key(step_bytes: int) -> None:
    """Windows of look-ahead end among frames without a key too, and receives end inside frames."""

    async def main() -> None:
        async with served() as (_, address):
            caller = await Caller.connect(address)
            keys = [b"key %d" % number for number in range(200)]
            puts = [
                encode_frame(MessageType.PUT, encode_put(key, key * 2, put_id=key.ljust(16)), request_id=number) + ask(b"") * (number % 3)
                for number, key in enumerate(keys)
            ]
            sent = b"".join(puts)
            for at in range(0, len(sent), step_bytes):
                await caller.send(sent[at : at + step_bytes])
            replies = [await caller.frame() for _ in range(sent.count(ask(b"")) + len(keys))]
            assert [reply.status for reply in replies if reply.type == MessageType.PUT_REPLY] == [Status.OK] * len(keys)
            gets = b"".join(encode_frame(MessageType.GET, encode_get(key), request_id=number) for number, key in enumerate(keys))
            await caller.send(gets)
            for key in keys:
                _, siblings = decode_get_reply((await caller.frame()).body)
                assert [value for value, _, _ in siblings] == [key * 2]

    trio.run(main)


def test_connections_beyond_the_limit_are_closed_and_room_comes_back() -> None:
    async def main() -> None:
        async with served(connections_max=16) as (server, address):
            callers = [await Caller.connect(address) for _ in range(16)]
            one_more = await Caller.connect(address, b"")
            assert await one_more.ended()
            assert server.count("refused") == 1
            await callers.pop().stream.aclose()
            await until(lambda: server.count("connections") == 15)
            assert await (await Caller.connect(address)).call(b"in") == b"in"

    trio.run(main)


def test_a_connection_ends_when_either_side_ends_it() -> None:
    async def main() -> None:
        async with served() as (server, address):
            half = await Caller.connect(address)
            await half.stream.send_eof()
            assert await half.ended()
            reset = await Caller.connect(address)
            reset.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            await reset.stream.aclose()
            await until(lambda: server.count("connections") == 0)
            ours = await Caller.connect(address)
            server.connections[-1].send(MessageType.CONTROL, b"last words", request_id=5)
            server.connections[-1].close("enough")
            assert (await ours.frame()).body == b"last words"
            assert await ours.ended()
            assert [connection.close_reason for connection in server.closed][-1] == "enough"

    trio.run(main)


def test_a_dialled_socket_that_was_reset_at_once_is_told_of_like_any_other() -> None:
    async def main() -> None:
        async with served() as (server, _):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                dialled = socket.create_connection(listener.getsockname())
                accepted, _ = listener.accept()
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                accepted.close()
            dialled.setblocking(False)
            connection = server.reactor.adopt(dialled)
            await until(lambda: server.closed == [connection])
            assert connection.closing

    trio.run(main)


def test_whoever_says_no_hello_is_closed(hasty: None) -> None:
    async def main() -> None:
        async with served() as (server, address):
            silent = await Caller.connect(address, b"")
            assert await silent.ended()
            assert "no hello" in str(server.closed[0].close_reason)

    trio.run(main)


def test_who_comes_after_one_that_left_gets_no_answer_meant_for_it() -> None:
    """The answer waits for the disk; meanwhile another client has the same descriptor and the same place in the table."""

    async def main() -> None:
        async with served() as (server, address):
            server.engine.hold_syncs = True
            first = await Caller.connect(address)
            await first.send(encode_frame(MessageType.PUT, encode_put(b"k", put_id=b"i" * 16, dw=1), request_id=1))
            await until(lambda: server.plane.requests_in_flight == 1)
            place = server.connections[0].slot
            first.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            await first.stream.aclose()
            await until(lambda: server.count("connections") == 0)
            second = await Caller.connect(address)
            assert server.connections[1].slot == place
            server.engine.finish_syncs()
            server.plane.disk_synced()
            assert server.plane.requests_in_flight == 0
            assert await second.call(b"mine") == b"mine"

    trio.run(main)


PUT = encode_frame(MessageType.PUT, encode_put(b"k", put_id=b"i" * 16, dw=1), request_id=7)  # answered when the disk has it


@pytest.mark.parametrize("with_others", [False, True])
def test_who_closes_its_own_side_still_gets_its_answers(with_others: bool) -> None:
    async def main() -> None:
        async with served() as (server, address):
            server.engine.hold_syncs = True
            half, good = await Caller.connect(address), await Caller.connect(address)
            await half.send(PUT + (b"".join(ask(b"send 100000", number) for number in range(40)) if with_others else b""))
            await half.stream.send_eof()
            await until(lambda: server.plane.requests_in_flight == 1 and len(server.handled) == 40 * with_others)
            assert await good.call(b"here") == b"here"
            assert server.count("connections") == 2
            before = server.count("passes")
            for _ in range(100):
                await trio.lowlevel.checkpoint()
            assert server.count("passes") - before < 20, "the end that is not watched for makes no pass"
            server.engine.finish_syncs()
            server.plane.disk_synced()
            got = [(await half.frame()).request_id for _ in range(1 + 40 * with_others)]
            assert sorted(got) == sorted([7, *range(40)] if with_others else [7])
            assert await half.ended()
            await until(lambda: server.count("connections") == 1)
            assert await good.call(b"still here") == b"still here"

    trio.run(main)


def test_a_last_request_and_the_end_that_come_together_are_one_answer_and_the_end() -> None:
    async def main() -> None:
        async with served() as (server, address):
            for size in (0, 10, 300_000):  # the last one takes more than one send
                half = await Caller.connect(address, receive_buffer_bytes=4096)
                await half.send(ask(b"send %d" % size) + ask(b"half a frame")[:-1])
                await half.stream.send_eof()
                assert len((await half.frame()).body) == size
                assert await half.ended()
            await until(lambda: server.count("connections") == 0)

    trio.run(main)


def test_who_closes_its_own_side_and_then_resets_is_gone_at_once() -> None:
    async def main() -> None:
        async with served() as (server, address):
            server.engine.hold_syncs = True
            half = await Caller.connect(address)
            await half.send(PUT)
            await half.stream.send_eof()
            await until(lambda: server.plane.requests_in_flight == 1)
            good = await Caller.connect(address)
            assert await good.call(b"by now the end has been seen") != b""
            assert server.count("connections") == 2
            half.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            await half.stream.aclose()
            await until(lambda: server.count("connections") == 1)
            server.engine.finish_syncs()
            server.plane.disk_synced()
            assert server.plane.requests_in_flight == 0
            assert await good.call(b"here") == b"here"

    trio.run(main)


def test_a_peer_that_closes_its_side_is_gone_whatever_it_is_owed() -> None:
    async def main() -> None:
        async with served() as (server, address):
            server.engine.hold_syncs = True
            peer = await Caller.connect(address, encode_frame(MessageType.HELLO, b"peer"))
            await peer.send(PUT)
            await until(lambda: server.plane.requests_in_flight == 1)
            await peer.stream.send_eof()
            await until(lambda: server.count("connections") == 0)

    trio.run(main)


def test_an_answer_that_does_not_come_holds_a_half_closed_connection_no_longer_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reactor_module, "SWEEP_S", 0.001)
    monkeypatch.setattr(reactor_module, "HALF_CLOSED_S", 0)

    async def main() -> None:
        async with served() as (server, address):
            server.engine.hold_syncs = True
            half = await Caller.connect(address)
            await half.send(PUT)
            await half.stream.send_eof()
            assert await half.ended()
            assert server.plane.requests_in_flight == 1
            assert [connection.close_reason for connection in server.closed] == ["closed by the other side, 0 s ago"]

    trio.run(main)


def test_without_descriptors_new_connections_wait_and_the_loop_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reactor_module, "SWEEP_S", 0.01)

    async def main() -> None:
        async with served() as (server, address):
            good = await Caller.connect(address)
            waiting = socket.socket()
            gc.collect()
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            taken = []
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (waiting.fileno() + 8, limits[1]))
                with suppress(OSError):
                    while True:
                        taken.append(os.dup(0))
                waiting.connect(address)
                for _ in range(50):
                    assert await good.call(b"served") == b"served"
                before = server.count("passes")
                for _ in range(50):
                    await trio.lowlevel.checkpoint()
                assert server.count("passes") - before < 20
                assert server.count("accepted") == 1
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                for descriptor in taken:
                    os.close(descriptor)
            await until(lambda: server.count("accepted") == 2)
            waiting.close()

    trio.run(main)
