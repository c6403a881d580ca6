"""load and export: whatever bytes go in come out, through JSON lines and through files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo_fast.cli.transfer import BadOutput, Entry, batches, file_key, file_name, format_line, parse_line
from dynamo_fast.client.results import Result, Sibling
from dynamo_fast.wire.status import Status
from tests.cli.shell import Shell
from tests.client.fake_node import FakeCluster
from tests.client.loopback import loopback_cluster

KEYS = [b"plain", "ключ".encode(), b"\xff\x00\n", b"a/b/../c", b".", b"..", b"50%", b"\\", b" "]


@pytest.fixture
def shell() -> Iterator[Shell[FakeCluster]]:
    with loopback_cluster() as cluster:
        yield Shell(cluster)


@given(st.binary(min_size=1, max_size=20), st.lists(st.binary(max_size=20), min_size=1, max_size=3))
def test_a_line_reads_back_as_what_was_written(key: bytes, values: list[bytes]) -> None:
    line = format_line(Result(key, b"", [Sibling(value, False, 0) for value in values]))
    assert line.count("\n") == 1
    assert parse_line(line.encode(), "here") == Entry(key, values, "here")


@given(st.binary(min_size=1, max_size=80))
def test_a_file_name_is_safe_and_reads_back_as_its_key(key: bytes) -> None:
    name = file_name(key)
    assert "/" not in name
    assert "\0" not in name
    assert name not in (".", "..")
    assert file_key(name) == key


def test_a_key_too_long_for_a_file_name_is_told() -> None:
    with pytest.raises(BadOutput, match="too long for a file name"):
        file_name(b"x" * 256)


def test_a_step_never_holds_a_key_twice_nor_more_than_memory_should() -> None:
    found = [Entry(b"a", [b"1"], ""), Entry(b"b", [b"2"], ""), Entry(b"a", [b"3"], "")]
    assert [[entry.values[0] for entry in batch] for batch in batches(found)] == [[b"1", b"2"], [b"3"]]
    large = [Entry(b"%d" % number, [bytes(1 << 20)], "") for number in range(20)]
    assert [len(batch) for batch in batches(large)] == [8, 8, 4]
    assert [len(batch) for batch in batches(Entry(b"%d" % number, [b""], "") for number in range(2500))] == [1000, 1000, 500]


def test_json_lines_go_in_and_come_out(shell: Shell[FakeCluster], tmp_path: Path) -> None:
    lines = "".join(format_line(Result(key, b"", [Sibling(key * 3, False, 0)])) for key in KEYS)
    assert "9 keys loaded, 0 failed" in shell("load -", stdin=lines.encode()).stdout
    shell("load", stdin=lines.encode())  # again: nothing doubles
    target = tmp_path / "out.jsonl"
    assert "9 keys exported" in shell("export", target).stdout
    assert sorted(target.read_text().splitlines()) == sorted(lines.splitlines())
    assert sorted(shell("export").stdout.splitlines()) == sorted(lines.splitlines())
    assert json.loads(shell("load --json --blind", target).stdout) == {"loaded": 9, "failed": 0, "bytes": 3 * sum(map(len, KEYS))}
    siblings = [json.loads(line) for line in shell("export").stdout.splitlines()]
    assert {len(record["siblings"]) for record in siblings} == {2}
    shell("bucket set copy")
    shell("load -b copy", stdin=shell("export").stdout_bytes)
    assert sorted(shell("export -b copy").stdout.splitlines()) == sorted(shell("export").stdout.splitlines())


def test_the_later_line_of_a_key_wins_however_far_apart(shell: Shell[FakeCluster]) -> None:
    lines = [json.dumps({"key": f"k{number % 1300}", "value": str(number)}) for number in range(5000)]
    shell("load", stdin="\n".join(lines).encode())
    exported = [json.loads(line) for line in shell("export").stdout.splitlines()]
    assert {record["key"]: int(record["value"]) for record in exported} == {f"k{number % 1300}": number for number in range(5000)}


def test_a_directory_goes_in_and_comes_out(shell: Shell[FakeCluster], tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "sub").mkdir(parents=True)
    (source / "one").write_bytes(b"\xff\x00")
    (source / "sub" / "two").write_bytes(b"")
    shell("load", source)
    assert shell("get one").stdout_bytes == b"\xff\x00"
    assert shell("get sub/two").stdout_bytes == b""
    target = tmp_path / "out"
    shell("export --files", target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"one": b"\xff\x00", "sub%2Ftwo": b""}
    assert "exists" in shell("export --files", target, code=1).stderr
    shell("put one other")
    skipped = shell("export --files", tmp_path / "again", code=4)
    assert "one has siblings" in skipped.stderr
    shell("put", "x" * 300, "v")
    assert "too long for a file name: export JSON lines instead" in shell("export --files", tmp_path / "long", code=1).stderr
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["sub%2Ftwo"]


def test_bad_input_names_its_place_and_what_was_loaded_before(shell: Shell[FakeCluster], tmp_path: Path) -> None:
    for line, words in (
        (b"{", "stdin:2: is not JSON"),
        (b"[]", "stdin:2: is not a JSON object"),
        (b'{"value": "v"}', "stdin:2: has no 'key'"),
        (b'{"key": "k"}', "stdin:2: has no 'value'"),
        (b'{"key": "k", "value": 1}', "stdin:2: 'value' is not text"),
        (b'{"key": "k", "value_base64": "!"}', "stdin:2"),
        (b'{"key": "k", "siblings": []}', "stdin:2: 'siblings' is not a list"),
        (b'{"key": "k", "key_base64": "aw==", "value": "v"}', "stdin:2: has both"),
        (b'\xff{"key"', "stdin:2"),
    ):
        failed = shell("load", stdin=b'{"key": "first", "value": "v"}\n' + line + b"\n", code=1)
        assert words in failed.stderr
        assert "(1 keys were loaded before)" in failed.stderr
    assert "does not exist" in shell("load", tmp_path / "absent", code=1).stderr
    assert shell("get first").stdout_bytes == b"v"


def test_a_bucket_that_was_never_made_is_told_once_and_by_its_name(shell: Shell[FakeCluster], tmp_path: Path) -> None:
    for node in shell.cluster.nodes:
        node.script.extend([Status.NO_SUCH_BUCKET] * 5000)
    lines = "".join(json.dumps({"key": f"k{number}", "value": "v"}) + "\n" for number in range(5000))
    failed = shell("load -b typo", stdin=lines.encode(), code=1)
    assert failed.stderr.count("there is no bucket 'typo': make it with `dynamo-fast bucket set typo`") == 1
    assert "there is no bucket 'typo'" in shell("keys -b typo --count", code=1).stderr
    assert "there is no bucket 'typo'" in shell("export -b typo", tmp_path / "out", code=1).stderr
    assert json.loads(shell("export -b typo --json", code=1).stdout)["error"] == "NoSuchBucket"


def test_keys_that_fail_are_named_and_the_rest_is_loaded(shell: Shell[FakeCluster]) -> None:
    for node in shell.cluster.nodes:
        node.script.append(Status.TOO_LARGE)
    lines = "".join(json.dumps({"key": f"k{number}", "value": "v"}) + "\n" for number in range(100))
    failed = shell("load --json", stdin=lines.encode(), code=1)
    assert json.loads(failed.stdout) == {"loaded": 97, "failed": 3, "bytes": 97}
    assert failed.stderr.count("told to answer TOO_LARGE [not applied]") == 3
