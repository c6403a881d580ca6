"""Handshakes and calls: who is believed to be whom, and that nobody waits for ever."""

import itertools

import msgspec
import pytest
import trio

from dynamo_fast.core.departure import Departure
from dynamo_fast.core.membership import Leave, make_record
from dynamo_fast.node.peers import RACE_S, stays
from dynamo_fast.node.sessions import CallFailed, Greeting, Session, answer_hello
from dynamo_fast.wire import control_messages as messages
from dynamo_fast.wire.connection import Connection, Outbox, PyFrameHandler
from dynamo_fast.wire.frame import FrameCutter, encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.node.virtual import VirtualNode, World, in_virtual_time
from tests.node.virtual_network import End

OTHER, ALIEN, DEPARTED = b"o" * 16, b"x" * 16, b"d" * 16
RECORD = make_record(Leave(node_id=DEPARTED, dead=True), author=OTHER, time=1)


class Me(msgspec.Struct):
    node_id: bytes = b"n" * 16
    address: str = "a:1"
    cluster_id: bytes | None = b"c" * 16
    starts: int = 3

    def departure_of(self, node_id: bytes) -> Departure | None:
        return Departure(text="an id never returns", records=[RECORD], mac=5) if node_id == DEPARTED else None


@pytest.mark.parametrize(
    ("hello", "status", "said"),
    [
        (messages.Hello(versions=[2, 9], role="client"), Status.UNSUPPORTED_VERSION, r"speaks protocol version 1, you offered \[2, 9\]"),
        (messages.Hello(versions=[1], role="node", cluster_id=ALIEN, node_id=OTHER), Status.WRONG_CLUSTER, "belongs to cluster 6363"),
        (messages.Hello(versions=[1], role="client", cluster_id=ALIEN), Status.WRONG_CLUSTER, "belongs to cluster"),
        (messages.Hello(versions=[1], role="node"), Status.BAD_REQUEST, "must say its node id"),
        (messages.Hello(versions=[1], role="node", node_id=b"n" * 16), Status.BAD_REQUEST, "is a copy"),
        (messages.Hello(versions=[1], role="node", node_id=DEPARTED), Status.DEPARTED, "an id never returns"),
    ],
)
def test_hellos_that_are_refused(hello: messages.Hello, status: Status, said: str) -> None:
    with pytest.raises(Greeting, match=said) as raised:
        answer_hello(hello, Me())
    assert raised.value.status == status
    if status == Status.DEPARTED:
        assert messages.decode_departure(raised.value.body) == Me().departure_of(DEPARTED)
    else:
        assert raised.value.body == str(raised.value).encode()


def test_hellos_that_are_answered() -> None:
    for hello in (
        messages.Hello(versions=[1, 2], role="client"),
        messages.Hello(versions=[1], role="node", node_id=OTHER),
        messages.Hello(versions=[1], role="node", node_id=OTHER, cluster_id=b"c" * 16),
    ):
        assert answer_hello(hello, Me()).cluster_id == b"c" * 16
    assert answer_hello(messages.Hello(versions=[1], role="client", cluster_id=ALIEN), Me(cluster_id=None)).cluster_id is None


def made(dialled: bool, since_s: float) -> Session:
    return Session(Connection(PyFrameHandler(), Outbox()), dialled=dialled, passing=False, since_s=since_s)


@pytest.mark.parametrize("order", list(itertools.product([False, True], repeat=2)))
def test_two_nodes_that_dialled_each_other_keep_the_same_connection(order: tuple[bool, bool]) -> None:
    """Each end may have seen either connection first; both must end with the one that the smaller id dialled."""
    small, large = b"a" * 16, b"b" * 16

    def kept(own: bytes, peer: bytes, larger_first: bool) -> bytes:
        by_small, by_large = made(own == small, 0.0), made(own == large, 0.0)
        old, new = (by_large, by_small) if larger_first else (by_small, by_large)
        winner = old if stays(old, new, own, peer) else new
        return small if winner is by_small else large

    assert kept(small, large, order[0]) == kept(large, small, order[1]) == small


def test_an_old_connection_gives_way_because_the_other_side_must_have_lost_it() -> None:
    assert not stays(made(True, 0.0), made(False, RACE_S + 1), b"a" * 16, b"b" * 16)


async def one_ready(world: World) -> VirtualNode:
    node = VirtualNode(world, "10.0.0.1:7400", node__bootstrap=["10.0.0.1:7400"])
    await world.start(node)
    await world.until(lambda: node.node.state() == "ready")
    return node


def hello(**fields: object) -> bytes:
    return messages.encode(messages.Hello(**{"versions": [1], "role": "client", **fields}))


class Caller:
    """The accepted end of a virtual connection, fed by hand."""

    def __init__(self, node: VirtualNode) -> None:
        end = End("accepted")
        end.other = End("caller")
        end.other.connection = self  # the network brings the bytes here
        self.connection = node.node.reactor.adopt(end)
        self.cutter = FrameCutter()
        self.frames: list = []
        self.closing = False

    def say(self, type: int, body: bytes) -> None:
        self.connection.feed(encode_frame(type, body, request_id=5))

    def feed(self, data: bytes) -> None:
        self.frames += self.cutter.feed(data)

    def heard(self) -> list:
        """Every frame so far, those that wait to be carried too."""
        self.feed(self.connection.take())
        return self.frames


def test_a_client_is_greeted_and_may_ask() -> None:
    async def scenario(world: World) -> None:
        node = await one_ready(world)
        caller = Caller(node)
        caller.say(MessageType.HELLO, hello())
        (reply,) = caller.heard()
        assert messages.decode_hello_reply(reply.body).node_id == node.id
        assert caller.connection.hello_done
        assert caller.connection.peer is None
        caller.say(MessageType.CONTROL, messages.encode(messages.StatusRequest()))
        await world.until(lambda: len(caller.heard()) == 2)
        assert messages.decode_reply(caller.frames[1].body).state == "ready"

    in_virtual_time(scenario)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (hello(versions=[7]), Status.UNSUPPORTED_VERSION),
        (hello(role="node", node_id=OTHER, cluster_id=ALIEN), Status.WRONG_CLUSTER),
        (b"\xc1 nonsense", Status.BAD_REQUEST),
    ],
)
def test_a_refused_hello_is_answered_with_the_reason_and_closed(body: bytes, status: Status) -> None:
    async def scenario(world: World) -> None:
        caller = Caller(await one_ready(world))
        caller.say(MessageType.HELLO, body)
        (reply,) = caller.heard()
        assert (reply.type, reply.status) == (MessageType.HELLO_REPLY, status)
        assert reply.body
        assert caller.connection.closing
        assert not caller.connection.hello_done

    in_virtual_time(scenario)


def test_only_a_node_that_names_the_cluster_is_believed() -> None:
    async def scenario(world: World) -> None:
        node = await one_ready(world)
        cluster_id = node.view.cluster_id
        for fields, believed in (
            ({"role": "node", "node_id": OTHER, "cluster_id": cluster_id}, True),
            ({"role": "node", "node_id": ALIEN}, False),
            ({"role": "node", "node_id": ALIEN, "cluster_id": cluster_id, "passing": True}, False),
            ({"cluster_id": cluster_id}, False),
        ):
            caller = Caller(node)
            caller.say(MessageType.HELLO, hello(**fields))
            assert (caller.connection.peer is not None) == believed, fields

    in_virtual_time(scenario)


def test_a_second_hello_and_an_unknown_type_end_the_connection() -> None:
    async def scenario(world: World) -> None:
        node = await one_ready(world)
        for type in (MessageType.HELLO, MessageType.HELLO_REPLY, 77, 255):
            caller = Caller(node)
            caller.say(MessageType.HELLO, hello())
            caller.say(type, hello())
            assert caller.connection.closing, type
        assert node.node.state() == "ready"

    in_virtual_time(scenario)


def test_a_call_ends_with_its_reply_its_refusal_its_time_or_its_connection() -> None:
    async def scenario(world: World) -> None:
        request = messages.BucketListRequest()

        async def call(session: Session, outcome: list) -> None:
            try:
                outcome.append(await session.call(request, timeout_s=3))
            except CallFailed as error:
                outcome.append(error)

        reply = messages.BucketSetReply()
        for act, expected in (
            (lambda session: session.replied(1, Status.OK, messages.encode(reply)), reply),
            (lambda session: session.replied(1, Status.NOT_READY, b"not yet"), "not yet"),
            (lambda session: session.replied(1, Status.OK, b"\xc1"), "not a control reply"),
            (lambda session: session.ended("closed by the other side"), "closed by the other side"),
            (lambda session: session.replied(2, Status.OK, b""), "no reply within 3 s"),
        ):
            session, outcome = made(True, 0.0), []
            world.nursery.start_soon(call, session, outcome)
            await trio.sleep(0.1)
            act(session)
            await world.until(lambda outcome=outcome: bool(outcome), within_s=4)
            assert outcome[0] == expected or expected in str(outcome[0])

    in_virtual_time(scenario)


def test_dialling_somebody_who_never_answers_takes_a_bounded_time() -> None:
    async def scenario(world: World) -> None:
        node = await one_ready(world)

        class Silent:
            def accept(self, end: End) -> None:
                """Takes the connection and says nothing."""

        world.network.listening["10.0.0.8:7400"] = Silent()
        for address, said in (("10.0.0.8:7400", "no answer"), ("10.0.0.9:7400", "refused"), ("10.0.0.1:7400", "dialled itself")):
            with pytest.raises(CallFailed, match=said):
                await node.node.sessions.open(address)
        await trio.sleep(1)
        assert len(node.node.sessions) == 0

    in_virtual_time(scenario)
