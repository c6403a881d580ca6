"""Contexts and sessions: what covers what, checked against the clocks they were made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.client.context import SEEN_MAX, Session, clock_of, covers, events_between
from tests.client.fake_node import context_of

ACTORS = [bytes([n]) * 24 for n in range(4)]
clocks = st.dictionaries(st.sampled_from(ACTORS), st.integers(1, 5))


def made(clock: dict[bytes, int]) -> bytes:
    return context_of(b"p" * 16, clock)


@given(clocks, clocks)
def test_covers_and_events_are_what_the_clocks_say(a: dict[bytes, int], b: dict[bytes, int]) -> None:
    assert clock_of(made(a)) == a
    assert covers(made(a), made(b)) == all(a.get(actor, 0) >= b[actor] for actor in b)
    assert events_between(made(a), made(b)) == sum(max(0, b[actor] - a.get(actor, 0)) for actor in b)
    assert covers(made(a), b"")


def test_bytes_that_are_no_context_are_an_error() -> None:
    whole = made({ACTORS[0]: 1})
    for damaged in (whole[:-1], whole + b"x", b"\x02" + whole[1:], b"x", whole[:39]):
        with pytest.raises(ValueError, match="context"):
            clock_of(damaged)


@given(st.lists(clocks, max_size=12))
def test_a_session_remembers_only_what_nothing_covers(seen: list[dict[bytes, int]]) -> None:
    session = Session()
    for clock in seen:
        session.saw(b"", b"k", made(clock))
    joined = {actor: max(clock.get(actor, 0) for clock in seen) for actor in ACTORS if any(actor in clock for clock in seen)}
    assert session.satisfied_by(b"", b"k", made(joined))
    if seen:
        assert covers(made(joined), session.context(b"", b"k"))
        assert session.satisfied_by(b"", b"k", made(seen[-1])) == all(covers(made(seen[-1]), made(clock)) for clock in seen)


def test_sessions_are_bounded_by_key_and_per_key() -> None:
    session = Session(keys_max=3)
    for number in range(5):
        session.saw(b"", b"%d" % number, made({ACTORS[0]: number + 1}))
    assert [bool(session.context(b"", b"%d" % number)) for number in range(5)] == [False, False, True, True, True]
    wide = Session()
    for number in range(2 * SEEN_MAX):
        wide.saw(b"b", b"k", made({bytes([number]) * 24: 1}))
    assert wide.context(b"b", b"k") == made({bytes([2 * SEEN_MAX - 1]) * 24: 1})
    assert wide.satisfied_by(b"b", b"other key", b"")
