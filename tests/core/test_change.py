"""The steps of a change: when each may be done, and that no order of words lets two nodes be two steps apart."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.change import Progress, Step, digest_of_dead, merge_progress, pinned_by, step_to_do, waited_for

NEW, OTHER = b"n" * 16, b"o" * 16
IDS = [bytes([number + 1]) * 16 for number in range(5)]
NOBODY = digest_of_dead(())


def told(number: int, step: Step, *, word: int | None = None, placement: bytes = NEW, dead: bytes = NOBODY) -> Progress:
    return Progress(IDS[number], int(step) if word is None else word, placement, step, dead)


def by_id(*words: Progress) -> dict[bytes, Progress]:
    return {one.node_id: one for one in words}


def test_the_first_step_waits_for_nobody_and_each_next_one_for_all() -> None:
    assert step_to_do(NEW, IDS[:3], {}, NOBODY) == Step.KNOWN
    for step in (Step.KNOWN, Step.DOUBLE, Step.SYNCED, Step.SWITCHED):
        some = by_id(told(0, step), told(1, step), told(2, Step(step - 1)))
        assert step_to_do(NEW, IDS[:3], some, NOBODY) == step
        assert waited_for(step, NEW, IDS[:3], some, NOBODY) == [IDS[2]]
        assert step_to_do(NEW, IDS[:3], some | by_id(told(2, step)), NOBODY) == step + 1


def test_one_that_has_settled_has_seen_all_others_get_there() -> None:
    some = by_id(told(0, Step.SETTLED), told(1, Step.SINGLE), told(2, Step.SWITCHED))
    assert step_to_do(NEW, IDS[:3], some, NOBODY) == Step.SETTLED
    assert step_to_do(NEW, IDS[:2], by_id(told(0, Step.SINGLE), told(1, Step.SINGLE)), NOBODY) == Step.SETTLED


def test_words_towards_another_placement_or_without_the_same_dead_do_not_count() -> None:
    words = by_id(told(0, Step.DOUBLE), told(1, Step.DOUBLE, placement=OTHER), told(2, Step.DOUBLE))
    assert step_to_do(NEW, IDS[:3], words, NOBODY) == Step.KNOWN
    dead = digest_of_dead([IDS[1]])
    assert waited_for(Step.KNOWN, NEW, [IDS[0], IDS[2]], words, dead) == [IDS[0], IDS[2]]
    anew = by_id(told(0, Step.DOUBLE, dead=dead), told(2, Step.DOUBLE, dead=dead))
    assert step_to_do(NEW, [IDS[0], IDS[2]], anew, dead) == Step.SYNCED


def test_of_the_dead_the_set_counts_and_no_order() -> None:
    assert digest_of_dead(IDS[:2]) == digest_of_dead(IDS[1::-1]) != digest_of_dead(IDS[:1])
    assert len(NOBODY) == 8


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 9)), max_size=30), st.randoms(use_true_random=False))
def test_the_latest_word_of_each_stays_whatever_the_order(said: list[tuple[int, int]], rng: random.Random) -> None:
    words = [told(number, Step(min(word, 6)), word=word) for number, word in said]
    shuffled = [*words, *words]
    rng.shuffle(shuffled)
    known: dict[bytes, Progress] = {}
    for one in shuffled:
        merge_progress(known, [one])
    assert {node_id: one.word for node_id, one in known.items()} == {
        IDS[number]: max(word for other, word in said if other == number) for number, _ in said
    }
    assert not merge_progress(known, words)


def test_what_somebody_has_told_of_syncing_towards_is_pinned() -> None:
    words = by_id(told(0, Step.DOUBLE), told(1, Step.SYNCED, placement=OTHER))
    assert pinned_by(words, dead=()) == {OTHER}
    assert pinned_by(words, dead={IDS[1]}) == set()


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_heard_when_no_two_nodes_are_more_than_one_step_apart(seed: int) -> None:
    """Each node knows some of what was told; it does what that allows and tells of it at any later time, or restarts before it has."""
    chance = random.Random(seed)
    nodes = IDS[: chance.randint(2, 5)]
    known: dict[bytes, dict[bytes, Progress]] = {node: {} for node in nodes}
    doing = dict.fromkeys(nodes, Step.NONE)
    words = dict.fromkeys(nodes, 0)
    for _ in range(3000):
        node, other = chance.choice(nodes), chance.choice(nodes)
        merge_progress(known[node], known[other].values())
        own = known[node].get(node)
        own_step = Step(own.step) if own else Step.NONE
        if chance.random() < 0.05:
            doing[node] = own_step  # a restart: back to what it has told
        doing[node] = max(doing[node], own_step, step_to_do(NEW, nodes, known[node], NOBODY))
        assert max(doing.values()) - min(doing.values()) <= 1 or Step.SETTLED in doing.values(), doing
        if Step.SETTLED in doing.values():
            assert min(doing.values()) >= Step.SINGLE
        if chance.random() < 0.3 and doing[node] > own_step:
            words[node] += 1
            merge_progress(known[node], [Progress(node, words[node], NEW, doing[node], NOBODY)])
        if min(doing.values()) == Step.SETTLED:
            return
    raise AssertionError(f"not over after 3000 moves: {doing}")
