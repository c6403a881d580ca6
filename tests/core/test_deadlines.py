"""The timer wheel: never early, never lost, at most a slot late."""

from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.core.deadlines import DeadlineWheel

SLOT_MS = 4


@given(st.integers(0, 10**6), st.lists(st.tuples(st.booleans(), st.integers(0, 12_000)), max_size=60))
def test_every_timer_comes_once_not_early_and_at_most_a_slot_late(start_ms: int, steps: list[tuple[bool, int]]) -> None:
    wheel = DeadlineWheel(start_ms)
    now_ms, waiting = start_ms, {}
    for number, (adds, amount_ms) in enumerate(steps):
        if adds:
            waiting[number] = now_ms + amount_ms
            wheel.schedule(now_ms + amount_ms, number)
            continue
        now_ms += amount_ms
        for token in wheel.expired(now_ms):
            assert waiting.pop(token) <= now_ms
        assert all(deadline_ms > now_ms - 2 * SLOT_MS for deadline_ms in waiting.values())
        assert wheel.count == len(waiting)
    now_ms += 20_000
    for moment_ms in range(now_ms, now_ms + 40, SLOT_MS):
        for token in wheel.expired(moment_ms):
            del waiting[token]
    assert waiting == {}


def test_a_deadline_beyond_the_horizon_goes_around() -> None:
    wheel = DeadlineWheel(0)
    wheel.schedule(60_000, 1)
    early = [token for now_ms in range(0, 59_999, 50) for token in wheel.expired(now_ms)]
    assert early == []
    assert wheel.expired(60_000) == [1]
    assert wheel.count == 0
