"""One connection to every other member, kept up by one task per member.

Either side may dial: a member is dialled only while no connection to it is up, with backoff and jitter. When both dial at once the
connection of the smaller node id stays; but one that has been up for a while gives way to a newer one, because a node dials only when
it has none itself, so the old one must be dead without our having noticed. The data plane hears of each change.
"""

from __future__ import annotations

import logging

import trio

from dynamo_fast.env import Env
from dynamo_fast.node.cluster import Cluster
from dynamo_fast.node.interfaces import DataPlane
from dynamo_fast.node.sessions import CallFailed, Session, Sessions

log = logging.getLogger("dynamo_fast.node")

BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 2.0
PATIENCE_S = 2.0  # a member that is not up by then is taken to be away
RACE_S = 5.0  # two connections made within this time are taken for a simultaneous dial


def stays(old: Session, new: Session, own_id: bytes, peer_id: bytes) -> bool:
    """Whether `old` is kept when `new` connects the same two nodes. Both ends decide alike while both connections are young."""
    if new.since_s - old.since_s > RACE_S or old.closed:
        return False
    smaller_dialled_old = old.dialled == (own_id < peer_id)
    smaller_dialled_new = new.dialled == (own_id < peer_id)
    return smaller_dialled_old and not smaller_dialled_new


class Peers:
    """The members that can be asked now, by node id."""

    def __init__(self, *, env: Env, cluster: Cluster, sessions: Sessions, data_plane: DataPlane) -> None:
        self.up: dict[bytes, Session] = {}
        self._env = env
        self._cluster = cluster
        self._sessions = sessions
        self._data_plane = data_plane
        self._gone: dict[bytes, trio.Event] = {}  # set when the connection to that member ends
        self._since_s: dict[bytes, float] = {}  # when the first attempt to reach that member began
        self._kept: set[bytes] = set()
        sessions.on_node = self._connected
        sessions.on_gone = self._disconnected

    @property
    def settled(self) -> bool:
        """Every other member is up, or has been tried for PATIENCE_S."""
        view, patient_until = self._cluster.view, self._env.now() - PATIENCE_S
        if view is None:
            return False
        others = self._cluster.company
        return all(one in self.up or self._since_s.get(one, patient_until + 1) <= patient_until for one in others)

    @property
    def reachable(self) -> int:
        """How many members can take part in a request now, this node included; as if all were when there are fewer than N."""
        view = self._cluster.view
        if view is None:
            return 0
        up = len(self.up.keys() & view.members.keys()) + (self._cluster.node_id in view.members)
        return view.replicas if up == len(view.members) else up

    async def run(self) -> None:
        """Keeps connections to all members there are and will be, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                news = self._cluster.news()
                self.expel()
                for node_id in sorted(self._cluster.company - self._kept):
                    self._kept.add(node_id)
                    nursery.start_soon(self._keep, node_id)
                await news.wait()

    async def _keep(self, node_id: bytes) -> None:
        self._since_s[node_id] = self._env.now()
        backoff_s = BACKOFF_FIRST_S
        while node_id in self._cluster.company:
            if node_id in self.up:
                await self._gone[node_id].wait()
                backoff_s = BACKOFF_FIRST_S
                continue
            address = self._address(node_id)
            try:
                await self._dial(node_id, address)
            except CallFailed as error:
                log.debug("a member does not answer", extra={"peer": node_id.hex(), "reason": str(error)})
            if node_id not in self.up:
                with trio.move_on_after(backoff_s * (0.5 + self._env.random())):
                    while node_id in self._cluster.company and self._address(node_id) == address:
                        await self._cluster.news().wait()
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
        self._kept.discard(node_id)

    def _address(self, node_id: bytes) -> str:
        assert self._cluster.view is not None, "company is of a cluster"
        return self._cluster.view.everyone[node_id].address

    def expel(self) -> None:
        """Nobody who was declared dead, or has gone, is connected when it returns."""
        for node_id, session in list(self.up.items()):
            if self._cluster.refuses(node_id):
                session.close("this node has departed from the cluster")
                self._disconnected(session)

    async def _dial(self, node_id: bytes, address: str) -> None:
        session = await self._sessions.open(address)
        if session.node_id != node_id or not session.trusted:
            session.close("another node was expected at this address")
            raise CallFailed(f"{address} is not node {node_id.hex()}, which was last known there")

    def _connected(self, session: Session) -> None:
        """A trusted connection is up, whoever dialled; only one per node is used."""
        node_id = session.node_id
        assert node_id is not None, "only nodes are trusted"
        old = self.up.get(node_id)
        if old is not None and stays(old, session, self._cluster.node_id, node_id):
            session.close("there is a connection between these nodes already")
            return
        self.up[node_id] = session
        self._data_plane.peer_up(node_id, session.connection)
        if self._env.rarely("peers: a connection ends as soon as it is up"):
            session.close("it was not to last")
        if old is None:
            self._gone[node_id] = trio.Event()
            log.info("peer is up", extra={"peer": node_id.hex(), "address": str(session.connection.label)})
        else:
            old.close("a newer connection between these nodes replaces it")

    def _disconnected(self, session: Session) -> None:
        node_id = session.node_id
        assert node_id is not None, "only nodes are trusted"
        if self.up.get(node_id) is not session:
            return  # a spare one; the one in use is up
        del self.up[node_id]
        self._data_plane.peer_down(node_id)
        self._gone.pop(node_id).set()
        log.info("peer is down", extra={"peer": node_id.hex(), "reason": session.problem or session.connection.close_reason})
