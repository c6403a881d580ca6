"""Contexts: sealed for one cluster, one key and one secret, and refused whole at the first changed bit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.context import BadContext, open_context, seal_context, siphash
from dynamo_fast.core.vector_clock import VectorClock

SECRET, CLUSTER, POSITION = (bytes([number]) * 16 for number in (1, 2, 3))
CLOCK = VectorClock([(b"a" * 16, 7, 3, 1000), (b"b" * 16, 8, 1, 2000)])


def test_the_layout() -> None:
    context = seal_context(SECRET, CLUSTER, POSITION, CLOCK)
    assert context[:40] == b"\x01\0\x02\0\0\0\0\0" + CLUSTER + POSITION
    assert context[40:-8] == CLOCK.packed
    assert int.from_bytes(context[-8:], "little") == siphash(SECRET, context[:-8])


@pytest.mark.parametrize("count", [0, 1, 5, 1024, 1637])
def test_what_was_sealed_opens(count: int) -> None:
    clock = VectorClock((bytes([i % 256, i // 256]) * 8, i, i + 1, i) for i in range(count))
    context = seal_context(SECRET, CLUSTER, POSITION, clock)
    assert len(context) == 48 + 40 * count < 2**16
    assert open_context(SECRET, CLUSTER, POSITION, context) == (clock, None)


@pytest.mark.parametrize("count", [0, 1, 1024, 1636])
def test_a_dot_beyond_the_clock_is_sealed_with_it(count: int) -> None:
    clock = VectorClock((bytes([i % 256, i // 256]) * 8, i, i + 1, i) for i in range(count))
    dot = (b"d" * 16, 2**64 - 1, 17, 1000)
    context = seal_context(SECRET, CLUSTER, POSITION, clock, dot)
    assert len(context) == 88 + 40 * count < 2**16
    assert context[1] == 1
    assert context[-48:-8] == b"d" * 16 + b"\xff" * 8 + (17).to_bytes(8, "little") + (1000).to_bytes(8, "little")
    assert open_context(SECRET, CLUSTER, POSITION, context) == (clock, dot)


@pytest.mark.parametrize("dot", [None, (b"d" * 16, 5, 17, 1000)])
def test_every_flipped_bit_is_refused(dot: tuple[bytes, int, int, int] | None) -> None:
    context = seal_context(SECRET, CLUSTER, POSITION, CLOCK, dot)
    for bit in range(8 * len(context)):
        changed = bytearray(context)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadContext):
            open_context(SECRET, CLUSTER, POSITION, bytes(changed))


def test_every_cut_and_every_surplus_is_refused() -> None:
    context = seal_context(SECRET, CLUSTER, POSITION, CLOCK)
    for wrong in [context[:end] for end in range(len(context))] + [context + b"\0", context[:40] + context[80:]]:
        with pytest.raises(BadContext, match="read the key again"):
            open_context(SECRET, CLUSTER, POSITION, wrong)


def test_another_secret_cluster_or_key_is_refused() -> None:
    context = seal_context(SECRET, CLUSTER, POSITION, CLOCK)
    other = bytes([9]) * 16
    for three in [(other, CLUSTER, POSITION), (SECRET, other, POSITION), (SECRET, CLUSTER, other)]:
        with pytest.raises(BadContext):
            open_context(*three, context)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(BadContext):
        open_context(SECRET, CLUSTER, POSITION, noise)


def test_a_clock_too_long_for_a_context_is_refused() -> None:
    longest = VectorClock([(b"n" * 16, epoch, 1, 0) for epoch in range(1637)])
    with pytest.raises(ValueError, match="one less with a dot"):
        seal_context(SECRET, CLUSTER, POSITION, longest, (b"n" * 16, 1, 2, 3))
    with pytest.raises(ValueError, match="at most 1637 entries"):
        seal_context(SECRET, CLUSTER, POSITION, longest.advance(b"m" * 16))


def test_siphash_of_the_paper() -> None:
    """Appendix A of "SipHash: a fast short-input PRF"; all 64 of the reference's vectors are in tests/c/test_mac.c."""
    key = bytes(range(16))
    assert siphash(key, bytes(range(15))) == 0xA129CA6149BE45E5
    assert siphash(key, b"") == 0x726FDB47DD0E0E31


def test_ids_of_other_lengths_are_refused() -> None:
    for three in [(b"", CLUSTER, POSITION), (SECRET, CLUSTER + b"c", POSITION), (SECRET, CLUSTER, bytearray(POSITION))]:
        with pytest.raises(ValueError, match="are 16 bytes"):
            seal_context(*three, CLOCK)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="are 16 bytes"):
        siphash(b"short", b"")
