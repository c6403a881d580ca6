"""Which Cython module is built from which C files; everything else about the package stands in pyproject.toml."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

EXTENSIONS: dict[str, list[str]] = {
    "core.checksum": ["checksum"],
    "core.context": ["mac"],
    "core.deadlines": [],
    "core.digest": ["digest"],
    "core.histogram": [],
    "core.merkle": ["merkle", "entry_hash"],
    "core.put_ids": [],
    "core.quorum": [],
    "core.ring": ["ring"],
    # Pure functions without globals: a second copy of the clock's costs a page and saves a call across modules per merge.
    "core.siblings": ["object", "siblings", "put", "settle", "cloud", "vector_clock"],
    "core.suspicion": [],
    "core.vector_clock": ["vector_clock"],
    "wire.buffer": [],
    "wire.connection": [],
    "wire.data_messages": ["messages"],
    "wire.frame": ["frame"],
    "wire.key_page": [],
    "wire.long_message": [],
    "wire.object_page": [],
    "storage.arena": [],
    "storage.engine": [],
    "storage.schema": [],
    "storage.suspects": [],
    "storage.write_buffer": [],
    "storage.log": [],
    "storage.group_commit": ["group_commit"],
    "storage.recovery": [],
    "storage.memory_engine": [],
    "storage.snapshot": [],
    "storage.merging": [],
    "storage.lmdb_engine": [],
    "storage.checkpoint": [],
    "net.reactor": [],
    "net.socket_table": [],
    "node.failure_detector": [],
    "node.view": [],
    "node.policy": [],
    "node.requests": [],
    "node.answers": [],
    "node.replica": [],
    "node.lookahead": [],
    "node.key_scan": [],
    "node.object_scan": [],
    "node.logged_puts": [],
    "node.desk": [],
    "node.forget_scan": [],
    "node.sloppy_quorum": [],
    "node.read_repair": [],
    "node.put": [],
    "node.get": [],
    "node.coordinator": [],
    "node.copies": [],
    "node.data_plane": [],
    "testing.dots": [],
    "testing.faulty_engine": [],
    "load.draw": [],
    "load.dynamo": [],
    "load.generator": [],
    "load.keys": [],
    "load.lane": [],
    "load.protocol": [],
    "load.resp": [],
    "load.score": [],
}

# Python's own flags define NDEBUG; our assertions check what only a bug can break, and stay on.
# Python's flags also ask for -Wsign-compare, which Cython's own loops trip over.
COMPILE = [os.environ.get("DYNAMO_FAST_OPTIMISE", "-O2"),
           "-std=c11", "-D_GNU_SOURCE", "-UNDEBUG", "-fno-strict-aliasing", "-pthread", "-Wno-sign-compare",
           # No function of one module is another's to replace: calls within a module go straight to it.
           "-fvisibility=hidden", "-fno-plt"]
LINK = ["-pthread"]
if os.environ.get("DYNAMO_FAST_WERROR"):
    # Cython's generated code is not ours to lint: only what a reader can fix is an error.
    COMPILE += ["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-unused-function", "-Wno-sign-compare",
                "-Wno-missing-field-initializers", "-Wno-cast-function-type", "-Wno-unreachable-code"]
if os.environ.get("DYNAMO_FAST_SANITIZE"):
    COMPILE += ["-g", "-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    LINK += ["-fsanitize=address,undefined"]


def extension(module: str, c_names: list[str]) -> Extension:
    return Extension(
        f"dynamo_fast.{module}",
        [f"dynamo_fast/{module.replace('.', '/')}.pyx"],
        include_dirs=["_ext"],
        depends=[f"_ext/{name}.{suffix}" for name in c_names for suffix in ("c", "h")],
        extra_compile_args=COMPILE,
        extra_link_args=LINK,
    )


# `make` compiles in place, in parallel and only what changed; installing the package beside that has nothing to compile.
if os.environ.get("DYNAMO_FAST_PREBUILT"):
    EXTENSIONS.clear()

modules = cythonize(
    [extension(module, c_names) for module, c_names in EXTENSIONS.items()],
    build_dir="build/cython",
    nthreads=int(os.environ.get("DYNAMO_FAST_BUILD_THREADS", "0")),
    compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False, "cdivision": True,
                         "initializedcheck": False, "embedsignature": True},
)
for module in modules:
    # Appended after cythonize, which would otherwise try to translate them.
    module.sources += [f"_ext/{name}.c" for name in EXTENSIONS[module.name.removeprefix("dynamo_fast.")]]

setup(ext_modules=modules)
