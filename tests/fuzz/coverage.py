"""Which lines of _ext/ the fuzzers' corpus reaches: each target built once more with clang's source coverage and run over its corpus."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tools(clang: str) -> tuple[str, str] | None:
    """llvm-profdata and llvm-cov of the same version as the compiler, or None."""
    suffix = clang.removeprefix("clang")
    pair = (f"llvm-profdata{suffix}", f"llvm-cov{suffix}")
    return pair if all(map(shutil.which, pair)) else None


def reached(clang: str, flags: list[str], noun: str, c_names: list[str], out: Path) -> dict[str, dict[int, bool]]:
    """C file -> line -> was it run, by the corpus and seeds of one target."""
    found = tools(clang)
    if found is None:
        return {}
    profdata, cov = found
    program, raw, merged = out / f"coverage_{noun}", out / f"{noun}.profraw", out / f"{noun}.profdata"
    sources = [f"tests/fuzz/fuzz_{noun}.c", *(f"_ext/{name}.c" for name in c_names)]
    plain = [flag for flag in flags if "sanitize" not in flag]
    command = [clang, *plain, "-fsanitize=fuzzer", "-fprofile-instr-generate", "-fcoverage-mapping", *sources, "-o", str(program)]
    subprocess.run(command, cwd=ROOT, check=True)
    corpora = [str(out / "corpus" / noun), str(out / "seeds" / noun)]
    environment = {"LLVM_PROFILE_FILE": str(raw)}
    subprocess.run([str(program), "-runs=0", *corpora], cwd=ROOT, check=True, capture_output=True, env=environment)
    subprocess.run([profdata, "merge", "-sparse", str(raw), "-o", str(merged)], check=True)
    command = [cov, "export", str(program), f"-instr-profile={merged}"]
    exported = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    files: dict[str, dict[int, bool]] = {}
    for file in exported["data"][0]["files"]:
        path = Path(file["filename"])
        if path.parent.name == "_ext" and path.suffix == ".c":
            files[path.name] = lines(file["segments"])
    return files


def lines(segments: list[list[int]]) -> dict[int, bool]:
    """Every line in which code begins, and whether it ran. A segment is [line, column, count, has count, is start, is gap]."""
    counted: dict[int, bool] = {}
    for line, _, count, has_count, is_start, *_ in segments:
        if has_count and is_start:
            counted[line] = counted.get(line, False) or count > 0
    return counted


def summary(each: list[dict[str, dict[int, bool]]]) -> list[str]:
    """One line per C file: what all targets together reached of it."""
    together: dict[str, dict[int, bool]] = defaultdict(dict)
    for files in each:
        for name, counted in files.items():
            for line, ran in counted.items():
                together[name][line] = together[name].get(line, False) or ran
    report = []
    for name, counted in sorted(together.items()):
        missed = sorted(line for line, ran in counted.items() if not ran)
        tail = f"; not lines {' '.join(map(str, missed[:12]))}{' ...' if len(missed) > 12 else ''}" if missed else ""
        ran = len(counted) - len(missed)
        report.append(f"fuzz: _ext/{name:<15} {ran} of {len(counted)} regions ({100 * ran // max(1, len(counted))} %){tail}")
    return report
