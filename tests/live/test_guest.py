"""A node that was given seeds and no bootstrap list: it learns the cluster, serves anybody by forwarding, and owns nothing."""

import os
from pathlib import Path

import pytest

from dynamo_fast.wire.control_messages import BucketSetRequest, BucketSettings, RingInfoRequest
from dynamo_fast.wire.data_messages import decode_get_reply, encode_get, encode_put
from dynamo_fast.wire.frame import Frame, encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.live.cluster import Cluster, Node, wait_until
from tests.live.raw import RawConnection, answers, status

pytestmark = pytest.mark.live


def ask(connection: RawConnection, type: MessageType, body: bytes) -> Frame:
    connection.send(encode_frame(type, body, request_id=7))
    return connection.read_frame()


@pytest.mark.parametrize("by", ["file", "environment", "flag"])
def test_a_guest_serves_by_forwarding(tmp_path: Path, by: str) -> None:
    with Cluster(tmp_path, nodes=3) as cluster:
        cluster.wait_ready()
        seeds = cluster.addresses[1:]
        guest = Node(tmp_path, 9, "127.0.0.1")
        if by == "file":
            guest.config = f"[node]\nseeds = {seeds}\n"
        elif by == "environment":
            guest.environment = {"DYNAMO_FAST_NODE_SEEDS": ",".join(seeds)}
        else:
            guest.arguments = ["--seed", seeds[0], "--seeds", seeds[1]]
        try:
            guest.start()
            wait_until(lambda: answers(lambda told: len(told.peers_up) == 3, guest.address), "the guest to know the cluster")
            told = status(guest.address)
            assert told.state == "waiting"
            assert (told.member, told.members) == (False, 3)
            with RawConnection(guest.address) as here, RawConnection(cluster[0].address) as there:
                for number in range(50):
                    put = encode_put(b"key %d" % number, b"value", put_id=os.urandom(16))
                    assert ask(here, MessageType.PUT, put).status == Status.OK
                for number in range(50):
                    for connection in (here, there):
                        reply = ask(connection, MessageType.GET, encode_get(b"key %d" % number))
                        assert decode_get_reply(reply.body)[1][0][0] == b"value"
                assert told.node_id not in {share.node.id for share in there.control(RingInfoRequest()).members}
                # A bucket made at the guest is one for everybody.
                here.control(BucketSetRequest(name=b"cart", settings=BucketSettings(w=3)))
                put = encode_put(b"k", b"v", put_id=os.urandom(16), bucket=b"cart")
                wait_until(lambda: ask(there, MessageType.PUT, put).status == Status.OK, "the bucket to be known")
            assert status(guest.address).statistics["requests"]["stored"] == 0
            assert guest.terminate() == 0
        finally:
            if guest.running:
                guest.kill()
