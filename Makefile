.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# All shell of the repository: shfmt knows it by name or by its first line.
SHELL_FILES = $(shell git ls-files -co --exclude-standard ':!tests/data' | xargs -r ls -d 2>/dev/null | xargs -r $(BIN)/shfmt -f)

.PHONY: help setup demo test check format lint types unit golden integration e2e chaos chaos-deploy chaos-sigterm fuzz-api bench-runtime bench-deploy bench-data lab-up lab-down lab-status screens lock docs

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## raise the homelab, deploy to it, run real work on it
	@$(BIN)/python -m lab demo

test: setup ## every test: unit, integration, end-to-end in the lab
	@scripts/apt-need postgresql openssh-server age busybox
	@$(BIN)/pytest -n auto tests/unit tests/integration
	@$(BIN)/pytest tests/e2e

check: setup lint types unit ## the fast loop: format, lint, types, layering, unit tests

setup: $(STAMP) ## make .venv with all that development needs

$(STAMP): requirements/dev.txt pyproject.toml
	@scripts/make-venv $(PYTHON)
	@touch $@

format: setup ## rewrite the code in the house's format
	@$(BIN)/ruff format --quiet
	@$(BIN)/ruff check --quiet --fix
	@$(BIN)/shfmt -i 4 -ci -w $(SHELL_FILES)

lint: setup
	@$(BIN)/ruff format --check --quiet || { echo "some files are not formatted: run make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet
	@$(BIN)/shfmt -i 4 -ci -d $(SHELL_FILES) || { echo "some scripts are not formatted: run make format" >&2; exit 1; }
	@$(BIN)/shellcheck -x -P SCRIPTDIR $(SHELL_FILES)
	@$(BIN)/lint-imports --no-logo | tail -n 3

types: setup
	@$(BIN)/mypy

unit: setup ## run the unit tests alone
	@$(BIN)/pytest -q -n auto tests/unit

golden: setup ## write tests/data/dry_runs anew; look at what changes
	@KTRDR_RENEW_GOLDEN=1 $(BIN)/pytest -q tests/unit/deployment/test_dry_runs.py

integration: setup ## run the integration tests alone
	@scripts/apt-need postgresql openssh-server age busybox
	@$(BIN)/pytest -q -n auto tests/integration

e2e: setup ## run the end-to-end tests alone, in the lab
	@$(BIN)/pytest tests/e2e

chaos: setup ## many operations while something always breaks; SEED=N repeats a run
	@scripts/apt-need postgresql
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(OPERATIONS),--operations $(OPERATIONS))

chaos-deploy: setup ## 200 deploys in a lab of their own while something breaks; SEED=N CASE=N repeats one
	@KTRDR_LAB_NUMBER=$${KTRDR_LAB_NUMBER:-1} $(BIN)/python -m tests.chaos.deploy $(if $(SEED),--seed $(SEED)) $(if $(CASE),--case $(CASE)) $(if $(RUNS),--runs $(RUNS))

chaos-sigterm: setup ## stop a working worker a hundred times, as deploys do; SEED=N repeats a run
	@scripts/apt-need postgresql
	@$(BIN)/python -m tests.chaos.sigterm $(if $(SEED),--seed $(SEED)) $(if $(TIMES),--times $(TIMES))

fuzz-api: setup ## 5,000 requests made from the API's documentation; SEED=N repeats a run
	@scripts/apt-need postgresql
	@$(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED)) $(if $(REQUESTS),--requests $(REQUESTS))

bench-runtime: setup ## measure queue, throughput, a thousand workers, a full table; exit 1 when a goal is missed
	@scripts/apt-need postgresql
	@$(BIN)/python -m benchmarks.runtime $(if $(JSON),--json $(JSON)) $(if $(ONLY),--only $(ONLY))

bench-deploy: setup ## measure deploys beside plain ssh, pyinfra and Ansible, in the lab; exit 1 when a goal is missed
	@scripts/apt-need openssh-server jq gcc libc6-dev
	@$(BIN)/python -m benchmarks.deploy $(if $(JSON),--json $(JSON)) $(if $(ONLY),--only $(ONLY))

bench-data: setup ## measure importing and reading a million bars; ROWS=N for another number
	@$(BIN)/python -m benchmarks.data $(ROWS)

lab-up: setup ## raise the rehearsal homelab, or repair it
	@$(BIN)/python -m lab up

lab-down: setup ## take the rehearsal homelab down
	@$(BIN)/python -m lab down

lab-status: setup ## say what of the rehearsal homelab is up
	@$(BIN)/python -m lab status

screens: setup lab-up ## make the pictures of docs/pictures from the lab; ONLY="check diff" for some
	@scripts/apt-need tmux
	@$(BIN)/python -m scripts.screens $(ONLY)

lock: setup ## bring requirements/*.txt up to date with pyproject.toml
	@scripts/lock

docs: setup ## bring the generated pages of docs/ up to date
	@$(BIN)/python -m docs.generate_environment
