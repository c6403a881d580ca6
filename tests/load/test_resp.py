"""The generator over RESP: against a well-behaved server in whole and in pieces, and against every way to misbehave."""

import threading
from dataclasses import replace

import pytest

from dynamo_fast.load.keys import KeySpace
from dynamo_fast.load.report import LoadError
from dynamo_fast.load.target import RespTarget
from dynamo_fast.load.workload import Workload, fill, run, verify
from tests.load.fake_server import FakeRedis, FakeServer

SMALL = Workload(connections=4, depth=4, operations=400, seconds=0, warmup_s=0, silence_s=5)


@pytest.mark.parametrize("fragment_bytes", [None, 1, 7])
@pytest.mark.parametrize("value_bytes", [(0, 0), (1, 300)])
def test_what_is_written_is_read_back(value_bytes: tuple[int, int], fragment_bytes: int | None) -> None:
    redis, keys = FakeRedis(), KeySpace(200, *value_bytes)
    with FakeServer(redis, fragment_bytes) as server:
        target = RespTarget([server.address])
        filled = fill(target, keys, SMALL)
        mixed = run(target, keys, replace(SMALL, gets=0.5, order="zipf"))
        checked = verify(target, keys, SMALL)
    assert filled.problems == mixed.problems == checked.problems == []
    assert filled.puts is not None
    assert filled.puts["count"] == 200
    assert mixed.puts is not None
    assert mixed.gets is not None
    assert mixed.puts["count"] + mixed.gets["count"] == mixed.completed == 400
    assert checked.gets is not None
    assert checked.gets["count"] == 200
    assert sorted(redis.values) == [keys.name(number) for number in range(200)]
    assert all(value_bytes[0] <= len(value) <= value_bytes[1] for value in redis.values.values())


def test_large_values_and_a_deep_pipeline() -> None:
    keys = KeySpace(64, 1 << 20, 1 << 20)
    with FakeServer(FakeRedis()) as server:
        target = RespTarget([server.address])
        workload = replace(SMALL, connections=2, depth=16, operations=64)
        assert run(target, keys, workload).problems == []
        assert verify(target, keys, workload).problems == []


def test_connections_are_spread_over_all_servers() -> None:
    first, second = FakeRedis(), FakeRedis()
    with FakeServer(first) as one, FakeServer(second) as two:
        report = run(RespTarget([one.address, two.address]), KeySpace(100, 8, 8), replace(SMALL, order="once", operations=0))
    assert report.problems == []
    assert len(first.values) + len(second.values) == 100
    assert first.values
    assert second.values


def test_each_set_waits_for_its_replicas() -> None:
    redis = FakeRedis()
    with FakeServer(redis) as server:
        target = RespTarget([server.address], wait_replicas=2)
        keys = KeySpace(100, 8, 8)
        assert fill(target, keys, SMALL).problems == []
        assert redis.commands == [b"SET", b"WAIT"] * 100
        redis.replicas = 1
        report = run(target, keys, SMALL)
    assert report.failures == {"too few replicas": 400}
    assert len(report.problems) == 1


def test_a_wrong_value_and_a_lost_key_are_found() -> None:
    redis, keys = FakeRedis(), KeySpace(100, 8, 8)
    with FakeServer(redis) as server:
        target = RespTarget([server.address])
        fill(target, keys, SMALL)
        redis.values[keys.name(3)] = b"12345678"
        redis.values[keys.name(5)] += b"x"
        del redis.values[keys.name(7)]
        report = verify(target, keys, SMALL)
    assert report.values_wrong == 3
    assert report.problems == ["3 gets did not return what was last written"]


def test_a_key_never_written_may_be_absent() -> None:
    with FakeServer(FakeRedis()) as server:
        assert verify(RespTarget([server.address]), KeySpace(100, 8, 8), SMALL).problems == []


def test_error_replies_are_counted_and_quoted() -> None:
    redis = FakeRedis()
    redis.answer = lambda command: b"-OOM command not allowed\r\n"  # type: ignore[method-assign]
    with FakeServer(redis) as server:
        report = run(RespTarget([server.address]), KeySpace(100, 8, 8), SMALL)
    assert report.problems == ["400 requests failed (error reply): OOM command not allowed"]
    assert not report.as_dict()["ok"]


@pytest.mark.parametrize("reply", [b"?\r\n", b"+OK\n", b":1\r\n", b"x" * 5000, b"+OK\r\n$x\r\n", b"+OK\r\n$-7\r\n"])
def test_bytes_that_are_no_reply_end_the_run(reply: bytes) -> None:
    redis = FakeRedis()
    redis.answer = lambda command: b"+OK\r\n" if command[0] == b"SET" and reply.startswith(b"+OK\r\n") else reply.removeprefix(b"+OK\r\n")  # type: ignore[method-assign]
    with FakeServer(redis) as server, pytest.raises(LoadError, match="no reply of this protocol"):
        run(RespTarget([server.address]), KeySpace(100, 8, 8), replace(SMALL, gets=0.5))


def test_an_answer_nobody_asked_for_ends_the_run() -> None:
    redis = FakeRedis()
    redis.answer = lambda command: b"+OK\r\n+OK\r\n"  # type: ignore[method-assign]
    with FakeServer(redis) as server, pytest.raises(LoadError, match="was not sent"):
        run(RespTarget([server.address]), KeySpace(100, 8, 8), SMALL)


def test_a_closed_connection_ends_the_run_and_names_the_server() -> None:
    redis, keys = FakeRedis(), KeySpace(100, 8, 8)

    def answer(command: list[bytes]) -> bytes:
        if len(redis.commands) > 50:
            raise ConnectionError
        return b"+OK\r\n"

    redis.answer = answer  # type: ignore[method-assign]
    with FakeServer(redis) as server:
        with pytest.raises(LoadError, match=rf"127\.0\.0\.1:{server.address[1]} closed the connection|the server closed"):
            run(RespTarget([server.address]), keys, SMALL)
        # The keys that were in flight are free again and their values no longer certain.
        redis.answer = FakeRedis().answer  # type: ignore[method-assign]
        assert fill(RespTarget([server.address]), keys, SMALL).problems == []


def test_silence_ends_the_run() -> None:
    redis = FakeRedis()
    redis.answer = lambda command: b""  # type: ignore[method-assign]
    with FakeServer(redis) as server, pytest.raises(LoadError, match="16 requests are in flight, and nothing was answered"):
        run(RespTarget([server.address]), KeySpace(100, 8, 8), replace(SMALL, silence_s=0.2))


def test_nobody_listening_is_said_with_the_address() -> None:
    with FakeServer(FakeRedis()) as server:
        address = server.address
    with pytest.raises(OSError, match=f"127.0.0.1:{address[1]}: Connection refused"):
        run(RespTarget([address]), KeySpace(100, 8, 8), SMALL)


def test_open_loop_charges_a_stall_to_every_request_it_delays() -> None:
    redis = FakeRedis()

    def answer(command: list[bytes]) -> bytes:
        if len(redis.commands) == 100:
            threading.Event().wait(0.3)
        return b"+OK\r\n"

    redis.answer = answer  # type: ignore[method-assign]
    with FakeServer(redis) as server:
        workload = replace(SMALL, connections=1, depth=1, rate_per_s=1000.0, seconds=1.0, operations=0)
        report = run(RespTarget([server.address]), KeySpace(100, 8, 8), workload)
    # One connection: 300 requests came due during the stall, and all of them waited for it, 150 ms on average.
    assert report.puts is not None
    assert report.puts["count"] == 1000
    assert report.puts["max"] >= 300e6
    assert report.puts["mean"] >= 0.3 * 0.15e9 * 0.9


class Split(RespTarget):
    """As if the first key alone belonged to the first of two servers."""

    def group_of(self, keys: KeySpace) -> bytes:
        return bytes(1) + b"\x01" * (keys.count - 1)


def test_open_loop_goes_on_where_a_server_has_fewer_keys_than_may_be_in_flight_on_it() -> None:
    with FakeServer(FakeRedis()) as server:
        workload = replace(SMALL, connections=2, depth=2, rate_per_s=1e6, operations=200)
        report = run(Split([server.address] * 2), KeySpace(4, 8, 8), workload)
    assert report.completed == 200


def test_open_loop_ends_at_its_operations() -> None:
    with FakeServer(FakeRedis()) as server:
        report = run(RespTarget([server.address]), KeySpace(100, 8, 8), replace(SMALL, rate_per_s=4000.0, operations=200))
    assert report.completed == 200
    assert 0.04 < report.seconds < 1.0
