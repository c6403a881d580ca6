"""join, leave, replace, weight and zone against a cluster of fakes: what they ask for, what they show, and how they end."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from dynamo_fast.cli.watch import sentence, shown
from dynamo_fast.client.members import ChangeProgress
from dynamo_fast.core.membership import Join, Leave, NodeEntry, Replace, WeightChange, ZoneChange
from dynamo_fast.wire.control_messages import ChangeStatus
from dynamo_fast.wire.status import Status
from tests.cli.shell import Shell
from tests.client.fake_node import FakeCluster
from tests.client.loopback import loopback_cluster

UNDER_WAY = {"change": ChangeStatus(from_number=1, to_number=2, step="synced", waiting_for=["c:3"])}


@pytest.fixture
def shell() -> Iterator[Shell[FakeCluster]]:
    with loopback_cluster(nodes=4, strangers=2) as cluster:
        yield Shell(cluster)


def test_nodes_join_in_one_step(shell: Shell[FakeCluster]) -> None:
    first, second = shell.cluster.strangers
    entries = [NodeEntry(id=node.id, address=node.address, host=node.address) for node in (first, second)]
    assert shell(f"join {first.address} {second.address}").output == "placement 2 is in force, 6 members, nothing left to move\n"
    assert [request.changes for _, request in shell.cluster.changes] == [[Join(member=entry) for entry in entries]]
    assert "is a member already" in shell(f"join {first.address}", code=1).stderr


def test_members_leave_are_replaced_and_change(shell: Shell[FakeCluster]) -> None:
    nodes, new = shell.cluster.nodes, shell.cluster.strangers[0]
    shell(f"weight {nodes[0].address} 300")
    shell(f"zone {nodes[1].address} west --unsafe")
    document = json.loads(shell(f"replace {nodes[2].id.hex()[:6]} {new.address} --json").stdout)
    assert document == {"placement": 4, "settled": True, "members": 4, "changes": document["changes"]}
    shell(f"leave {nodes[3].address} --no-wait")
    assert [(request.changes[0], request.unsafe) for _, request in shell.cluster.changes] == [
        (WeightChange(node_id=nodes[0].id, weight=300), False), (ZoneChange(host=nodes[1].address, zone="west"), True),
        (Replace(old=nodes[2].id, member=NodeEntry(id=new.id, address=new.address, host=new.address)), False),
        (Leave(node_id=nodes[3].id), False),
    ]  # fmt: skip


def test_a_dead_member_is_given_up_and_what_that_costs_is_said(shell: Shell[FakeCluster]) -> None:
    dead, other, new = *shell.cluster.nodes[2:], shell.cluster.strangers[0]
    assert "refused: " in (said := shell(f"leave {dead.address} --dead", code=1).stderr)
    assert "it is not dead" in said
    dead.away = True
    assert "W=1" in shell(f"leave {dead.address} --dead --timeout 20").stderr
    other.away = True
    result = shell(f"replace {other.address} {new.address} --dead --timeout 20")
    assert "are lost with it" in result.stderr
    changes = [request.changes[0] for _, request in shell.cluster.changes]
    assert [isinstance(change, Leave | Replace) and change.dead for change in changes] == [True, True]


def test_a_refusal_ends_with_1_and_names_nodes(shell: Shell[FakeCluster]) -> None:
    node = shell.cluster.nodes[0]
    for words in (f"weight {node.address} 5000", f"weight {node.address} 5000 --json"):
        shell.cluster.refusals.append((Status.BAD_REQUEST, f"node {node.id.hex()} would hold every partition"))
        result = shell(words, code=1)
        assert result.stderr == f"dynamo-fast: refused: node {node.address} would hold every partition\n"
    assert json.loads(result.stdout)["fate"] == "not applied"
    shell.cluster.refusals.append((Status.DEADLINE, "late"))
    assert "unknown whether applied" in shell(f"weight {node.address} 5000", code=5).stderr


@pytest.mark.parametrize(
    ("words", "reason"),
    [("leave nowhere:1", "no node of this cluster"), ("weight 01 5", "no node of this cluster"), ("zone nowhere west", "no member is on"),
     ("join 127.0.0.1:99999", "address"), ("weight a:1 0", "0 is not in the range"), ("leave", "Missing argument")],
)  # fmt: skip
def test_what_cannot_be_meant_is_a_usage_error(shell: Shell[FakeCluster], words: str, reason: str) -> None:
    assert reason in shell(words, code=2).output
    assert not shell.cluster.changes


def test_without_waiting_it_says_what_is_to_come(shell: Shell[FakeCluster]) -> None:
    first, second = shell.cluster.strangers
    assert "placement 2 is on its way; the change goes on" in shell(f"join {first.address} --no-wait").stdout
    assert json.loads(shell(f"join {second.address} --no-wait --json").stdout)["settled"] is False


def test_waiting_shows_each_step_and_ends_with_5_when_time_is_over(shell: Shell[FakeCluster]) -> None:
    node, new = shell.cluster.nodes[0], shell.cluster.strangers[0]
    node.reports.extend([{}, *[UNDER_WAY] * 3])  # the first answers the question who the members are
    result = shell(f"join {new.address}")
    assert result.stderr == "placement 1 to 2: step 3 of 6, synced, waits for c:3\n"
    node.reports.extend([UNDER_WAY] * 1000)
    result = shell(f"weight {node.address} 50 --timeout 0.5", code=5)
    assert "not over after 0.5 s; the change goes on" in result.stderr
    assert json.loads(shell(f"weight {node.address} 50 --timeout 0.5 --json", code=5).stdout)["settled"] is False


def test_interrupting_the_waiting_leaves_the_change_alone(shell: Shell[FakeCluster]) -> None:
    class Interrupting(deque[dict[str, Any]]):
        def popleft(self) -> dict[str, Any]:
            if len(self) == 95:
                os.kill(os.getpid(), signal.SIGINT)
            return super().popleft()

    shell.cluster.nodes[0].reports = Interrupting([UNDER_WAY] * 100)
    result = shell(f"weight {shell.cluster.addresses[0]} 50", code=1)
    assert "dynamo-fast: stopped waiting; the change goes on" in result.stderr
    assert len(shell.cluster.changes) == 1


def test_status_tells_of_a_change_and_waits_until_it_is_over(shell: Shell[FakeCluster]) -> None:
    node = shell.cluster.nodes[1]
    assert "change of members" not in shell("status").stdout
    node.reports.append(UNDER_WAY)
    assert "change of members: placement 1 to 2: step 3 of 6, synced, waits for c:3" in shell("status").stdout
    node.reports.append({**UNDER_WAY, "beside": [NodeEntry(id=b"l" * 16, address=shell.cluster.strangers[0].address, host="l")]})
    document = json.loads(shell("status --json").stdout)
    assert document[node.address]["change"]["waiting_for"] == ["c:3"]
    assert document[shell.cluster.strangers[0].address]["state"] == "waiting"
    node.reports.extend([UNDER_WAY] * 3)
    shell("status --wait settled")
    assert not node.reports
    node.reports.extend([{"statistics": {"parting": {"old_copies": 7}}}] * 1000)
    assert "not over after 0.5 s" in shell("status --wait settled --timeout 0.5", code=5).stderr
    assert "7 old copies to part with" in shell("status").stdout
    node.reports.clear()
    node.state = "leaving"
    shell("status --wait ready")


FAR = ChangeProgress(
    settled=False, from_number=7, to_number=8, step="synced", waiting_for=("a:1", "b:2"), silent=("b:2", "c:3"), waiting_changes=2,
    partitions_wanted=341, partitions_done=120, bytes_moved=5 << 20, bytes_per_s=2048.0, seconds_left=3723.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("progress", "said"),
    [
        (ChangeProgress(settled=True), "settled"),
        (ChangeProgress(settled=False), "news are on their way to all nodes"),
        (ChangeProgress(settled=False, step="none", waiting_changes=1), "about to begin"),
        (ChangeProgress(settled=False, old_copies=9, handing_over=("a:1",)), "9 old copies to part with, a:1 leaving"),
        (FAR, "placement 7 to 8: step 3 of 6, synced, 120 of 341 replicas copied, 5.0 MiB moved at 2.0 KiB/s, about 1 h 2 min left,"
              " waits for a:1, b:2 (no answer), no answer from c:3, 2 more to begin when this is over"),
    ],
)  # fmt: skip
def test_a_sentence_says_what_there_is_to_say(progress: ChangeProgress, said: str) -> None:
    assert sentence(progress) == said


def test_in_a_terminal_a_bar_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERM", "xterm")
    with shown(quiet=False) as show:
        show(FAR)
    assert "120 of 341 replicas copied" in terminal.getvalue()
    with shown(quiet=True) as show:
        show(ChangeProgress(settled=True))
    assert "settled" not in terminal.getvalue()
