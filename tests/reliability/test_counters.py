"""What the load of counters calls wrong, from answers made up here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from dynamo_fast.client.errors import BatchFailed, QuorumFailed
from tests.reliability.counters import Counters


class Store:
    """Stands for the client: `hide` are keys that gets do not show, `fail` are keys whose puts end with an error, applied all the same."""

    def __init__(self) -> None:
        self.values: dict[bytes, list[bytes]] = {}
        self.hide: set[bytes] = set()
        self.fail: set[bytes] = set()

    async def put_many(self, items: Any, **options: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        self.values |= {key: [value] for key, value in items}
        return self._told([QuorumFailed("no") if key in self.fail else b"context" for key, _ in items])

    async def get_many(self, keys: Any, **options: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return [SimpleNamespace(values=[] if key in self.hide else self.values.get(key, [])) for key in keys]

    def _told(self, outcomes: list[Any]) -> list[Any]:
        if any(isinstance(one, Exception) for one in outcomes):
            raise BatchFailed(outcomes)
        return outcomes


async def loaded(store: Store) -> Counters:
    load = Counters(store, 60, r=2, w=2)  # type: ignore[arg-type]
    await load.load()
    return load


async def run_for(load: Counters, requests: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load.run)
        await load.more(requests)
        load.stop()


def test_what_is_shown_again_is_right() -> None:
    async def act() -> None:
        load = await loaded(store := Store())
        await run_for(load, 1000)
        assert await load.read_back(store) == 60  # type: ignore[arg-type]
        assert (load.wrong, load.failed) == (0, 0)

    trio.run(act)


def test_nothing_and_too_old_are_wrong() -> None:
    async def act() -> None:
        load = await loaded(store := Store())
        old = dict(store.values)
        await run_for(load, 1000)
        store.hide = {b"counter/3"}
        store.values[b"counter/4"] = old[b"counter/4"]
        assert await load.read_back(store) == 58  # type: ignore[arg-type]
        assert (load.lost, load.stale) == (1, 1)
        assert "counter/3" in load.evidence()["examples"]

    trio.run(act)


def test_a_put_of_unknown_fate_may_show_or_not() -> None:
    async def act() -> None:
        load = await loaded(store := Store())
        before = store.values[b"counter/5"]
        store.fail = {b"counter/5"}
        await run_for(load, 120)
        assert (load.wrong, set(load.failures)) == (0, {"put: QuorumFailed"})
        assert await load.read_back(store) == 60  # type: ignore[arg-type]
        store.values[b"counter/5"] = before
        assert await load.read_back(store) == 60  # type: ignore[arg-type]

    trio.run(act)


def test_what_nobody_put_is_no_mere_failure() -> None:
    async def act() -> None:
        load = await loaded(store := Store())
        store.values[b"counter/5"] = [b"counter/5 99 "]
        with pytest.raises(AssertionError, match="nobody put"):
            await load.read_back(store)  # type: ignore[arg-type]

    trio.run(act)
