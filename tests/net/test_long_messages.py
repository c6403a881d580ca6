"""Messages in pieces over real sockets: whole at both ends, in nobody's way, and no way to fill a node's memory."""

from __future__ import annotations

import trio

from dynamo_fast.wire.frame import MORE, PIECE, encode_frame
from dynamo_fast.wire.status import MessageType
from tests.net.served import Caller, ask, served, until

MIB = 1 << 20
PEER = encode_frame(MessageType.HELLO, b"peer", request_id=0)
GATHERER = encode_frame(MessageType.HELLO, b"gatherer", request_id=0)
PIECE_BYTES = 256 << 10


def piece(body: bytes, more: bool, request_id: int = 1) -> bytes:
    return encode_frame(MessageType.CONTROL, body, request_id, 0, PIECE | (MORE if more else 0))


def test_a_message_longer_than_any_frame_goes_there_and_back() -> None:
    async def main() -> None:
        async with served(frame_bytes_max=MIB, outgoing_bytes_max=MIB) as (server, address):
            peer = await Caller.connect(address, PEER)
            body = bytes(range(256)) * (20 * MIB // 256)
            for at in range(0, len(body), PIECE_BYTES):
                await peer.send(piece(body[at : at + PIECE_BYTES], at + PIECE_BYTES < len(body)))
            frame = await peer.frame()
            assert (frame.request_id, frame.body == body) == (1, True)
            assert server.handled == [body]
            assert server.count("buffered_bytes") == server.count("handler_errors") == 0

    trio.run(main)


def test_a_long_answer_is_in_nobodys_way() -> None:
    """Not in that of another client, nor in that of a small question on the same connection, although that was asked later."""

    async def main() -> None:
        async with served() as (server, address):
            other = await Caller.connect(address)
            for hello in (PEER, GATHERER):
                asker = await Caller.connect(address, hello, receive_buffer_bytes=65536)
                await asker.send(ask(b"send 40000000", 1))
                await until(lambda: bool(server.handled))
                assert await other.call(b"other") == b"other"
                if hello == PEER:  # a client is not read from while it does not read
                    await asker.send(ask(b"small", 2))
                    await until(lambda: b"small" in server.handled)
                    assert (await asker.frame()).body == b"small"
                frame = await asker.frame()
                assert (frame.request_id, len(frame.body)) == (1, 40_000_000)
                server.handled.clear()
            assert server.count("protocol_errors") == 0

    trio.run(main)


def test_pieces_without_end_are_dropped_with_their_connection_at_the_limit() -> None:
    async def main() -> None:
        async with served(frame_bytes_max=MIB, message_bytes_max=8 * MIB) as (server, address):
            hostile, good = await Caller.connect(address, PEER), await Caller.connect(address, PEER)
            most = 0
            for _ in range(8 * MIB // PIECE_BYTES):
                await hostile.send(piece(bytes(PIECE_BYTES), True))
                most = max(most, server.count("buffered_bytes"))
            await until(lambda: server.count("buffered_bytes") == 8 * MIB)
            assert most <= 8 * MIB
            assert await good.call(b"still here") == b"still here"
            await hostile.send(piece(b"x", True))
            assert await hostile.ended()
            assert await good.call(b"still here") == b"still here"
            assert (server.count("protocol_errors"), server.count("buffered_bytes")) == (1, 0)
            assert len(server.closed) == 1
            assert server.closed[0].held_bytes == 0, "whoever holds on to it holds no memory"

    trio.run(main)


def test_of_clients_nothing_is_put_together_whatever_they_say_they_take() -> None:
    async def main() -> None:
        async with served() as (server, address):
            good = await Caller.connect(address)
            for hello in (GATHERER, PEER[:0]):
                stranger = await Caller.connect(address, hello)
                await stranger.send(piece(b"a piece", True))
                assert await stranger.ended()
                assert await good.call(b"still here") == b"still here"
            assert (server.count("protocol_errors"), server.count("buffered_bytes")) == (2, 0)

    trio.run(main)


def test_a_peer_that_dies_between_two_pieces_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with served() as (server, address):
            peer, other = await Caller.connect(address, PEER), await Caller.connect(address, PEER)
            await peer.send(piece(bytes(PIECE_BYTES), True) * 4)
            await until(lambda: server.count("buffered_bytes") == 4 * PIECE_BYTES)
            await peer.stream.aclose()
            await until(lambda: server.count("buffered_bytes") == 0)
            assert len(server.closed) == 1
            assert server.handled == []
            await other.send(piece(b"its last, from another", False))
            assert (await other.frame()).body == b"its last, from another"

    trio.run(main)
