"""Contexts and sessions: what covers what, checked against the clocks they were made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.client.context import DOTS_MAX, Seen, Session, seen_in, wrote_alone
from tests.client.fake_store import context_of

ACTORS = [bytes([n]) * 24 for n in range(3)]
clocks = st.dictionaries(st.sampled_from(ACTORS), st.integers(1, 4))
contexts = st.builds(Seen, clocks, st.none() | st.tuples(st.sampled_from(ACTORS), st.integers(1, 5)))


def made(seen: Seen) -> bytes:
    return context_of(b"p" * 16, seen)


def events(seen: Seen) -> set[tuple[bytes, int]]:
    """The plain meaning of a context: every single event."""
    return {(actor, n) for actor, counter in seen.clock.items() for n in range(1, counter + 1)} | ({seen.dot} if seen.dot else set())


@given(contexts, contexts)
def test_contexts_are_sets_of_events(a: Seen, b: Seen) -> None:
    assert seen_in(made(a)) == a
    assert all(a.has(*event) == (event in events(a)) for event in events(b))
    assert wrote_alone(made(a), made(b)) == (b.dot is None and len(events(b) - events(a)) == 1)


def test_bytes_that_are_no_context_are_an_error() -> None:
    whole = made(Seen({ACTORS[0]: 1}, (ACTORS[1], 3)))
    for damaged in (whole[:-1], whole + b"x", b"\x02" + whole[1:], b"\x01\x02" + whole[2:], b"x", whole[:39]):
        with pytest.raises(ValueError, match="context"):
            seen_in(damaged)


@given(st.lists(contexts, max_size=12))
def test_a_session_remembers_all_it_saw(seen: list[Seen]) -> None:
    session = Session()
    for context in seen:
        session.saw(b"", b"k", made(context))
    for context in [*seen, Seen(dict.fromkeys(ACTORS, 5), None)]:
        assert session.satisfied_by(b"", b"k", made(context)) == all(events(context) >= events(one) for one in seen)
    if seen:
        assert any(session.context(b"", b"k") == made(context) for context in seen)


def test_sessions_are_bounded_by_key_and_per_key() -> None:
    session = Session(keys_max=3)
    for number in range(5):
        session.saw(b"", b"%d" % number, made(Seen({ACTORS[0]: number + 1}, None)))
    assert [bool(session.context(b"", b"%d" % number)) for number in range(5)] == [False, False, True, True, True]
    wide = Session()
    for number in range(1, DOTS_MAX + 2):
        wide.saw(b"b", b"k", made(Seen({}, (ACTORS[0], number))))
    assert wide.context(b"b", b"k") == made(Seen({}, (ACTORS[0], DOTS_MAX + 1)))
    assert wide.satisfied_by(b"b", b"other key", b"")
    assert len(wide._known[b"b", b"k"].dots) == DOTS_MAX
    wide.saw(b"b", b"k", made(Seen({ACTORS[0]: DOTS_MAX + 1}, None)))
    assert not wide._known[b"b", b"k"].dots, "a get has shown them all"


def test_a_session_does_not_forget_what_it_saw_for_many_puts_beside_it() -> None:
    session = Session()
    session.saw(b"", b"k", made(Seen({ACTORS[0]: 29}, None)))
    for number in range(1, 21):
        session.saw(b"", b"k", made(Seen({}, (ACTORS[1], number))))
    assert not session.satisfied_by(b"", b"k", made(Seen({ACTORS[0]: 28, ACTORS[1]: 20}, None)))
    assert session.satisfied_by(b"", b"k", made(Seen({ACTORS[0]: 29, ACTORS[1]: 20}, None)))


def test_a_session_does_not_forget_its_own_puts_for_however_many_later_ones() -> None:
    session, many = Session(), DOTS_MAX + 10
    session.saw(b"", b"k", made(Seen({}, (ACTORS[0], 7))))
    for number in range(1, many + 1):
        session.saw(b"", b"k", made(Seen({}, (ACTORS[1], 2 * number))))
    assert len(session._known[b"", b"k"].dots) <= DOTS_MAX
    assert not session.satisfied_by(b"", b"k", made(Seen({ACTORS[1]: 2 * many}, None)))
    assert not session.satisfied_by(b"", b"k", made(Seen({ACTORS[0]: 7, ACTORS[1]: 2 * many - 1}, None)))
    assert session.satisfied_by(b"", b"k", made(Seen({ACTORS[0]: 7, ACTORS[1]: 2 * many}, None)))
