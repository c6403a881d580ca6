"""Fuzzes every decoder of _ext/ with libFuzzer under the address and undefined-behaviour sanitizers.

    python -m tests.fuzz.run --seconds 30 [--jobs 2] [target ...]

Builds each tests/fuzz/fuzz_<noun>.c with the C files it names, starts from golden messages and from what earlier runs
kept in build/fuzz/corpus, and prints a line per target (executions, executions a second, edges taken) and one per C file
(which of its regions of code all targets together reached). Exits 1 when a target
crashes (the input that did it is kept in build/fuzz/crashes), 2 when there is no clang that can do it.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import coverage, seeds

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build/fuzz"
COMPILERS = ("clang-14", "clang", "clang-16", "clang-17", "clang-18", "clang-19", "clang-15")
FLAGS = [
    "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", "-O1", "-fno-omit-frame-pointer",
    "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=undefined", "-I_ext", "-Itests/fuzz",
]
# The C files under test; only their own code counts as coverage worth having, so nothing else is linked.
TARGETS = {
    "frame": ["frame", "messages", "checksum"],
    "messages": ["messages"],
    "object": ["object", "siblings", "put", "cloud", "vector_clock"],
    "siblings": ["object", "siblings", "put", "cloud", "vector_clock"],
    "clock": ["vector_clock"],
    "context": ["mac"],
}
INPUT_BYTES_MAX = 4096


@dataclass(frozen=True)
class Result:
    """What one target did. `edges` of `edges_total` branches of the program were taken."""

    noun: str
    ok: bool
    executions: int
    executions_per_s: int
    edges: int
    edges_total: int
    log: str

    def line(self) -> str:
        share = 100 * self.edges / max(1, self.edges_total)
        return (
            f"fuzz: {self.noun:<9} {'ok' if self.ok else 'CRASHED':<8}{self.executions:>12,} executions {self.executions_per_s:>9,}/s"
            f"   coverage {self.edges} of {self.edges_total} edges ({share:.0f} %)"
        )


def compiler() -> str | None:
    """A clang that links libFuzzer, or None."""
    OUT.mkdir(parents=True, exist_ok=True)
    probe = OUT / "probe.c"
    probe.write_text("#include <stddef.h>\nint LLVMFuzzerTestOneInput(const char *d, size_t n) { (void)d; return (int)(n * 0); }\n")
    for name in COMPILERS:
        if shutil.which(name) is None:
            continue
        command = [name, "-fsanitize=fuzzer,address,undefined", str(probe), "-o", str(OUT / "probe")]
        if subprocess.run(command, capture_output=True).returncode == 0:
            return name
    return None


def build(clang: str, noun: str) -> Path:
    """The program of one target, made anew when a source is newer; raises CalledProcessError with the compiler's words."""
    program = OUT / f"fuzz_{noun}"
    sources = [ROOT / f"tests/fuzz/fuzz_{noun}.c", *(ROOT / f"_ext/{name}.c" for name in TARGETS[noun])]
    read = [*sources, *(ROOT / "_ext").glob("*.h"), ROOT / "tests/fuzz/fuzz.h", Path(__file__)]
    if not program.exists() or program.stat().st_mtime < max(path.stat().st_mtime for path in read):
        subprocess.run([clang, *FLAGS, *map(str, sources), "-o", str(program)], cwd=ROOT, check=True)
    return program


def number(pattern: str, log: str) -> int:
    found = re.findall(pattern, log)
    return int(found[-1]) if found else 0


def fuzz(clang: str, noun: str, seconds: int) -> Result:
    program = build(clang, noun)
    corpus, start, crashes = OUT / "corpus" / noun, OUT / "seeds" / noun, OUT / "crashes" / noun
    shutil.rmtree(start, ignore_errors=True)
    seeds.write(noun, start)
    corpus.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(parents=True, exist_ok=True)
    command = [
        str(program), f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}", "-timeout=5", "-rss_limit_mb=1024",
        "-print_final_stats=1", f"-artifact_prefix={crashes}/", str(corpus), str(start),
    ]
    began = time.monotonic()
    # Far more than it may take: libFuzzer keeps its own time, this is for one that hangs.
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", timeout=seconds * 3 + 120)
    elapsed = time.monotonic() - began
    executions = number(r"stat::number_of_executed_units:\s+(\d+)", done.stderr)
    return Result(
        noun=noun,
        ok=done.returncode == 0,
        executions=executions,
        executions_per_s=int(executions / elapsed),
        edges=number(r"\bcov: (\d+)", done.stderr),
        edges_total=number(r"Loaded 1 modules\s+\((\d+) inline", done.stderr),
        log=done.stderr,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=30, metavar="N", help="for each target (default 30)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="targets at the same time (default 2)")
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)}; default all")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    clang = compiler()
    if clang is None:
        print("fuzz: no clang with libFuzzer found (Debian: apt-get install clang-14 libclang-rt-14-dev)", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        results = list(pool.map(lambda noun: fuzz(clang, noun, arguments.seconds), arguments.targets or TARGETS))
    for result in results:
        print(result.line())
        if not result.ok:
            print(result.log[-4000:], file=sys.stderr)
            print(f"fuzz: the input is in {OUT / 'crashes' / result.noun}; run {OUT / f'fuzz_{result.noun}'} with it", file=sys.stderr)
    reached = [coverage.reached(clang, FLAGS, result.noun, TARGETS[result.noun], OUT) for result in results if result.ok]
    print(*coverage.summary(reached), sep="\n")
    executions, failed = sum(result.executions for result in results), [result.noun for result in results if not result.ok]
    print(f"fuzz: {len(results)} targets, {executions:,} executions, {f'crashed: {chr(32).join(failed)}' if failed else 'no crash'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
