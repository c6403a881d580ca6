"""Every Cython module that Python may call has a stub, and every stub says what the built module says (mypy's stubtest)."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ALLOWED = ROOT / ".ci" / "stubs.allow"


# What only Cython calls needs no stub: cdef functions, and cdef classes whose only Python methods make and unmake them.
_PYTHON_API = re.compile(r"^\s*(?:async\s+)?(?:def\s+(?!__(?:cinit|init|dealloc)__)|cpdef\s|class\s)", re.MULTILINE)


def has_python_api(source: Path) -> bool:
    return _PYTHON_API.search(source.read_text()) is not None


def main() -> int:
    package = ROOT / "dynamo_fast"
    unstubbed = [source for source in sorted(package.rglob("*.pyx")) if not source.with_suffix(".pyi").exists()]
    missing = [str(source.relative_to(ROOT)) for source in unstubbed if has_python_api(source)]
    if missing:
        print("no stub stands beside:", *missing, sep="\n  ")
        return 1
    modules = [".".join(stub.relative_to(ROOT).with_suffix("").parts) for stub in sorted(package.rglob("*.pyi"))]
    if not modules:
        print("stubs: none yet")
        return 0
    command = [sys.executable, "-m", "mypy.stubtest", "--concise", "--allowlist", str(ALLOWED), "--ignore-unused-allowlist", *modules]
    code = subprocess.run(command, cwd=ROOT).returncode
    print(f"stubs: {len(modules)} modules", "agree" if code == 0 else "checked; see above")
    return code


if __name__ == "__main__":
    sys.exit(main())
