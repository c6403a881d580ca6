"""The reactor on real loopback sockets: one bad connection ends alone, nobody waits for a slow one, and trio's tasks get their turn."""

import socket
import threading
from contextlib import suppress

import pytest
import trio
import trio.lowlevel

from dynamo_fast.net import reactor as reactor_module
from dynamo_fast.wire.data_messages import encode_get, encode_put
from dynamo_fast.wire.frame import encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.net.served import HELLO, Caller, ask, served, until

# Bytes as they come ----------------------------------------------------------------------------------------------------


def test_frames_cut_at_every_byte_are_whole_again() -> None:
    async def main() -> None:
        async with served() as (server, address):
            ruler = await Caller.connect(address)
            caller = await Caller.connect(address)
            data = ask(b"one", 1) + ask(b"", 2) + ask(b"three", 3)
            for cut in range(len(data) + 1):
                await caller.send(data[:cut])
                await ruler.call(b"by now the first part has been received")
                await caller.send(data[cut:])
                got = [await caller.frame() for _ in range(3)]
                assert [(frame.request_id, frame.body) for frame in got] == [(1, b"one"), (2, b""), (3, b"three")]
            for at in range(len(data)):
                await caller.send(data[at : at + 1])
            assert [(await caller.frame()).request_id for _ in range(3)] == [1, 2, 3]
            assert server.count("protocol_errors") == 0

    trio.run(main)


def test_more_in_one_piece_than_a_pass_receives() -> None:
    """Frames larger than the receive, many small ones in one send, and both at once."""

    async def main() -> None:
        async with served() as (_, address), trio.open_nursery() as nursery:
            caller = await Caller.connect(address)
            bodies = [bytes([number % 251]) * size for number, size in enumerate([0, 1, 70_000, 300_000] + [10] * 5000 + [200_000])]
            nursery.start_soon(caller.send, b"".join(ask(body, number) for number, body in enumerate(bodies)))
            for number, body in enumerate(bodies):
                frame = await caller.frame()
                assert (frame.request_id, frame.body) == (number, body)

    trio.run(main)


def test_garbage_ends_its_connection_alone() -> None:
    async def main() -> None:
        async with served() as (server, address):
            good = await Caller.connect(address)
            flipped = bytearray(ask(b"flipped"))
            flipped[0] ^= 1
            too_long = encode_frame(MessageType.CONTROL, bytes(1 << 20))
            for greeted, garbage in [(True, b"GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n"), (True, bytes(24)), (True, bytes(flipped)),
                                     (False, ask(b"no hello")), (False, too_long), (True, ask(b"ok")[:-1] + b"?")]:  # fmt: skip
                bad = await Caller.connect(address, HELLO if greeted else b"")
                await bad.send(garbage)
                assert await bad.ended()
                assert await good.call(b"still here") == b"still here"
            assert server.count("protocol_errors") == 6
            assert server.count("connections") == 1
            assert len(server.closed) == 6

    trio.run(main)


# Bugs of ours ----------------------------------------------------------------------------------------------------


def test_an_exception_in_one_call_ends_that_connection_alone() -> None:
    async def main() -> None:
        async with served() as (server, address):
            good, bad = await Caller.connect(address), await Caller.connect(address)
            await bad.send(ask(b"raise") + ask(b"never handled"))
            assert await bad.ended()
            assert await good.call(b"here") == b"here"
            assert b"never handled" not in server.handled
            assert server.count("handler_errors") == 1

    trio.run(main)


def test_an_exception_at_the_end_of_a_connection_ends_no_other() -> None:
    async def main() -> None:
        async with served() as (server, address):

            def bug(connection: object) -> None:
                server.on_closed = server.closed.append
                raise RuntimeError("a bug")

            server.on_closed = bug
            good, gone = await Caller.connect(address), await Caller.connect(address)
            await gone.stream.aclose()
            await until(lambda: server.count("handler_errors") == 1)
            assert await good.call(b"here") == b"here"

    trio.run(main)


# Slow readers ----------------------------------------------------------------------------------------------------

MANY = 200


async def many_requests(caller: Caller) -> None:
    await caller.send(b"".join(ask(b"send 60000", number) for number in range(MANY)))


def test_a_slow_reader_is_not_read_from_and_gets_everything_when_it_reads() -> None:
    async def main() -> None:
        async with served() as (server, address):
            slow = await Caller.connect(address, receive_buffer_bytes=4096)
            good = await Caller.connect(address)
            for number in range(MANY):
                await slow.send(ask(b"send 60000", number))
                assert await good.call(b"served") == b"served"
            asked = server.handled.count(b"send 60000")
            assert asked < MANY, "its requests wait in its socket"
            assert server.connections[0].outgoing.capacity < 1 << 20
            assert [(await slow.frame()).request_id for _ in range(MANY)] == list(range(MANY))

    trio.run(main)


def test_one_that_reads_nothing_is_closed_while_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reactor_module, "SWEEP_S", 0.001)
    monkeypatch.setattr(reactor_module, "STUCK_S", 0)

    async def main() -> None:
        async with served() as (server, address):
            slow = await Caller.connect(address, receive_buffer_bytes=4096)
            good = await Caller.connect(address)
            await many_requests(slow)
            while not server.closed:
                assert await good.call(b"served") == b"served"
            assert "read none of its answers" in str(server.closed[0].close_reason)
            assert await good.call(b"served") == b"served"

    trio.run(main)


def test_a_peer_is_read_from_however_much_waits_for_it() -> None:
    """Two nodes that stopped reading each other would wait for ever."""

    async def main() -> None:
        async with served() as (server, address):
            peer = await Caller.connect(address, encode_frame(MessageType.HELLO, b"peer"), receive_buffer_bytes=4096)
            await many_requests(peer)
            await until(lambda: server.handled.count(b"send 60000") == MANY)
            assert len(server.connections[0].outgoing) > 1 << 20
            assert [(await peer.frame()).request_id for _ in range(MANY)] == list(range(MANY))

    trio.run(main)


def test_answers_beyond_their_limit_end_the_connection_alone() -> None:
    async def main() -> None:
        async with served(outgoing_bytes_max=1 << 20) as (server, address):
            slow = await Caller.connect(address, receive_buffer_bytes=4096)
            good = await Caller.connect(address)
            await many_requests(slow)
            while not server.closed:
                assert await good.call(b"served") == b"served"
            assert "does not read" in str(server.closed[0].close_reason)

    trio.run(main)


def test_one_that_is_closing_and_has_half_closed_itself_does_not_make_the_loop_spin() -> None:
    async def main() -> None:
        async with served() as (server, address):
            slow = await Caller.connect(address, receive_buffer_bytes=4096)
            await slow.send(ask(b"send 3000000"))
            await until(lambda: server.handled != [])
            server.connections[0].close("enough")
            await slow.stream.send_eof()
            good = await Caller.connect(address)
            await good.call(b"the news has arrived")
            before = server.count("passes")
            for _ in range(100):
                await trio.lowlevel.checkpoint()
            assert server.count("passes") - before < 20
            assert len((await slow.frame()).body) == 3_000_000, "what was said before is still delivered"
            assert await slow.ended()

    trio.run(main)


# Passes and trio's tasks ----------------------------------------------------------------------------------------------------


def test_what_a_task_appends_between_passes_is_sent() -> None:
    async def main() -> None:
        async with served() as (server, address):
            caller = await Caller.connect(address)
            for number in range(20):
                server.connections[0].send(MessageType.CONTROL, b"news", request_id=number)
                frame = await caller.frame()
                assert (frame.request_id, frame.body) == (number, b"news")

    trio.run(main)


def test_a_deadline_passes_without_any_frame_coming_in() -> None:
    async def main() -> None:
        async with served() as (server, address):
            server.engine.hold_syncs = True
            caller = await Caller.connect(address)
            body = encode_put(b"k", put_id=b"i" * 16, dw=1, deadline_ms=20)
            await caller.send(encode_frame(MessageType.PUT, body, request_id=1))
            assert (await caller.frame()).status == Status.DEADLINE

    trio.run(main)


def test_a_pass_that_cannot_be_written_answers_nothing_and_the_next_is_served() -> None:
    async def main() -> None:
        async with served() as (server, address):
            caller = await Caller.connect(address)
            server.engine.failure = "no space left"
            await caller.send(encode_frame(MessageType.PUT, encode_put(b"k", put_id=b"i" * 16), request_id=1))
            await until(lambda: server.count("failed_passes") == 1)
            await caller.send(encode_frame(MessageType.GET, encode_get(b"other"), request_id=2))
            assert (await caller.frame()).request_id == 2

    trio.run(main)


def test_tasks_get_their_turn_however_busy_the_connections_are() -> None:
    """Eight connections never stop asking, from threads; a task must still be able to take as many steps as it likes."""

    async def main() -> None:
        async with served() as (server, address):
            stopping = threading.Event()

            def hammer() -> None:
                with socket.create_connection(address) as plain:
                    plain.sendall(HELLO)
                    plain.recv(1000)
                    while not stopping.is_set():
                        plain.sendall(encode_frame(MessageType.GET, encode_get(b"k"), request_id=1) * 50)
                        plain.recv(65536)

            threads = [threading.Thread(target=hammer) for _ in range(8)]
            for thread in threads:
                thread.start()
            try:
                await until(lambda: len(server.connections) == 8)
                served_before = server.plane.statistics()["gets"]
                for _ in range(50):
                    await trio.lowlevel.checkpoint()
                await until(lambda: server.plane.statistics()["gets"] > served_before)
            finally:
                stopping.set()
                await until(lambda: server.count("connections") == 0)
                for thread in threads:
                    thread.join()
            assert server.plane.statistics()["gets"] > 8

    trio.run(main)


def test_stopping_sends_what_was_said_and_closes_every_connection() -> None:
    async def main() -> None:
        async with served() as (server, address):
            callers = [await Caller.connect(address) for _ in range(5)]
            for connection in server.connections:
                connection.send(MessageType.CONTROL, b"goodbye", request_id=1)
            server.reactor.stop()
            await server.ended.wait()
            for caller in callers:
                assert (await caller.frame()).body == b"goodbye"
                assert await caller.ended()
            assert [str(connection.close_reason) for connection in server.closed] == ["this node is shutting down"] * 5

    trio.run(main)


def test_when_it_listens_no_more_connections_that_are_open_stay() -> None:
    async def main() -> None:
        async with served() as (server, address):
            caller = await Caller.connect(address)
            server.reactor.stop_listening()
            with pytest.raises(OSError, match="refused"):
                await Caller.connect(address)
            assert await caller.call(b"here") == b"here"

    trio.run(main)


def test_all_connections_together_are_bounded_and_who_holds_little_is_served() -> None:
    """Twenty clients begin a frame of a MiB each and never end it: the sum stays within the limit, by closing some of them."""

    async def main() -> None:
        limit = 16 << 20
        async with served(buffered_bytes_max=limit) as (server, address):
            modest = await Caller.connect(address)
            unfinished = encode_frame(MessageType.CONTROL, bytes(1 << 20), request_id=1)[:-1]
            hoarders = [await Caller.connect(address) for _ in range(20)]
            for hoarder in hoarders:
                with suppress(trio.BrokenResourceError):
                    await hoarder.send(unfinished)
            await until(lambda: server.count("crowded_out") >= 4)
            assert await modest.call(b"still here") == b"still here"
            assert limit - (1 << 20) < server.count("buffered_bytes") <= limit
            assert server.count("crowded_out") <= 5
            for connection in list(server.connections[1:]):
                connection.close("the test is over")
            await until(lambda: server.count("connections") == 1)
            assert server.count("buffered_bytes") == 0

    trio.run(main)
