# `make book` and `make test` do everything on a fresh machine with Python 3.11, 3.12 or 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := book
.PHONY: book test lint full bench lock lab clean

book: $(VENV)/.installed  ## execute what is stale, verify the claims, render the book
	@$(BIN)/eventbook build

test: $(VENV)/.installed  ## everything the book promises, as tests
	@$(BIN)/eventbook check
	@$(BIN)/eventbook build
	@$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed  ## style and types
	@$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy

full: $(VENV)/.installed  ## the full profile of every chapter, recorded in results/full (half an hour or more)
	@$(BIN)/eventbook run --profile full --record && $(BIN)/eventbook build

bench: $(VENV)/.installed  ## measure kernels beside their peers, ratios in one run
	@for script in $(filter-out benchmarks/harness.py,$(sort $(wildcard benchmarks/*.py))); do $(BIN)/python "$$script"; done

lab: $(VENV)/.installed  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab notebooks

lock:  ## resolve every dependency anew and pin it
	@bash scripts/lock.sh $(PYTHON)

clean:  ## forget everything that was built; the notebooks keep their outputs
	@rm -rf _build .snakemake

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else f"expected Python 3.11, 3.12 or 3.13, got {sys.version.split()[0]}; set PYTHON, as in make PYTHON=python3.11")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing the lock into $(VENV) (a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[book,dev]'
	@touch $@
