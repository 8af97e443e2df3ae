# Each target does its own set-up: a fresh clone needs nothing but python3 (>= 3.11 with venv), a C compiler and make.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/dev.txt
STAMP := $(VENV)/.forebay-set-up
CORE := $(wildcard core_ext/forebay_core/*.pyx core_ext/forebay_core/*.pxd core_ext/forebay_core/*.pxi)

.PHONY: setup demo test check lint types bench lock clean build

setup: $(STAMP)

$(VENV)/.forebay-env: $(LOCK)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$$(sed -n 's/^# uv==//p' $(LOCK))"
	$(BIN)/uv pip sync --quiet --python $(BIN)/python $(LOCK)
	touch $@

$(STAMP): $(VENV)/.forebay-env setup.py pyproject.toml $(CORE)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	$(BIN)/python -c "import forebay_core; assert forebay_core.IMPLEMENTATION == 'compiled'"
	touch $@

build: $(STAMP)

demo: $(STAMP)
	$(BIN)/forebay demo

test: $(STAMP)
	$(BIN)/python -m pytest -q -m "not slow"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/cython-lint core_ext/forebay_core

types: $(STAMP)
	$(BIN)/mypy

check: lint types test

bench: $(STAMP)
	$(BIN)/python -m benchmarks

# Write the lock again from pyproject.toml (all extras).
lock:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-header --output-file $(LOCK).new pyproject.toml
	{ echo "# Locked by make lock. The installer itself:"; echo "# uv==$$($(BIN)/uv --version | cut -d' ' -f2)"; cat $(LOCK).new; } > $(LOCK) && rm $(LOCK).new

clean:
	rm -rf build dist *.egg-info agent/*.egg-info core_ext/forebay_core/*.c core_ext/forebay_core/*.so .mypy_cache .ruff_cache .hypothesis demo-output
