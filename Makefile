# Everything a developer types. Each target makes what it needs, .venv included; a second call only does what changed.
#
# Needed beforehand: Python 3.11 or newer with its headers, a C compiler, make. `make fuzz` also wants clang,
# `make compare` redis-server; .ci/run installs both where it may.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

PYTHON ?= $(shell .ci/pythons --default)
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
KILLS ?= 100
FUZZ_SECONDS ?= 30
MINUTES ?= 60
SEEDS ?= 500
TIER ?= core nodes
FIRST ?= 0
DATA ?= data
# SOAK=1 adds the forty minutes of soaking to `make compare`.
SOAK ?=
# More arguments: make test ARGS="-k ring -x", make compare ARGS=--quick
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
# The package is installed as it stands: what it has in C is compiled in place, by the stamp before.
INSTALL := DYNAMO_FAST_PREBUILT=1 $(PIP) install --no-build-isolation
SOURCES := setup.py $(wildcard _ext/*.[ch]) $(shell find dynamo_fast -name '*.pyx' -o -name '*.pxd')

.PHONY: help dev test check demo bench compare paper crash reliability sim mutants fuzz gate gate-renew smoke clean build \
	check-style check-types check-stubs check-warnings check-c check-docs

help:  ## what can be made
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

# ---- the virtual environment and the build -----------------------------------------------------------------------

.venv/stamp-tools:
	@test -n "$(PYTHON)"
	$(PYTHON) -m venv .venv
	$(PIP) install 'setuptools>=77' wheel 'cython>=3.1,<4'
	@touch $@

.venv/stamp-build: .venv/stamp-tools $(SOURCES)
	DYNAMO_FAST_BUILD_THREADS=$(JOBS) $(BIN)/python setup.py -q build_ext --inplace -j$(JOBS)
	@touch $@
	@if [ -n "$$DYNAMO_FAST_WERROR" ]; then mkdir -p build/werror && touch build/werror/stamp; fi

.venv/stamp-run: .venv/stamp-build pyproject.toml
	$(INSTALL) -e .
	@touch $@

.venv/stamp-test: .venv/stamp-run
	$(INSTALL) -e '.[test]'
	@touch $@

.venv/stamp-check: .venv/stamp-test
	$(INSTALL) -e '.[dev]'
	@touch $@

build: .venv/stamp-build  ## compile the extension modules in place

# ---- to use ------------------------------------------------------------------------------------------------------

# In a terminal the shell's job control makes the cluster the foreground job, so that Ctrl-C reaches it alone: make
# would otherwise die of the same Ctrl-C and report an error after a clean stop.
dev: .venv/stamp-run  ## start a cluster of three nodes in this terminal; Ctrl-C stops it
	@if [ -t 0 ]; then set -m; fi; $(BIN)/dynamo-fast dev --data-dir $(DATA)

demo: .venv/stamp-run  ## the Debian package index through a cluster that loses a node half way
	@$(BIN)/python -m bench.demo

# ---- to be sure --------------------------------------------------------------------------------------------------

# A process for each core, up to four. The tests of a file stay together and in their order, and each file goes to whoever is free.
# Nothing is measured here, so pytest-benchmark, which cannot do that in parallel, stays out.
test: .venv/stamp-test  ## all tests (ARGS= goes to pytest)
	@$(BIN)/python -m pytest -p no:benchmark -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

check: check-style check-types check-stubs check-warnings check-c check-docs  ## style, types, stubs, floors, C warnings, C tests
	@echo "check: all passed"

check-style: .venv/stamp-check
	$(BIN)/ruff check .

check-types: .venv/stamp-check
	$(BIN)/mypy

check-stubs: .venv/stamp-check
	$(BIN)/python .ci/stubs.py

# Into a directory of its own: the modules in place are not built so, lest the warning of a compiler we never met keep
# somebody from building. Where they are (DYNAMO_FAST_WERROR in the environment, as in .ci/run), once is enough.
check-warnings: build/werror/stamp
build/werror/stamp: .venv/stamp-build
	DYNAMO_FAST_WERROR=1 $(BIN)/python setup.py -q build_ext --build-lib build/werror/lib --build-temp build/werror/temp -j$(JOBS)
	@touch $@

check-c:
	@$(MAKE) --no-print-directory -f tests/c/Makefile -j$(JOBS)

check-docs: .venv/stamp-check
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_docs.py

crash: .venv/stamp-test  ## kill -9 under load, KILLS=100 times; every acknowledged write is looked for
	@$(BIN)/python -m tests.live.crash --kills $(KILLS)

reliability: .venv/stamp-test  ## every promise attacked, for MINUTES=60 altogether; the rows go to build/reliability.json
	@$(BIN)/python -m tests.reliability --minutes $(MINUTES) $(ARGS)

sim: .venv/stamp-test  ## SEEDS=500 clusters under mischief in virtual time, from seed FIRST=0 on, of each TIER="core nodes"; every promise is looked after
	@set -e; for tier in $(TIER); do \
		$(BIN)/python -m dynamo_fast.testing.sim --tier $$tier --seeds $(SEEDS) --first $(FIRST) --jobs $(JOBS); done

mutants: .venv/stamp-test  ## plants every bug of tests/mutants and sees that the simulator, or a test, notices (ARGS="--only NAME --seeds 100")
	@$(BIN)/python -m tests.mutants $(ARGS)

fuzz: .venv/stamp-test  ## every decoder for FUZZ_SECONDS=30 seconds each, from mutations of golden messages
	@$(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS)

smoke: .venv/stamp-build  ## build, import and one small cluster on each Python that is found
	@.ci/smoke

# ---- to be fast --------------------------------------------------------------------------------------------------

bench: .venv/stamp-test  ## pytest-benchmark over every piece, and how many times faster it is than what it is compared to
	@$(BIN)/python -m pytest bench -o python_files='bench_*.py' --benchmark-only --benchmark-columns=min,median,rounds $(ARGS)

.venv/stamp-paper: .venv/stamp-test
	$(INSTALL) -e '.[paper]'
	@touch $@

paper: .venv/stamp-paper  ## the figures of the paper from this code, as tables, plots and build/paper.json
	@$(BIN)/python -m bench.paper $(ARGS)

compare: .venv/stamp-test  ## the same load against redis and against a cluster of three (SOAK=1: also for ten minutes)
	@$(BIN)/python -m bench.compare $(if $(SOAK),--soak) $(ARGS)

gate: .venv/stamp-test  ## instruction counts of the hot paths against the recorded ones (valgrind)
	@$(BIN)/python -m bench.gate

gate-renew:  ## record them anew, on every Python that is found
	@.ci/renew-gate

clean:  ## remove what was built, .venv included; the data of `make dev` stays
	rm -rf build .venv *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find dynamo_fast tests bench -name '*.so' -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
