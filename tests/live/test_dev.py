"""`dynamo-fast dev`: a whole cluster in one terminal, from the first line to a clean stop."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.cluster import wait_until

pytestmark = pytest.mark.live
COMMAND = [sys.executable, "-m", "dynamo_fast"]


class Dev:
    """A running `dynamo-fast dev` and what it has printed so far."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "dev", "--data-dir", str(data_dir), "--port", str(port)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, self.output
            return "Ctrl-C stops it" in self.output
        wait_until(ready, "the line that says ready")

    def stop(self, signum: int = signal.SIGINT) -> int:
        """The exit code after that signal."""
        self.process.send_signal(signum)
        code = self.process.wait(20)
        self.reader.join()
        return code


def three_ports() -> int:
    """The first of three ports, ten apart as `dev` wants them, that were free a moment ago."""
    while True:
        with contextlib.ExitStack() as held:
            first = held.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            try:
                for step in (10, 20):
                    held.enter_context(socket.create_server(("127.0.0.1", first + step)))
            except (OSError, OverflowError):
                continue
            return int(first)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], Dev]]:
    """Starts a cluster, always with the same data and ports, and waits until it says that it is ready."""
    port = three_ports()
    started: list[Dev] = []

    def start() -> Dev:
        started.append(Dev(tmp_path / "data", port))
        started[-1].wait_ready()
        return started[-1]

    yield start
    for dev in started:
        if dev.process.poll() is None:
            dev.process.kill()
            dev.process.wait()
        dev.reader.join()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30)


def test_start_put_get_stop(start: Callable[[], Dev]) -> None:
    """What it says to type works; Ctrl-C ends it with exit code 0; another start serves the same data."""
    dev = start()
    address = re.search(r"--seeds (127\.0\.0\.1:\d+)", dev.output)
    assert address, dev.output
    put = run("put", "greeting", "hello", "--seeds", address[1])
    assert put.returncode == 0, put.stderr
    assert dev.stop() == 0, dev.output
    assert "Traceback" not in dev.output
    again = start()
    got = run("get", "greeting", "--seeds", address[1])
    assert (got.returncode, got.stdout) == (0, "hello"), got.stderr
    assert again.stop(signal.SIGTERM) == 0, again.output


def test_every_line_says_whose_it_is(start: Callable[[], Dev]) -> None:
    dev = start()
    assert dev.stop() == 0
    assert {line.split("|")[0].strip() for line in dev.lines} == {"dev", "node1", "node2", "node3"}
