# make install    .venv with the tested versions, this package and its kernels
# make demo       install if needed, then speech translation from nothing (recipes/demo)
# make test       install if needed, then lint, types and the quick tests
# make help       the rest

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.DELETE_ON_ERROR:

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& command -v $$p && break; done)
endif
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check install
THREADS ?= $(shell nproc)
# Compiling the CUDA kernels takes minutes, which a machine without an NVIDIA driver gains nothing
# from; `make install STK_CUDA=1` builds them there all the same (setup.py by itself never looks).
STK_CUDA ?= $(if $(wildcard /dev/nvidiactl /proc/driver/nvidia/version),1,0)
export STK_CUDA

.PHONY: help install demo demo-tiny tuxpaint test test-all test-quick test-every test-reference \
	gpu-check bench lint types clean
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

install: $(STAMP) ## set up .venv: torch first (the kernels are compiled against it), then stk

# Versions change with these files; sources of the kernels are rebuilt where they changed.
$(STAMP): pyproject.toml constraints.txt setup.py MANIFEST.in $(shell find csrc -type f)
	@if [[ -z "$(PYTHON)" ]]; then
	    echo "error: Python 3.11, 3.12 or 3.13 is needed (make install PYTHON=/path/to/python)" >&2
	    exit 1
	fi
	if [[ ! -x $(BIN)/python ]]; then
	    echo "creating $(VENV) with $(PYTHON)"
	    $(PYTHON) -m venv $(VENV) || {
	        echo "error: $(PYTHON) makes no virtual environment (on Debian: apt-get install python3-venv)" >&2
	        exit 1
	    }
	fi
	echo "installing torch and build tools (about 5 GB with CUDA libraries; some minutes)"
	$(PIP) -c constraints.txt setuptools wheel ninja pybind11 torch torchaudio || {
	    echo "error: packages could not be installed; is the package index reachable?" >&2
	    exit 1
	}
	echo "installing stk and building its kernels (STK_CUDA=$(STK_CUDA))"
	$(PIP) --no-build-isolation -c constraints.txt -e '.[demo,test,lint]' || {
	    echo "error: stk could not be installed; the lines above say why" >&2
	    exit 1
	}
	$(BIN)/stk-doctor
	touch $@

demo: $(STAMP) ## make a corpus, train, decode, score, report (about 20 minutes on two cores)
	@recipes/demo/run.sh $(ARGS)

demo-tiny: $(STAMP) ## the same stages in about two minutes; it learns next to nothing
	@recipes/demo/run.sh --size tiny $(ARGS)

tuxpaint: $(STAMP) ## human recordings in eight languages to English (recipes/tuxpaint)
	@recipes/tuxpaint/run.sh $(ARGS)

lint: $(STAMP) ## ruff: rules and formatting
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy over stk/
	@$(BIN)/mypy

test: lint types test-quick $(if $(ARGS),,test-reference) ## lint, types and the quick tests (under 20 minutes in all on two cores)

test-all: lint types test-every $(if $(ARGS),,test-reference) ## every test, the long ones included

test-quick: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(THREADS) -m "not slow" $(ARGS)

test-every: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(THREADS) $(ARGS)

# What stands on the kernels, again without them: operators, blocks and models, about a minute.
test-reference: $(STAMP) ## quick tests of operators and models with the kernels switched off
	@STK_KERNELS=reference OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(THREADS) -m "not slow" \
	    -q -rfE tests/ops tests/modules tests/models

gpu-check: $(STAMP) ## on a machine with an NVIDIA GPU: build for it, then the tests that need it
	@$(BIN)/python tests/gpu_check.py $(ARGS)

bench: $(STAMP) ## timings of kernels and main paths
	@for bench in tests/bench/bench_*.py; do $(BIN)/python $$bench; done

clean: ## remove what builds and tests leave behind; .venv, data and trained models stay
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find stk tests recipes -name __pycache__ -type d -prune -exec rm -rf {} +
