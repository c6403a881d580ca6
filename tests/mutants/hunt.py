"""Seeds of a tier of the simulator until one breaks a promise; the outcome is a line of JSON. Run inside the tree that is looked at.

    python -m tests.mutants.hunt --tier core --seeds 1000

`package`: where the code came from, so that nobody takes a hunt in another tree for one in this.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import dynamo_fast
from dynamo_fast.testing.sim import CORE, NODES, run_seed


def hunt(tier: str, seeds: range) -> dict[str, object]:
    """`seed`: the first that broke a promise, None when none did; `promise` and `text` say which; `run`: how many were tried."""
    for number, seed in enumerate(seeds, 1):
        try:
            violations = run_seed(tier, seed).violations
        except Exception as error:  # a cluster that does not even start
            return {"seed": seed, "promise": "no bug", "text": f"{type(error).__name__}: {error}", "run": number}
        if violations:
            return {"seed": seed, "promise": violations[0].promise, "text": violations[0].text, "run": number}
    return {"seed": None, "promise": "", "text": "", "run": len(seeds)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tier", choices=[CORE, NODES], default=NODES)
    parser.add_argument("--seeds", type=int, default=1000)
    given = parser.parse_args()
    found = hunt(given.tier, range(given.seeds))
    print(json.dumps(found | {"package": str(Path(dynamo_fast.__file__).parent.parent)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
