"""get, put, delete and keys as a user of the shell meets them: bytes, siblings, exit codes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamo_fast.wire.status import Status
from tests.cli.shell import Shell
from tests.client.fake_node import FakeCluster
from tests.client.loopback import loopback_cluster


@pytest.fixture
def shell() -> Iterator[Shell[FakeCluster]]:
    with loopback_cluster() as cluster:
        yield Shell(cluster)


def test_put_get_and_delete_keep_every_byte(shell: Shell[FakeCluster], tmp_path: Path) -> None:
    value = bytes(range(256)) * 10
    source = tmp_path / "value"
    source.write_bytes(value)
    shell("put k --file", source)
    assert shell("get k").stdout_bytes == value
    shell("put k - --overwrite", stdin=b"\x00\n\xff")
    assert shell("get k").stdout_bytes == b"\x00\n\xff"
    shell("put k --overwrite", "two words")
    assert json.loads(shell("get k --json").stdout)["value"] == "two words"
    shell("delete k")
    gone = shell("get k", code=3)
    assert gone.stdout_bytes == b""
    assert "no value for key 'k'" in gone.stderr
    assert json.loads(shell("get k --json", code=3).stdout)["found"] is False
    assert "no value" in shell("delete k", code=3).stderr


def test_siblings_are_shown_numbered_and_settled_by_hand(shell: Shell[FakeCluster], tmp_path: Path) -> None:
    context = tmp_path / "context"
    shell("put cart milk")
    shell("put cart -", stdin=b"eg\xffgs\x1b")
    shown = shell("get cart --context-to", context, code=4)
    numbers = [line.split("\t")[0] for line in shown.stdout.splitlines()]
    assert numbers == ["1", "2"]
    assert {line.split("\t")[3] for line in shown.stdout.splitlines()} == {"milk", "eg\\xffgs\\x1b"}
    assert "put cart --take N" in shown.stderr
    document = json.loads(shell("get cart --json", code=4).stdout)
    values = {sibling.get("value") or base64.b64decode(sibling["value_base64"]) for sibling in document["siblings"]}
    assert values == {"milk", b"eg\xffgs\x1b"}
    assert "value" not in document
    one, two = shell("get cart --sibling 1").stdout_bytes, shell("get cart --sibling 2").stdout_bytes
    assert {one, two} == {b"milk", b"eg\xffgs\x1b"}
    assert "there are 2 siblings, not 3" in shell("get cart --sibling 3", code=1).stderr
    shell("put cart --take 2")
    assert shell("get cart").stdout_bytes == two
    shell("put cart late --context", context)  # knew the first two, not the choice made since
    assert shell("get cart", code=4)
    shell("put cart all --resolve")
    assert shell("get cart").stdout_bytes == b"all"
    shell("delete cart --context", context)  # a delete of what has been replaced leaves the rest
    assert shell("get cart").stdout_bytes == b"all"


def test_a_delete_among_the_siblings_has_no_value_and_can_be_taken(shell: Shell[FakeCluster], tmp_path: Path) -> None:
    context = tmp_path / "context"
    shell("put cart milk --context-to", context)
    shell("put cart eggs")
    shell("put cart flour")
    shell("delete cart --context", context)
    shown = shell("get cart", code=4).stdout.splitlines()
    (deleted,) = [line.split("\t")[0] for line in shown if line.endswith("(deleted)")]
    assert "is a delete" in shell(f"get cart --sibling {deleted}", code=3).stderr
    shell(f"put cart --take {deleted}")
    shell("get cart", code=3)


def test_keys_are_listed_escaped_raw_counted_and_as_json(shell: Shell[FakeCluster]) -> None:
    for key in ("plain", "tab\there", "ключ", b"\xff\xfe"):
        shell("put -b names", key, "v")
    shell("bucket set names")
    assert sorted(shell("keys -b names").stdout.splitlines()) == sorted(["plain", "tab\\there", "ключ", "\\xff\\xfe"])
    raw = shell("keys -b names -0").stdout_bytes.split(b"\0")
    assert sorted(raw) == sorted([b"", b"plain", b"tab\there", "ключ".encode(), b"\xff\xfe"])
    lines = [json.loads(line) for line in shell("keys -b names --json").stdout.splitlines()]
    assert {"key_base64": base64.b64encode(b"\xff\xfe").decode()} in lines
    assert {"key": "ключ"} in lines
    assert shell("keys -b names --count").stdout == "4\n"
    assert json.loads(shell("keys -b names --count --json").stdout) == {"keys": 4}
    assert len(shell("keys -b names --limit 2").stdout.splitlines()) == 2
    assert shell("keys").stdout == ""


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (Status.BAD_CONTEXT, 1, "[not applied]"),
        (Status.NO_SUCH_BUCKET, 1, "[not applied]"),
        (Status.OVERLOAD, 6, "[not applied]"),
        (Status.NOT_ENOUGH_REPLICAS, 5, "[not applied]"),
        (Status.QUORUM_FAILED, 5, "[unknown whether applied]"),
        (Status.DEADLINE, 5, "[unknown whether applied]"),
    ],
)
def test_errors_end_with_their_code_and_tell_the_fate(shell: Shell[FakeCluster], status: Status, code: int, words: str) -> None:
    for node in shell.cluster.nodes:
        node.script.extend([status] * 100)
    failed = shell("put k v --deadline 0.2", code=code)
    assert f"told to answer {status.name}" in failed.stderr
    assert words in failed.stderr
    document = json.loads(shell("put k v --deadline 0.2 --json", code=code).stdout)
    assert document["fate"] == words.strip("[]")


def test_usage_mistakes_and_absent_clusters(shell: Shell[FakeCluster], tmp_path: Path) -> None:
    for mistake in ("put k", "put k v --file x", "put k v --resolve --overwrite", "get k --r 0", "put k v --w 255", "get k --deadline 61"):
        shell(mistake, code=2)
    assert "empty key" in shell("get", "", code=1).stderr
    assert "cannot read" in shell("put k --file", tmp_path / "absent", code=1).stderr
    (tmp_path / "context").write_text("not base64!")
    assert "holds no context" in shell("put k v --context", tmp_path / "context", code=1).stderr
    assert "no seed answered" in shell("get k --seeds 127.0.0.1:1", code=5).stderr
    assert "is not an address" in shell("get k --seeds a:b", code=2).stderr
