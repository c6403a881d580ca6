"""Waiting for a sync as the reactor does: on the descriptor."""

from __future__ import annotations

import select
from collections.abc import Callable

import pytest

from dynamo_fast.storage.engine import Engine

SYNC_SECONDS_MAX = 30  # a slow disk; the wait ends when the sync does


@pytest.fixture
def wait_for_sync() -> Callable[[Engine], None]:
    def wait(engine: Engine) -> None:
        descriptor = engine.sync_fileno()
        while descriptor is not None and engine.durable < engine.position and not engine.failed_fsync:
            assert select.select([descriptor], [], [], SYNC_SECONDS_MAX)[0], "no sync was done"
            engine.sync_done()

    return wait
