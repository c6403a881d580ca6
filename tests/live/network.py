"""Networks between real nodes that can be cut, while clients reach every node all the time.

    with Proxies() as network, Cluster(tmp_path, nodes=5, network=network) as cluster:
        network.split([0, 1], [2, 3, 4])
        network.heal()
        async with dynamo_fast.connect(cluster.addresses, dial=network.dial) as db: ...

`Proxies` needs no rights: the nodes know each other by addresses at which a thread of this process listens and passes bytes on. What
stands on a cut link waits, as the kernel's retransmissions would make it; nothing on it says that anything is wrong. `Namespaces`
(namespaces.py) is the real thing, for root.
"""

from __future__ import annotations

import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Self

import trio

from dynamo_fast.env import parse_address
from dynamo_fast.wire.control_messages import decode_hello
from dynamo_fast.wire.errors import WireError
from dynamo_fast.wire.frame import FrameCutter
from tests.live.cluster import Node, free_port

CHUNK_BYTES = 1 << 16


class Network(ABC):
    """Directed links between the nodes of one cluster, by index; all are good at first."""

    def __init__(self) -> None:
        self.nodes: Sequence[Node] = ()

    @abstractmethod
    def place(self, nodes: Sequence[Node]) -> None:
        """Says to the nodes of a cluster where to listen and by which address they are known. Called once, before any starts."""

    @abstractmethod
    def cut(self, one: int, two: int) -> None:
        """From now on nothing that `one` sends arrives at `two`; the way back is another link."""

    @abstractmethod
    def heal(self) -> None:
        """All links are good."""

    @abstractmethod
    def close(self) -> None:
        """Nothing of it is left. The nodes have ended."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def split(self, *groups: Iterable[int]) -> None:
        """No bytes between nodes of different groups; a node in two groups talks to both."""
        groups = tuple(set(group) for group in groups)
        for one in range(len(self.nodes)):
            for two in range(len(self.nodes)):
                if one != two and not any({one, two} <= group for group in groups):
                    self.cut(one, two)

    def isolate(self, index: int) -> None:
        self.split([index], [other for other in range(len(self.nodes)) if other != index])

    async def dial(self, host: str, port: int) -> trio.abc.Stream:
        """For `dynamo_fast.connect(..., dial=network.dial)`: the client's own way to a node, which is never cut."""
        reach = {node.address: node.reach for node in self.nodes}[f"{host}:{port}"]
        return await trio.open_tcp_stream(*parse_address(reach))


class Proxies(Network):
    """One listening proxy before each node. Who dials is read from its greeting, which is passed on like all else."""

    def __init__(self) -> None:
        super().__init__()
        self._cut: set[tuple[int, int]] = set()
        self._changed = trio.Event()  # replaced whenever links change
        self._streams: dict[tuple[int, int], set[trio.SocketStream]] = {}  # of the connections between two nodes, both sides
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name="proxies")
        self._listening = threading.Event()
        self._token: trio.lowlevel.TrioToken
        self._scope: trio.CancelScope

    def place(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        for node in nodes:
            node.address = f"{node.host}:{free_port(node.host)}"
        self._thread.start()
        self._listening.wait()

    def cut(self, one: int, two: int) -> None:
        self._do(lambda: self._cut.add((one, two)))

    def heal(self) -> None:
        self._do(self._cut.clear)

    def reset(self) -> None:
        """Every connection between nodes ends at once, with a reset on both sides."""
        self._do(self._reset)

    def close(self) -> None:
        if self._thread.is_alive():
            self._do(lambda: self._scope.cancel())
            self._thread.join()

    def _do(self, change: Callable[[], object]) -> None:
        """In the proxies' own thread, and done when this returns."""
        done = threading.Event()

        def run() -> None:
            change()
            self._changed.set()
            self._changed = trio.Event()
            done.set()

        self._token.run_sync_soon(run)
        done.wait()

    def _reset(self) -> None:
        for streams in self._streams.values():
            for stream in streams:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                stream.socket.close()
        self._streams.clear()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            for node in self.nodes:
                host, port = parse_address(node.address)
                listeners = await trio.open_tcp_listeners(port, host=host)
                nursery.start_soon(trio.serve_listeners, self._handler(node), listeners)
            self._listening.set()

    def _handler(self, node: Node) -> Callable[[trio.SocketStream], Awaitable[None]]:
        async def serve(near: trio.SocketStream) -> None:
            try:
                await self._pass_on(near, node)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, WireError):
                pass  # as when a cable is pulled: both ends find out by themselves
            finally:
                near.socket.close()

        return serve

    async def _pass_on(self, near: trio.SocketStream, node: Node) -> None:
        greeting, cutter, frames = b"", FrameCutter(), []
        while not frames:
            data = await near.receive_some(CHUNK_BYTES)
            if not data:
                return
            greeting += data
            frames = cutter.feed(data)
        known = {other.address: other.index for other in self.nodes}
        dialler = known.get(decode_hello(frames[0].body).address or "", node.index)
        there, back = (dialler, node.index), (node.index, dialler)
        await self._open(there)
        far = await trio.open_tcp_stream(*parse_address(node.listen))
        both = self._streams.setdefault(there, set())
        both |= {near, far}
        try:
            async with trio.open_nursery() as nursery:
                await far.send_all(greeting)
                nursery.start_soon(self._pump, near, far, there, nursery.cancel_scope)
                nursery.start_soon(self._pump, far, near, back, nursery.cancel_scope)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            both -= {near, far}
            far.socket.close()

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, link: tuple[int, int], scope: trio.CancelScope) -> None:
        """What one side sends, to the other; the end of it, too, waits while the link is cut."""
        while True:
            data = await source.receive_some(CHUNK_BYTES)
            await self._open(link)
            if not data:
                scope.cancel()
                return
            await sink.send_all(data)

    async def _open(self, link: tuple[int, int]) -> None:
        while link in self._cut:
            await self._changed.wait()
