"""The gate's driver does what it claims to count: every put and get of its three nodes is answered."""

from bench.gate.driver import PIECES
from bench.gate.node_core import PASS_REQUESTS, Requests


def test_every_piece_runs() -> None:
    for prepare, _ in PIECES.values():
        stretch = prepare()
        stretch(PASS_REQUESTS)()
        stretch(PASS_REQUESTS)()


def test_puts_and_gets_go_through_three_nodes() -> None:
    requests = Requests()
    requests.put_stretch(100)()
    requests.nodes.taken(100)
    requests.due = 0
    requests.get_stretch(100)()
    assert len(requests.nodes.taken(100)) == 100
    statistics = [plane.statistics() for plane in requests.nodes.planes]
    assert [node["puts"] for node in statistics] == [300, 0, 0]
    assert [node["stored"] for node in statistics] == [300, 300, 300]
    assert [node["gets"] for node in statistics] == [100, 0, 0]
