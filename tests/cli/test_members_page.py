"""What docs/operations.md says about adding and removing machines, run against fakes; live/test_members.py runs it against nodes."""

from __future__ import annotations

import re
from pathlib import Path

from dynamo_fast.client.members import STEPS
from dynamo_fast.wire.status import Status
from tests.cli.shell import Shell
from tests.client.loopback import loopback_cluster
from tests.live.test_tour import Step, pattern, steps

PAGE = (Path(__file__).parent.parent.parent / "docs" / "operations.md").read_text()


def blocks(kind: str) -> list[Step]:
    return [step for block in re.findall(rf"(?ms)^```console {kind}\n(.*?)^```", PAGE) for step in steps(block)]


def test_the_commands_do_what_the_page_says() -> None:
    assert len(blocks("members")) >= 6
    assert blocks("dead")
    with loopback_cluster(nodes=3, strangers=2) as cluster:
        shell = Shell(cluster)
        cluster.strangers[0].host = "db4"
        dead = cluster.nodes[1]
        addresses = {f"10.0.0.{number}:7400": node.address for number, node in enumerate((*cluster.nodes, *cluster.strangers), 1)}
        for kind in ("members", "dead"):
            for step in blocks(kind):
                if step.exit_code:
                    cluster.refusals.append((Status.BAD_REQUEST, "unsafe"))
                words = re.sub(r"10\.0\.0\.\d:7400", lambda found: addresses[found[0]], step.command.removeprefix("dynamo-fast "))
                result = shell(words, code=step.exit_code)
                assert re.fullmatch(pattern(step.output.rstrip("\n")), result.stdout.rstrip("\n"), re.DOTALL), result.output
            dead.away = True


def test_every_step_is_explained() -> None:
    assert re.findall(r"(?m)^\| `(\w+)` \| (?:they|writes|whoever|reads|copies)", PAGE) == list(STEPS[1:])
