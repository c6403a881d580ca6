"""Nodes as child processes: started with every setting given, their output prefixed, stopped together, dead when we are.

`dev` and `serve --workers` stand on this. A child is in a session of its own, so that Ctrl-C in the terminal reaches only the parent,
which then asks each child to drain.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import trio

from dynamo_fast.node.config import settings

STOP_S = 15.0  # a child that has not drained by then is killed


def environment_for(flags: Mapping[str, Any], base: Mapping[str, str]) -> dict[str, str]:
    """The parent's environment with those settings (`{"node.listen": value}`) put on top, as `serve` reads them."""
    known = settings()
    made = dict(base)
    for name, value in flags.items():
        section, key = name.split(".")
        text = ",".join(value) if isinstance(value, list) else str(value).lower() if isinstance(value, bool) else str(value)
        made[known[section][key].variable] = text
    return made


@dataclass
class Child:
    """One process; `code` is None while it runs."""

    name: str
    process: subprocess.Popen[bytes]
    code: int | None = None


class Children:
    """Some children of one nursery. `write` gets each line that one of them prints, as bytes with its newline."""

    def __init__(self, nursery: trio.Nursery, write: Callable[[str, bytes], None]) -> None:
        self._nursery = nursery
        self._write = write
        self.running: dict[str, Child] = {}
        self.codes: dict[str, int] = {}  # how each name ended last
        self._nobody = trio.Event()  # set whenever `running` becomes empty
        self._ended_send, self.ended = trio.open_memory_channel[Child](1000)

    def start(self, name: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        """Runs `dynamo-fast` with these arguments; it is in `running` until it ends, then comes out of `ended`."""
        # From this thread: the kernel's "parent" of die_with_parent is the thread that started the child, and trio's come and go.
        process = subprocess.Popen(
            [sys.executable, "-m", "dynamo_fast", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )
        child = self.running[name] = Child(name, process)
        self._nobody = trio.Event()
        self._nursery.start_soon(self._watch, child)

    async def _watch(self, child: Child) -> None:
        try:
            await self._relay(child)
            child.code = await trio.to_thread.run_sync(child.process.wait)
        except BaseException:
            child.process.kill()
            raise
        self.codes[child.name] = child.code
        del self.running[child.name]
        if not self.running:
            self._nobody.set()
        self._ended_send.send_nowait(child)

    async def _relay(self, child: Child) -> None:
        rest = b""
        assert child.process.stdout is not None
        async with trio.lowlevel.FdStream(os.dup(child.process.stdout.fileno())) as stream:
            async for chunk in stream:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._write(child.name, line + b"\n")
        child.process.stdout.close()
        if rest:
            self._write(child.name, rest + b"\n")

    async def stop(self) -> None:
        """SIGTERM to all; whoever does not end in time is killed. Their codes are in `codes`."""
        for child in self.running.values():
            child.process.send_signal(signal.SIGTERM)
        if self.running:
            with trio.move_on_after(STOP_S) as scope:
                await self._nobody.wait()
            if scope.cancelled_caught:
                for child in self.running.values():
                    child.process.kill()
                await self._nobody.wait()


def write_prefixed(width: int, colours: bool) -> Callable[[str, bytes], None]:
    """A writer of `name | line` to standard output, each name in a colour of its own if asked for."""
    numbers: dict[str, int] = {}

    def write(name: str, line: bytes) -> None:
        colour = 31 + numbers.setdefault(name, len(numbers)) % 6
        prefix = f"{name:<{width}} | "
        sys.stdout.buffer.write((f"\x1b[{colour}m{prefix}\x1b[0m" if colours else prefix).encode() + line)
        sys.stdout.buffer.flush()

    return write


def die_with_parent() -> None:
    """Asks the kernel to send this process SIGTERM when the one that started it is gone; for children of `Children`."""
    import ctypes  # only children pay for it

    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() == 1:
        raise SystemExit(0)  # it went before we could ask
