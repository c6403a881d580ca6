"""The guard lets no more go wrong than the promises tolerate, and that much it does."""

import itertools

import pytest

from dynamo_fast.testing.guard import Guard


def test_power_takes_nothing_that_was_on_disk() -> None:
    guard = Guard([(2, 1), (3, 2)])
    assert all(guard.may_darken(name) for name in "abcde")


def test_without_a_copy_on_disk_one_page_cache_has_to_stay() -> None:
    guard = Guard([(2, 0)])
    assert guard.may_darken("a")
    assert guard.may_darken("a")
    assert not guard.may_darken("b")
    assert not guard.may_destroy("b")
    guard.healed()
    assert guard.may_darken("b")


def test_one_copy_on_disk_survives_a_lost_disk_only_beside_a_page_cache() -> None:
    guard = Guard([(2, 1)])
    assert guard.may_destroy("a")
    assert not guard.may_darken("b")
    assert not guard.may_destroy("b")
    guard = Guard([(2, 1)])
    assert guard.may_darken("a")
    assert not guard.may_destroy("b")
    assert guard.may_destroy("a")


def test_two_copies_on_disk_survive_any_one_disk() -> None:
    guard = Guard([(2, 2)])
    assert guard.may_destroy("a")
    assert all(guard.may_darken(name) for name in "abc")
    assert not guard.may_destroy("b")
    assert guard.refused == 1
    assert not guard.lossless


def test_a_single_copy_may_not_be_lost() -> None:
    guard = Guard([(1, 1), (3, 3)])
    assert not guard.may_destroy("a")
    assert guard.lossless
    assert guard.may_darken("a")


def test_machines_end_one_at_a_time_and_only_where_one_disk_may_be_lost() -> None:
    guard = Guard([(3, 3)])
    assert guard.may_lose("a")
    assert guard.destroyed == {"a"}
    assert not guard.may_lose("b")
    assert guard.may_destroy("b")
    guard.healed()
    assert guard.may_lose("b")
    guard = Guard([(1, 1)])
    assert not guard.may_lose("a")
    assert guard.lossless


@pytest.mark.parametrize("promise", [(w, dw) for w in (1, 2, 3) for dw in range(w + 1)])
def test_whatever_it_allows_leaves_a_copy(promise: tuple[int, int]) -> None:
    """Against the definition: W machines out of four hold the write, DW of them on disk; after all faults somebody still does."""
    w, dw = promise
    for steps in itertools.product([("power", name) for name in "abcd"] + [("disk", name) for name in "abcd"], repeat=3):
        guard = Guard([promise])
        allowed = [(kind, name) for kind, name in steps if (guard.may_darken if kind == "power" else guard.may_destroy)(name)]
        dark = {name for kind, name in allowed if kind == "power"}
        destroyed = {name for kind, name in allowed if kind == "disk"}
        for cached in itertools.combinations("abcd", w):
            for synced in itertools.combinations(cached, dw):
                left = [name for name in cached if name not in destroyed and (name in synced or name not in dark)]
                assert left, f"{allowed} may lose a write on {cached}, synced on {synced}"
