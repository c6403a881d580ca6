"""A loop that lingers for the next request does not keep a task waiting that has said that it has more to do."""

import pytest
import trio

from dynamo_fast.net import reactor as reactor_module
from dynamo_fast.wire.data_messages import encode_get
from dynamo_fast.wire.frame import encode_frame
from dynamo_fast.wire.status import MessageType
from tests.net.served import Caller, served


def test_a_task_that_hurries_the_loop_finds_it_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop would linger for longer than `served` gives the whole test."""
    monkeypatch.setattr(reactor_module, "LINGER_MS", 60_000)
    monkeypatch.setattr(reactor_module, "BUDGET_US", 60_000_000)

    async def main() -> None:
        async with served() as (server, address):
            steps = 0

            async def work() -> None:
                nonlocal steps
                while True:
                    server.reactor.hurry()
                    await trio.lowlevel.checkpoint()
                    steps += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(work)
                caller = await Caller.connect(address)
                for request in range(1, 6):
                    before = steps
                    await caller.send(encode_frame(MessageType.GET, encode_get(b"k"), request_id=request))
                    assert (await caller.frame()).request_id == request
                    assert steps > before
                nursery.cancel_scope.cancel()
                server.reactor.hurry()
                await caller.stream.aclose()

    trio.run(main)
