# Everything a developer or CI runs, from a machine that has nothing but make and Python 3.11 to 3.13.
#
#     make check          set up once, then lint, types, import contract, all tests
#     make walkthrough    set up once, then the whole journey on real data, ending in report.html
#
# The set-up lives in .venv and runs again only when pyproject.toml, constraints.txt or the engine in C changed.

PYTHON ?= python3
VENV ?= .venv
# Where CPU builds of torch are; asked only when pip sees no local wheel. `make TORCH_INDEX= …` leaves it out (CUDA machines).
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# How many tests run at a time, and which: `make test TESTS=tests/unit/test_grid.py JOBS=0`.
JOBS ?= 2
TESTS ?=
# Attempts of `make engine-fuzz`, and the number of the first.
RUNS ?= 100000
FIRST ?= 0

READY := $(VENV)/.ready
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup check lint types walls test ports engine-wasm engine-arm engine-fuzz browser-test browser-bench walkthrough format wheel wheels clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(READY)  ## make .venv with everything in it

$(READY): pyproject.toml constraints.txt setup.py $(wildcard engine/include/* engine/src/* src/ossia/*/*.c)
	@echo "==> set-up: $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "python: expected 3.11 to 3.13, got $$($(PYTHON) --version); name another: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "venv: this Python can't make one (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@if $(BIN)/python -c 'import torch' 2>/dev/null; then echo "==> set-up: torch is there"; \
	elif $(PIP) install --quiet --dry-run --no-index --no-deps --constraint constraints.txt torch >/dev/null 2>&1; then \
	  echo "==> set-up: a local torch wheel fits"; \
	elif [ -n "$(TORCH_INDEX)" ]; then \
	  echo "==> set-up: asking $(TORCH_INDEX) for a CPU build of torch"; \
	  $(PIP) install --quiet --no-deps --retries 1 --timeout 20 --index-url $(TORCH_INDEX) --constraint constraints.txt torch \
	    || echo "==> set-up: no CPU build there; the default index may bring gigabytes of CUDA"; \
	fi
	@echo "==> set-up: installing ossia and what it needs (a minute or two)"
	@$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

check: lint types walls ports test  ## lint, types, import contract, all tests
	@echo "==> check: all is well"

lint: $(READY)  ## style, without changing a file
	@echo "==> lint: ruff check, ruff format"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY)  ## mypy, strict
	@echo "==> types: mypy, strict"
	@$(BIN)/mypy

walls: $(READY)  ## the import contract
	@echo "==> walls: lint-imports"
	@$(BIN)/lint-imports

# One thread a worker: two workers with two threads each on two cores would only wait for each other.
# loadfile: a module's tests share one trained base, so they stay with one worker.
test: $(READY)  ## all tests, or TESTS=path
	@echo "==> test: pytest on $(JOBS) workers"
	@OSSIA_EXPECT_ENGINE=1 OMP_NUM_THREADS=1 PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --durations 10 $(TESTS)

# Tests of a port run where it was built, and say why not elsewhere; so a check builds what this machine has compilers for.
ports:
	@$(MAKE) -s -k engine-wasm engine-arm 2>&1 || echo "==> ports: left out what this machine has no compiler for"

engine-wasm:  ## the engine for browsers (clang and lld)
	@echo "==> engine-wasm: two modules"
	@$(MAKE) -s -C engine wasm

engine-arm:  ## the engine for 64-bit Arm (aarch64-linux-gnu-gcc)
	@echo "==> engine-arm: library and vectors"
	@$(MAKE) -s -C engine arm

# What drives and what is raced against comes from npm, into build/. BASE names a base of ML-100K; without one a quick one is trained.
BASE ?= build/browser/base
BROWSER_TOOLS := playwright-core@1.65.1
BROWSER_PEERS := onnxruntime-web@1.30.0 @litertjs/core@2.5.3

build/browser/node_modules/%/package.json:
	@npm install --silent --no-audit --no-fund --prefix build/browser $(filter $*@%,$(BROWSER_TOOLS) $(BROWSER_PEERS))

build/browser/base/personalizers: $(READY)
	@echo "==> browser: a quick base of ML-100K"
	@mkdir -p build/browser && cd build/browser && export PATH="$(abspath $(BIN)):$$PATH" && ossia prepare ml-100k --out data \
	  && ossia train data --backbone sasrec --epochs 3 --out run && ossia publish run --out base \
	  && ossia train data --base base --personalizer chord --epochs 1 --out base

browser-test: $(READY) engine-wasm build/browser/node_modules/playwright-core/package.json $(BASE)/personalizers  ## the page and the vectors in Debian's Chromium
	@echo "==> browser-test: headless Chromium"
	@BASE=$(abspath $(BASE)) PYTHON=$(abspath $(BIN))/python node --test tests/browser/*.test.js

browser-bench: $(READY) engine-wasm build/browser/node_modules/playwright-core/package.json build/browser/node_modules/onnxruntime-web/package.json build/browser/node_modules/@litertjs/core/package.json $(BASE)/personalizers  ## the engine beside onnxruntime-web and LiteRT.js in one Chromium
	@$(BIN)/python benchmarks/browser/graphs.py $(BASE) build/browser/graphs
	@node benchmarks/browser/race.js $(BASE) build/browser/graphs

engine-fuzz: $(READY)  ## damaged bases, payloads and calls at the engine, under sanitizers: RUNS=10000000 FIRST=0
	@$(BIN)/python engine/tests/fuzz.py $(RUNS) $(FIRST)

walkthrough: $(READY)  ## the whole journey on ML-100K; writes report.html
	@$(BIN)/python examples/walkthrough.py

format: $(READY)  ## mend style in place
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

wheel: $(READY)  ## build the wheel and rank with nothing else installed: no torch, no polars
	@rm -rf build/wheel && mkdir -p build/wheel
	@echo "==> wheel: build"
	@$(PIP) wheel --quiet --no-deps --wheel-dir build/wheel .
	@echo "==> wheel: install it alone, with what a device needs"
	@$(PYTHON) -m venv build/wheel/venv
	@build/wheel/venv/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt build/wheel/*.whl
	@cd build/wheel && venv/bin/ossia --help >/dev/null && venv/bin/python -c 'import ossia.adaptation, ossia.device'
	@ls build/wheel/*.whl

# glibc 2.17 is of 2012. The library asks the C library for no more than memcpy and its like, so any newer compiler's output runs there;
# tests/ports/test_wheels.py looks. Each system has a build folder of its own, or objects of one would go into the other.
GLIBC := manylinux_2_17
wheels: $(READY)  ## manylinux wheels for x86-64 and 64-bit Arm, into build/wheels
	@rm -rf build/wheels && mkdir -p build/wheels
	@for system in x86_64 aarch64; do \
	  compiler=$$(command -v $$system-linux-gnu-gcc) || { echo "wheels: expected $$system-linux-gnu-gcc (Debian: apt-get install gcc-$$(echo $$system | tr _ -)-linux-gnu)" >&2; exit 1; }; \
	  echo "==> wheels: $(GLIBC)_$$system"; \
	  CC=$$compiler LDSHARED="$$compiler -shared" $(PIP) wheel --quiet --no-deps --wheel-dir build/wheels \
	    --config-settings=--global-option=build --config-settings=--global-option=--build-base=build/wheels/$$system \
	    --config-settings=--build-option=--plat-name=$(GLIBC)_$$system . || exit 1; \
	done
	@ls -1 build/wheels/*.whl

clean:  ## remove the set-up and everything built
	rm -rf $(VENV) build dist packages/browser/engine-*.wasm report.html .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
