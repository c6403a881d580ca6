"""How many times faster one thing is than another, measured side by side in one run: the only speed claim a busy machine allows."""

from timeit import Timer

ROUNDS = 15
ROUND_S = 0.01


def nanoseconds(names: dict[str, object], *statements: str) -> list[float]:
    """Nanoseconds per run of each statement over `names`: the best of many short rounds, in which they take turns."""
    timers = [Timer(statement, globals=names) for statement in statements]
    counts = [max(1, int(ROUND_S * 100 / timer.timeit(100))) for timer in timers]
    best = [float("inf")] * len(timers)
    for _ in range(ROUNDS):
        for index, (timer, count) in enumerate(zip(timers, counts, strict=True)):
            best[index] = min(best[index], timer.timeit(count) / count * 1e9)
    return best
