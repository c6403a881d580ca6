"""Buffer: bytes come out as they went in, memory follows what is held, and the limit is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.wire.buffer import Buffer
from dynamo_fast.wire.errors import BufferFull

SLACK = 65536


def test_bytes_come_out_in_order() -> None:
    buffer = Buffer(1000)
    buffer.push(b"one ")
    buffer.push(b"")
    buffer.push(b"two")
    assert (len(buffer), bytes(buffer)) == (7, b"one two")
    assert buffer.take(2) == b"on"
    buffer.push(b" three")
    assert buffer.take(1000) == b"e two three"
    assert (len(buffer), buffer.take(1)) == (0, b"")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(0, 9000)),
            st.tuples(st.just("take"), st.integers(0, 9000)),
            st.tuples(st.just("keep"), st.integers(0, 9000)),
        ),
        max_size=60,
    ),
    st.integers(1, 40_000),
    st.sampled_from([1, 100, SLACK]),
)
def test_it_is_a_queue(steps: list[tuple[str, int]], limit: int, slack: int) -> None:
    """Against a bytes object, with every byte telling its place in the stream."""
    buffer, model, written = Buffer(limit, slack), b"", 0
    for step, n in steps:
        if step == "push":
            data = bytes((written + i) % 251 for i in range(n))
            if len(model) + n > limit:
                with pytest.raises(BufferFull):
                    buffer.push(data)
            else:
                buffer.push(data)
                model, written = model + data, written + n
        elif step == "take":
            assert buffer.take(n) == model[:n]
            model = model[n:]
        elif n <= len(model):
            buffer.keep(n)
            model = model[:n]
        assert bytes(buffer) == model
        assert buffer.head <= buffer.tail <= buffer.capacity
        assert buffer.capacity <= max(limit, 512)


def test_growth_allocates_no_more_than_held_plus_slack() -> None:
    buffer = Buffer(1 << 24)
    for _ in range(200):
        buffer.push(b"x" * 5000)
        assert buffer.capacity <= len(buffer) + SLACK


def test_an_outgoing_buffer_doubles() -> None:
    """Where the bytes are our own, growth is geometric: few allocations, no more than twice what is held."""
    buffer = Buffer(1 << 24, 1 << 24)
    capacities = set()
    for _ in range(2000):
        buffer.push(b"x" * 1000)
        capacities.add(buffer.capacity)
        assert buffer.capacity <= 2 * len(buffer) + 512
    assert len(capacities) < 20


def test_memory_goes_back_when_it_empties() -> None:
    buffer = Buffer(1 << 24)
    buffer.push(b"x" * 1_000_000)
    buffer.take(1_000_000)
    assert buffer.capacity <= 4096


def test_memory_goes_back_when_little_is_left() -> None:
    """One byte behind a megabyte must not hold the megabyte."""
    buffer = Buffer(1 << 24)
    buffer.push(b"x" * 1_000_000 + b"y")
    for _ in range(10):
        buffer.take(100_000)
    assert bytes(buffer) == b"y"
    assert buffer.capacity <= SLACK * 4


def test_a_small_buffer_keeps_its_memory() -> None:
    buffer = Buffer(1 << 24)
    buffer.push(b"x" * 1000)
    capacity = buffer.capacity
    buffer.take(1000)
    assert buffer.capacity == capacity > 0


def test_a_full_buffer_says_what_it_holds_and_takes_nothing() -> None:
    buffer = Buffer(10)
    buffer.push(b"12345678")
    with pytest.raises(BufferFull, match="holds 8 bytes of 10 and was asked to take 3 more"):
        buffer.push(b"abc")
    assert bytes(buffer) == b"12345678"
    buffer.push(b"ab")


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        Buffer(0)
    buffer = Buffer(10)
    buffer.push(b"ab")
    with pytest.raises(ValueError, match="cannot keep 3"):
        buffer.keep(3)
