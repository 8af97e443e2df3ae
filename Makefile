# Each target does its own set-up: a fresh clone needs nothing but python3 (>= 3.11 with venv), a C compiler and make.
# `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := setup

PYTHON ?= python3
export PYTHON
VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
LOCK := requirements/dev.txt
LOWEST := requirements/lowest.txt
# Many tests wait for processes.
WORKERS ?= 3
XDIST := -n $(WORKERS) --dist worksteal
# More arguments for the tests' runs: make test PYTEST="-k spool -x"
PYTEST ?=
CORE := $(wildcard $(addprefix core_ext/forebay_core/*.,pyx pxd pxi))
ENV_STAMP := $(VENV)/.forebay-env
STAMP := $(VENV)/.forebay-set-up
BUILDING := $(VENV)/.building

# An inherited FOREBAY_PURE or FOREBAY_DEBUG must not change what setup builds into the tree.
PLAIN := env -u FOREBAY_PURE -u FOREBAY_DEBUG -u FOREBAY_TRACE

.PHONY: setup demo test test-pure test-debug test-lowest test-slow check lint types bench bench-renew bench-proof \
	bench-report bench-quick bench-peers bench-peers-lock quality fuzz torture wheel sdist packages test-install \
	test-aarch64 lock system-packages install-tools clean help

setup: $(STAMP)  ## put the product into .venv, compiled core included

$(ENV_STAMP): $(LOCK) packaging/environment.sh
	packaging/environment.sh $(VENV) $(LOCK)
	touch $@

# Compiled files whose source is gone would still be imported: they go first. A build that was cut off (not one that
# failed) leaves BUILDING behind; half a file may look newer than its source, so that all is built again. So it is
# when setup.py has changed: its flags are in no timestamp.
$(STAMP): $(ENV_STAMP) setup.py pyproject.toml $(CORE)
	{ [ ! -e $(BUILDING) ] && ! { [ -e $@ ] && [ setup.py -nt $@ ]; }; } || \
		rm -rf build core_ext/forebay_core/_*.so core_ext/forebay_core/_*.c
	for built in core_ext/forebay_core/_*.so core_ext/forebay_core/_*.c; do stem=$${built%%.*}; \
		[ -e "$$stem.pyx" ] || [ "$${stem##*/}" = _cyutility ] || rm -f "$$built"; done
	touch $(BUILDING)
	$(PLAIN) $(PY) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable . || \
		{ rm $(BUILDING); exit 1; }
	rm $(BUILDING)
	$(PLAIN) $(PY) -c "import forebay_core as c; from forebay_core import codec; assert c.IMPLEMENTATION == 'compiled'"
	$(PLAIN) -u PYTHONDONTWRITEBYTECODE $(PY) packaging/compile_bytecode.py
	touch $@

demo: $(STAMP)  ## show the whole road on recorded data
	$(BIN)/forebay demo

test: $(STAMP)  ## all tests but the slow ones, on the compiled core
	$(PLAIN) $(PY) -m pytest -q $(XDIST) -m "not slow and not torture" $(PYTEST)

test-pure: $(STAMP)  ## the same on the reference twins
	$(PLAIN) FOREBAY_PURE=1 $(PY) -m pytest -q $(XDIST) -m "not slow and not torture" $(PYTEST)

test-debug: $(STAMP)  ## the same on a core with bounds, initialisation and None checks, in a copy of the tree
	packaging/copy_tree.sh .cache/debug
	cd .cache/debug && FOREBAY_DEBUG=1 ../../$(PY) setup.py --quiet build_ext --inplace
	cd .cache/debug && PYTHONPATH=$$PWD/agent:$$PWD/core_ext $(PLAIN) ../../$(PY) -m pytest -q $(XDIST) -m "not slow and not torture" $(PYTEST)

test-lowest: $(STAMP)  ## unit and kernel tests with the oldest versions that pyproject.toml allows
	packaging/environment.sh .cache/lowest-env $(LOWEST)
	packaging/copy_tree.sh .cache/lowest
	cd .cache/lowest && $(PLAIN) ../lowest-env/bin/python setup.py --quiet build_ext --inplace
	cd .cache/lowest && PYTHONPATH=$$PWD/agent:$$PWD/core_ext $(PLAIN) ../lowest-env/bin/python -m pytest -q $(XDIST) \
		-m "not slow and not torture" tests/unit tests/core $(PYTEST)

# Hostile bytes at decoder, parsers, scanner, loader and messages, on a core with bounds checks. Not part of
# check: it has no end. FUZZ_SECONDS a target; FUZZ="--keep csv" keeps some of what is new.
FUZZ_SECONDS ?= 60
FUZZ ?=
fuzz: $(STAMP)  ## throw mutated bytes at everything that reads them, FUZZ_SECONDS=60 a target
	packaging/environment.sh .cache/fuzz-env requirements/fuzz.txt
	packaging/copy_tree.sh .cache/debug
	cd .cache/debug && FOREBAY_DEBUG=1 ../../$(PY) setup.py --quiet build_ext --inplace
	$(PLAIN) .cache/fuzz-env/bin/python tests/fuzz/run.py --seconds $(FUZZ_SECONDS) --core .cache/debug $(FUZZ)

test-slow: $(STAMP)  ## the long tests: kills, power cuts, wheel in an empty environment
	$(PLAIN) $(PY) -m pytest -q $(XDIST) -m "slow and not torture" $(PYTEST)

torture: $(STAMP)  ## hours of faults: thousands of power cuts, kills, flipped bytes (never run by CI)
	$(PLAIN) $(PY) -m pytest -q -m torture $(PYTEST)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/cython-lint core_ext/forebay_core # it calls pycodestyle by name

types: $(STAMP)
	$(BIN)/mypy

check: lint types test test-pure  ## what every commit must pass

bench: $(STAMP)  ## compare instructions, bytes and CPU with the results kept on main
	$(PLAIN) $(PY) -m benchmarks.gate

bench-renew: $(STAMP)  ## write the results that make bench compares with
	$(PLAIN) $(PY) -m benchmarks.gate --renew

bench-proof: $(STAMP)  ## make bench 20 times, then with slowdowns planted (half an hour)
	$(PLAIN) $(PY) -m benchmarks.proof

bench-report: $(STAMP)  ## measure everything; write benchmarks/results/full.json and docs/performance.md
	$(PLAIN) $(PY) -m benchmarks --json benchmarks/results/full.json --report docs/performance.md

bench-quick: $(STAMP)  ## the same measurements, shorter and not kept
	$(PLAIN) $(PY) -m benchmarks --quick

bench-peers: $(ENV_STAMP)  ## what Forebay is measured against, in .cache/peers-env (900 MB)
	packaging/environment.sh .cache/peers-env benchmarks/peers/peers.txt

bench-peers-lock: $(ENV_STAMP)
	{ echo "# Locked by make bench-peers-lock. The installer itself:"; sed -n '2p' $(LOCK); \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --upgrade benchmarks/peers/peers.in; \
	} >benchmarks/peers/peers.txt.new
	mv benchmarks/peers/peers.txt.new benchmarks/peers/peers.txt

quality: $(STAMP)  ## measure what the text detectors find and miss, and write it into docs/masking.md
	$(PLAIN) $(PY) tests/quality/quality.py --write docs/masking.md

wheel: sdist  ## dist/*.whl, built from the sdist (FOREBAY_PURE=1: without compiled core)
	$(PY) -m build --installer=uv --wheel --outdir dist dist/forebay-*.tar.gz

sdist: $(STAMP)  ## dist/*.tar.gz
	rm -rf dist
	$(PLAIN) $(PY) -m build --installer=uv --sdist --outdir dist .

# ARGS=--twice builds two times and compares. Tools (zig, auditwheel, CycloneDX) go into .cache/packaging.
packages: $(STAMP)  ## dist/: wheels, .deb, offline bundles and SBOM for x86-64 and aarch64
	[ -x .cache/packaging/bin/python ] || $(PYTHON) -m venv .cache/packaging
	.cache/packaging/bin/python -m pip install -q --disable-pip-version-check -r packaging/requirements.txt
	$(PLAIN) $(PY) packaging/packages.py $(ARGS)

# Both work on what is in dist/, as root; they say what is missing. The Debians that they need are downloaded once
# into .cache/chroot.
test-install: $(STAMP)  ## install, upgrade and remove the packages in dist/ on a Debian 12 with systemd
	$(PY) tests/system/machine.py
	$(PLAIN) $(PY) -m pytest -q -s tests/system/test_install_*.py

test-aarch64: $(STAMP)  ## unit and kernel tests on the arm64 package in dist/, under qemu
	$(PLAIN) $(PY) tests/system/emulated.py $(ARGS)

# Write both locks again from pyproject.toml: the newest that fits, and the oldest that we promise.
lock: $(ENV_STAMP)
	packaging/lock.sh $(BIN)/uv $(LOCK) --upgrade
	packaging/lock.sh $(BIN)/uv $(LOWEST) --resolution lowest-direct

# Not needed by the product. With them the tests use a second MQTT broker, a real browser and injected faults,
# and make bench counts instructions.
system-packages:  ## what some tests use of Debian: mosquitto, chromium, strace, valgrind (as root)
	[ "$$(id -u)" = 0 ] || { echo "system-packages: needs root; install mosquitto yourself" >&2; exit 1; }
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
		mosquitto chromium strace valgrind

install-tools:  ## what test-install and test-aarch64 use of Debian (as root)
	[ "$$(id -u)" = 0 ] || { echo "install-tools: needs root" >&2; exit 1; }
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
		debootstrap systemd-container podman crun qemu-user-static

clean:  ## everything that was built; .venv stays
	rm -rf build dist .cache demo-output .mypy_cache .ruff_cache .hypothesis .benchmarks *.egg-info agent/*.egg-info \
		core_ext/forebay_core/*.c core_ext/forebay_core/*.so $(STAMP)
	find agent core_ext tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@sed -n 's/^\([a-z-]*[a-z -]*\):.*##  *\(.*\)/\1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'
