"""A node that cannot serve says why in one sentence and ends; one whose disk is full goes on reading and loses nothing."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamo_fast.wire.data_messages import decode_get_reply, encode_get, encode_put
from dynamo_fast.wire.frame import encode_frame
from dynamo_fast.wire.status import MessageType, Status
from tests.live.cluster import Cluster, Node, free_port, wait_until
from tests.live.raw import Closed, RawConnection, status

pytestmark = pytest.mark.live
REFUSED = 7
USAGE = 2
MIB = 1 << 20


def serve(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A serve that is expected to end by itself."""
    return subprocess.run([sys.executable, "-m", "dynamo_fast", "serve", *arguments], capture_output=True, text=True, timeout=30,
                          env={**os.environ, **(environment or {})})


def sentence(result: subprocess.CompletedProcess[str]) -> str:
    """What it said when it refused: the last line, and no traceback."""
    output = result.stdout + result.stderr
    assert "Traceback" not in output, output
    return output.strip().splitlines()[-1]


def address() -> str:
    return f"127.0.0.1:{free_port('127.0.0.1')}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Cluster(tmp_path_factory.mktemp("refusals"), nodes=1) as cluster:
        cluster.wait_ready()
        yield cluster[0]


def test_port_in_use(running: Node, tmp_path: Path) -> None:
    result = serve("--data-dir", str(tmp_path / "other"), "--listen", running.address)
    assert result.returncode == REFUSED
    assert running.address in sentence(result)
    assert "in use" in sentence(result)


def test_data_directory_in_use(running: Node) -> None:
    result = serve("--data-dir", str(running.data_dir), "--listen", address())
    assert result.returncode == REFUSED
    assert str(running.data_dir) in sentence(result)
    assert status(running.address).state == "ready"


def test_foreign_data_directory(tmp_path: Path) -> None:
    """A directory with somebody else's files is not written to."""
    (tmp_path / "letter.txt").write_text("dear reader")
    result = serve("--data-dir", str(tmp_path), "--listen", address())
    assert result.returncode == REFUSED
    assert str(tmp_path) in sentence(result)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_newer_data_directory(tmp_path: Path) -> None:
    """A format number that this version does not know is refused, and nothing in the directory changes."""
    with Cluster(tmp_path, nodes=1) as cluster:
        cluster.wait_ready()
        assert cluster.terminate() == [0]
        node = cluster[0]
        (node.data_dir / "FORMAT").write_text("999\n")
        before = contents(node.data_dir)
        node.start()
        assert node.wait() == REFUSED
        last = node.log().strip().splitlines()[-1]
        assert "999" in last
        assert "newer" in last
        assert contents(node.data_dir) == before


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*"))
            if path.is_file() and path.name != "LOCK"}


def test_data_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    result = serve("--data-dir", str(tmp_path / "file" / "data"), "--listen", address())
    assert result.returncode == REFUSED
    assert str(tmp_path / "file") in sentence(result)


def test_address_open_to_others(tmp_path: Path) -> None:
    result = serve("--data-dir", str(tmp_path / "data"), "--listen", "0.0.0.0:0")
    assert result.returncode in (USAGE, REFUSED)
    assert "--insecure-listen" in sentence(result)


@pytest.mark.parametrize(("text", "words"), [
    ("[requests]\nw = 17\n", ["requests.w", "17", "from 1 to 16"]),
    ("[requests]\nw = 5\n", ["requests.w", "5", "cluster.replicas = 3"]),
    ("[storage]\nengine = 'paper'\n", ["storage.engine", "lmdb or memory"]),
    ("[limits]\nvalue_byte_max = 3\n", ["limits.value_byte_max", "value_bytes_max"]),
    ("[limit]\n", ["[limit]", "limits"]),
    ("[node]\nweight = 'heavy'\n", ["node.weight", "heavy"]),
    ("[cluster]\npartitions = 1000\n", ["cluster.partitions", "power of two"]),
    ("[node\n", ["TOML"]),
])
def test_configuration_mistake(tmp_path: Path, text: str, words: list[str]) -> None:
    """The sentence names the key and what is allowed."""
    config = tmp_path / "node.toml"
    config.write_text(text)
    result = serve("--config", str(config), "--data-dir", str(tmp_path / "data"), "--listen", address())
    assert result.returncode in (USAGE, REFUSED)
    for word in words:
        assert word in sentence(result)


def test_environment_mistake(tmp_path: Path) -> None:
    result = serve("--data-dir", str(tmp_path / "data"), "--listen", address(), environment={"DYNAMO_FAST_REQUESTS_DW": "many"})
    assert result.returncode in (USAGE, REFUSED)
    assert "DYNAMO_FAST_REQUESTS_DW" in sentence(result)


# ---- a full disk ----------------------------------------------------------------------------------------------------

# Either the log meets the full disk first, or LMDB does, which then cannot take records over until the log is at its bound.
LOG_FIRST = """
[storage]
log_bytes_max = 268435456
log_segment_bytes = 1048576
write_buffer_bytes_max = 134217728
"""
LMDB_FIRST = """
[storage]
log_bytes_max = 16777216
log_segment_bytes = 1048576
write_buffer_bytes_max = 8388608
"""
# The node gets a mount namespace of its own, in which its data directory is a small file system; it goes with the process.
MOUNT = 'mount -t tmpfs -o size=24m tmpfs "$0" && exec "$@"'


def put(node: Node, number: int) -> int:
    """The status of a put of 100 KiB; without an answer nobody knows either: a pass whose log write fails answers nothing."""
    body = encode_put(b"key/%d" % number, value_of(number), put_id=os.urandom(16))
    with RawConnection(node.address, timeout_s=3) as connection:
        connection.send(encode_frame(MessageType.PUT, body, request_id=1))
        try:
            return connection.read_frame().status
        except (TimeoutError, Closed):
            return Status.DEADLINE


def value_of(number: int) -> bytes:
    return number.to_bytes(8, "little") * (100 * 128)


def all_there(node: Node, numbers: list[int]) -> bool:
    with RawConnection(node.address) as connection:
        for number in numbers:
            connection.send(encode_frame(MessageType.GET, encode_get(b"key/%d" % number), request_id=number))
            reply = connection.read_frame()
            assert reply.status == Status.OK, reply
            assert [sibling[0] for sibling in decode_get_reply(reply.body)[1]] == [value_of(number)]
    return True


@pytest.mark.parametrize(("config", "refusals"), [
    pytest.param(LOG_FIRST, {Status.READ_ONLY}, id="log"),
    pytest.param(LMDB_FIRST, {Status.READ_ONLY, Status.OVERLOAD}, id="lmdb"),
])
def test_full_disk(tmp_path: Path, config: str, refusals: set[Status]) -> None:
    """Puts are refused with a reason and nothing acknowledged is lost; when space returns puts work again by themselves."""
    with_rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    cluster = Cluster(tmp_path, nodes=1, config=config)
    node = cluster[0]
    node.data_dir.mkdir()
    node.wrapper = ["unshare", "--mount", *with_rights, "sh", "-c", MOUNT, str(node.data_dir)]
    with cluster:
        cluster.wait_ready()
        # Seen from here the file system is inside the process's own root.
        inside = Path(f"/proc/{node.pid}/root") / node.data_dir.relative_to("/")
        ballast = inside / "ballast"
        ballast.write_bytes(bytes(8 * MIB))
        acknowledged: list[int] = []
        for number in range(1, 1000):
            outcome = put(node, number)
            if outcome == Status.OK:
                acknowledged.append(number)
            elif outcome < Status.QUORUM_FAILED:
                break
        assert outcome in refusals, outcome
        assert len(acknowledged) > 20
        assert all_there(node, acknowledged)
        ballast.unlink()
        wait_until(lambda: put(node, 5000) == Status.OK, "puts to be accepted again")
        assert all_there(node, acknowledged)
        assert "Traceback" not in node.log()
        assert node.log().count("the disk refuses writes") < 10, "a state is said once, not with every pass"
