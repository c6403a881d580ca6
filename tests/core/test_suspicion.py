"""When is a peer suspected? Step by step, and against every interleaving of what can happen."""

import random

import pytest

from dynamo_fast.core.suspicion import Watch


def test_silence_counts_only_while_an_answer_is_owed() -> None:
    watch = Watch(300, 10_000)
    for _ in range(100):
        assert watch.look(20) is None
    watch.ask()
    assert watch.look(20) is None
    for _ in range(14):
        assert watch.look(20) is None
    assert watch.trusted
    assert watch.look(20) == "raised"
    assert not watch.trusted


def test_a_question_counts_from_the_look_after_it() -> None:
    """When it was asked, between two looks, nobody has written down: perhaps just before the second."""
    watch = Watch(20, 1000)
    for _ in range(3):
        assert watch.look(20) is None
        watch.ask()
        assert watch.look(20) is None
        assert watch.trusted
        watch.hear(answer=True)
    watch.ask()
    assert watch.look(20) is None
    assert watch.look(20) == "raised"
    watch.hear()
    assert watch.trusted, "before the next look, and asked again"
    watch.ask()
    assert watch.look(20) is None
    assert watch.look(20) == "raised"


def test_any_frame_ends_the_silence_and_the_suspicion() -> None:
    watch = Watch(300, 10_000)
    watch.ask()
    assert watch.look(299) is None
    watch.hear()  # something else, the answer is still owed
    assert watch.look(1) is None
    assert watch.look(299) is None
    assert watch.look(1) == "raised"
    watch.hear()
    assert watch.trusted, "before the next look, too"
    assert watch.look(299) is None


def test_a_peer_that_has_answered_everything_may_be_silent() -> None:
    watch = Watch(300, 10_000)
    watch.ask()
    watch.ask()
    watch.hear(answer=True)
    watch.hear(answer=True)
    watch.look(5)
    assert [watch.look(1000) for _ in range(20)] == [None] * 20


def test_after_long_silence_the_connection_is_of_no_use() -> None:
    watch = Watch(300, 1000)
    watch.ask()
    assert watch.look(5) is None
    assert watch.look(300) == "raised"
    assert watch.look(699) is None
    assert watch.look(1) == "final"


def test_probes_come_with_growing_pauses_and_start_anew_with_each_suspicion() -> None:
    watch = Watch(300, 100_000)
    watch.ask()
    watch.look(5)
    assert watch.look(300) == "raised"
    asked = [now for now in range(0, 10_000, 10) if watch.probes(now)]
    assert asked == [0, 100, 300, 700, 1500, 3100, 5100, 7100, 9100]
    watch.hear()
    assert watch.trusted
    assert watch.look(5) is None
    assert watch.look(300) == "raised"
    assert watch.probes(9101)


@pytest.mark.parametrize("seed", range(50))
def test_a_peer_that_speaks_often_enough_is_never_suspected(seed: int) -> None:
    """However many answers it owes: an overloaded peer is slow, not dead."""
    chance, watch, silent_ms = random.Random(seed), Watch(300, 1000), 0
    for _ in range(2000):
        step = chance.randrange(1, 21)
        if silent_ms + step >= 300:
            watch.hear(answer=chance.random() < 0.5)
        watch.ask()
        silent_ms = silent_ms + step if silent_ms + step < 300 else 0
        assert watch.look(step) is None


def test_limits_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="before it is final"):
        Watch(300, 300)
