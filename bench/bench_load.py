"""What the generator does per request beside the system calls: drawing a key."""

from typing import Any

import pytest

from dynamo_fast.load.draw import Draw
from dynamo_fast.load.keys import KeySpace


@pytest.mark.parametrize("order", ["uniform", "zipf"])
def test_draw_1000_keys(benchmark: Any, order: str) -> None:
    benchmark.group = "draw 1000 keys"
    draw = Draw(KeySpace(1_000_000, 100, 100), order)

    def draws() -> None:
        for _ in range(1000):
            key = draw.take()
            assert key is not None
            draw.give_back(key)

    benchmark(draws)
