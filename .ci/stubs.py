"""Every Cython module has a stub, and every stub says what the built module says (mypy's stubtest)."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ALLOWED = ROOT / ".ci" / "stubs.allow"


def main() -> int:
    package = ROOT / "dynamo_fast"
    missing = [str(source.relative_to(ROOT)) for source in sorted(package.rglob("*.pyx")) if not source.with_suffix(".pyi").exists()]
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
