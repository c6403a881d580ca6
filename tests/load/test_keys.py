"""Keys and draws: names, Zipf's law against its formula, each key once, groups kept apart, nothing drawn twice at a time."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.load.draw import Draw
from dynamo_fast.load.keys import KeySpace


def test_names_have_sixteen_bytes_and_all_differ() -> None:
    keys = KeySpace(1200, 10, 10)
    assert keys.name(0) == b"key:000000000000"
    assert keys.name(1199) == b"key:000000001199"
    with pytest.raises(IndexError, match="no number 1200"):
        keys.name(1200)
    assert keys.statistics() == {"keys": 1200, "known": 0, "contexts": 0, "context_bytes": 0}


def test_limits_that_make_no_sense_are_refused() -> None:
    for count, least, most in ((0, 1, 1), (1, 2, 1), (1, 0, 1 << 31)):
        with pytest.raises(ValueError, match="at least one key"):
            KeySpace(count, least, most)


def drawn(draw: Draw, count: int, group: int = 0) -> list[int]:
    """Draws, each given back at once."""
    taken = []
    for _ in range(count):
        key = draw.take(group)
        assert key is not None
        draw.give_back(key)
        taken.append(key)
    return taken


@pytest.mark.parametrize("exponent", [0.5, 0.99, 1.0, 1.5])
def test_zipf_follows_its_formula(exponent: float) -> None:
    count, draws = 1000, 200_000
    weights = [(rank + 1) ** -exponent for rank in range(count)]
    seen = Counter(drawn(Draw(KeySpace(count, 1, 1), "zipf", exponent=exponent, seed=7), draws))
    for rank in (0, 1, 2, 5, 20, 100):
        expected = draws * weights[rank] / sum(weights)
        assert abs(seen[rank] - expected) < 5 * expected**0.5, (rank, seen[rank], expected)


def test_uniform_is_uniform() -> None:
    seen = Counter(drawn(Draw(KeySpace(50, 1, 1), "uniform", seed=7), 100_000))
    assert len(seen) == 50
    assert all(abs(count - 2000) < 5 * 2000**0.5 for count in seen.values())


def test_the_same_seed_draws_the_same_keys() -> None:
    one, two, other = (drawn(Draw(KeySpace(1000, 1, 1), "zipf", seed=seed), 100) for seed in (3, 3, 4))
    assert one == two != other


@given(st.integers(1, 40), st.sampled_from(["uniform", "zipf", "once"]), st.integers(0, 2**64 - 1))
def test_a_busy_key_is_never_drawn_again(count: int, order: str, seed: int) -> None:
    draw = Draw(KeySpace(count, 1, 1), order, seed=seed)
    assert sorted(key for _ in range(count) if (key := draw.take()) is not None) == list(range(count))
    assert draw.take() is None


@given(st.binary(min_size=3, max_size=60), st.sampled_from(["uniform", "zipf", "once"]))
def test_groups_draw_their_own_keys_only(random: bytes, order: str) -> None:
    group_of = bytes(byte % 3 for byte in random[:-3]) + bytes(range(3))
    draw = Draw(KeySpace(len(group_of), 1, 1), order, group_of=group_of, groups=3)
    for group in range(3):
        own = [key for key, of in enumerate(group_of) if of == group]
        assert sorted(key for _ in own if (key := draw.take(group)) is not None) == own


def test_draws_that_make_no_sense_are_refused() -> None:
    keys = KeySpace(4, 1, 1)
    with pytest.raises(ValueError, match="uniform, zipf or once"):
        Draw(keys, "random")
    with pytest.raises(ValueError, match="exponent"):
        Draw(keys, "zipf", exponent=0.0)
    with pytest.raises(ValueError, match="4 keys and 3 groups"):
        Draw(keys, "uniform", group_of=bytes(3), groups=1)
    with pytest.raises(ValueError, match="every key is in one"):
        Draw(keys, "uniform", group_of=b"\0\1\2\3", groups=3)
    with pytest.raises(ValueError, match="group 1 has no keys"):
        Draw(keys, "uniform", group_of=b"\0\0\2\2", groups=3)
