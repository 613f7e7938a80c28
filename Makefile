# `make demo` shows the whole loop on a real model; `make test` runs every test. Both install what they need.
PYTHON ?= python3
SIZE ?= full
VENV := .venv
BIN := $(VENV)/bin
STATE ?= state/demo
GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L 2>/dev/null | grep -q GPU && echo yes)
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help install demo test test-fast lint bench bench-quick clean

help:
	@echo "make demo              the whole loop on a real model: ask, think, remember, learn, swap (about 20 minutes on 2 cores)"
	@echo "make demo SIZE=small   the same as a smoke run (about 7 minutes; its gate may see no sure gain)"
	@echo "make test              every test, the real engine's included (20 minutes)"
	@echo "make test-fast         the tests without an engine or a browser (5 minutes)"
	@echo "make bench             every figure of docs/benchmarks.md; make bench-quick in 5 minutes"
	@echo "make install           the environment alone, in $(VENV)"

install: $(VENV)/installed

$(VENV)/installed: requirements/cpu.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 install")'
	@echo "== making the environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt-get install python3-venv"; exit 1; }
	@$(PIP) install -qq --upgrade "pip>=24"
ifeq ($(GPU),yes)
	@echo "== a GPU was found: installing vLLM with its own torch (several GB)"
	@$(PIP) install --progress-bar on -e ".[train,gpu,telemetry,dev]"
else
	@echo "== installing torch (1 of 3)"
	@$(PIP) install -qq "torch==2.13.0"
	@echo "== installing vLLM for the CPU and the rest (2 of 3)"
	@$(PIP) install -qq --no-deps -r requirements/cpu.txt
	@echo "== installing this project (3 of 3)"
	@$(PIP) install -qq --no-deps --no-build-isolation -e .
endif
	@touch $@

demo: install
	@$(BIN)/python -m bench.demo --size $(SIZE) --state $(STATE)

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check . --quiet || { echo "run: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/mypy

test-fast: lint
	@$(BIN)/python -m pytest -m "not engine and not browser"

test: lint $(VENV)/ray
	@$(BIN)/python -m pytest

$(VENV)/ray: requirements/ray.txt $(VENV)/installed
	@$(PIP) install -qq --no-deps -r requirements/ray.txt
	@touch $@

$(VENV)/bench: requirements/bench.txt $(VENV)/installed
	@$(PIP) install -qq --no-deps -r requirements/bench.txt
	@touch $@

bench: $(VENV)/bench
	@$(BIN)/python -m bench

bench-quick: $(VENV)/bench
	@$(BIN)/python -m bench --quick

clean:
	rm -rf $(VENV) state .mypy_cache .ruff_cache .pytest_cache
