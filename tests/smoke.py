"""Import every module of the installed package, then put and get through one small cluster of real processes: run by .ci/smoke."""

import importlib
import pkgutil
import sys
import tempfile
from pathlib import Path

import dynamo_fast

# Behind the installed package: only `tests` is to come from here.
sys.path.append(str(Path(__file__).parent.parent))

from tests.live.cluster import Cluster


def import_all() -> int:
    names = [module.name for module in pkgutil.walk_packages(dynamo_fast.__path__, "dynamo_fast.") if not module.name.endswith("__main__")]
    for name in names:
        importlib.import_module(name)
    return len(names)


def put_and_get(directory: Path) -> int:
    """Each key through the blocking client and back; how many nodes there were."""
    with Cluster(directory) as cluster:
        cluster.wait_ready()
        with dynamo_fast.blocking.connect(cluster.addresses) as db:
            for number in range(100):
                context = db.put(f"key/{number}", b"first", w=3)
                db.put(f"key/{number}", b"second", context=context)
            assert all(db.get(f"key/{number}", r=3).value == b"second" for number in range(100))
        assert cluster.terminate() == [0] * len(cluster)
        return len(cluster)


def main() -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"smoke: Python {version}: {import_all()} modules of {dynamo_fast.__path__[0]} imported")
    with tempfile.TemporaryDirectory(prefix="dynamo-fast-smoke-") as directory:
        print(f"smoke: Python {version}: put and got through {put_and_get(Path(directory))} nodes")


if __name__ == "__main__":
    main()
