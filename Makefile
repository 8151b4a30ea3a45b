.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
# The tests start Python some thousand times, and would compile the project each time.
unexport PYTHONDONTWRITEBYTECODE
BIN := .venv/bin
STAMP := .venv/.installed
# zsh, fish and tcsh are login shells of operators, and each treats what ssh sends in its own way.
TEST_PACKAGES := postgresql openssh-server age busybox zsh fish tcsh nftables iproute2
# All shell scripts of the repository; shfmt recognises them by their names or first lines.
SHELL_FILES = $(shell git ls-files -co --exclude-standard ':!tests/data' | xargs -r ls -d 2>/dev/null | xargs -r $(BIN)/shfmt -f)

# Build an image with BuildKit, which is not the default of Docker 20.10.
#   $(call build,DOCKERFILE,IMAGE)
build = DOCKER_BUILDKIT=1 docker build --file $(1) --tag $(2):$(or $(TAG),local) \
    --build-arg GIT_COMMIT="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    --build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" .

.PHONY: help setup demo build-backend build-nfs-server test check format lint types unit golden integration e2e chaos chaos-deploy chaos-sigterm fuzz-api bench-runtime bench-deploy bench-data lab-up lab-down lab-status screens lock docs

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## start the lab, deploy to it, run a backtest, a sweep and a training
	@$(BIN)/python -m lab demo

build-backend: ## build the image of backend and workers for this machine; TAG=… names it, by default local
	@$(call build,deploy/Dockerfile,$(or $(IMAGE_NAME),ghcr.io/ktrdr/ktrdr-backend))

build-nfs-server: ## build the image of the NFS server; TAG=… names it, by default local
	@$(call build,deploy/nfs-server/Dockerfile,$(or $(NFS_IMAGE_NAME),ghcr.io/ktrdr/ktrdr-nfs-server))

test: setup ## run all tests: unit, integration, end-to-end in the lab
	@scripts/apt-need $(TEST_PACKAGES)
	@# The lab starts meanwhile. The end-to-end tests start what is missing, and report why.
	@$(BIN)/python -m lab up >/dev/null 2>&1 & \
	    status=0; KTRDR_THOROUGH=1 $(BIN)/pytest -n auto tests/unit tests/integration || status=$$?; \
	    wait; exit $$status
	@scripts/e2e

check: setup ## run the fast checks: format, lint, types, layers, unit tests
	@$(MAKE) -j 2 lint types
	@$(MAKE) unit

setup: $(STAMP) ## create .venv with the development dependencies

$(STAMP): requirements/dev.txt pyproject.toml
	@scripts/make-venv $(PYTHON)
	@touch $@

format: setup ## format the code and fix lint errors
	@$(BIN)/ruff format --quiet
	@$(BIN)/ruff check --quiet --fix
	@$(BIN)/shfmt -i 4 -ci -w $(SHELL_FILES)

lint: setup
	@$(BIN)/ruff format --check --quiet || { echo "some files are not formatted: run make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet
	@$(BIN)/shfmt -i 4 -ci -d $(SHELL_FILES) || { echo "some scripts are not formatted: run make format" >&2; exit 1; }
	@printf '%s\n' $(SHELL_FILES) | xargs -P 2 -n 10 $(BIN)/shellcheck -x -P SCRIPTDIR
	@$(BIN)/lint-imports --no-logo | tail -n 3

types: setup
	@$(BIN)/mypy

unit: setup ## run only the unit tests
	@$(BIN)/pytest -q -n auto tests/unit

golden: setup ## write tests/data/dry_runs again, to review changes of scripts
	@KTRDR_RENEW_GOLDEN=1 $(BIN)/pytest -q tests/unit/deployment/test_dry_runs.py

integration: setup ## run only the integration tests
	@scripts/apt-need $(TEST_PACKAGES)
	@KTRDR_THOROUGH=1 $(BIN)/pytest -q -n auto tests/integration

e2e: setup ## run only the end-to-end tests, in two labs
	@scripts/apt-need $(TEST_PACKAGES)
	@scripts/e2e

chaos: setup ## run many operations while processes fail; SEED=N repeats a run
	@scripts/apt-need postgresql
	@$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(OPERATIONS),--operations $(OPERATIONS))

chaos-deploy: setup ## run 200 deploys with injected faults in a separate lab; SEED=N CASE=N repeats one
	@KTRDR_LAB_NUMBER=$${KTRDR_LAB_NUMBER:-1} $(BIN)/python -m tests.chaos.deploy $(if $(SEED),--seed $(SEED)) $(if $(CASE),--case $(CASE)) $(if $(RUNS),--runs $(RUNS))

chaos-sigterm: setup ## stop a working worker a hundred times; SEED=N repeats a run
	@scripts/apt-need postgresql
	@$(BIN)/python -m tests.chaos.sigterm $(if $(SEED),--seed $(SEED)) $(if $(TIMES),--times $(TIMES))

fuzz-api: setup ## send 5,000 generated requests to the API; SEED=N repeats a run
	@scripts/apt-need postgresql
	@$(BIN)/python -m tests.fuzz $(if $(SEED),--seed $(SEED)) $(if $(REQUESTS),--requests $(REQUESTS))

bench-runtime: setup ## measure queue, throughput, a thousand workers, a full table; exit 1 if a goal is missed
	@scripts/apt-need postgresql
	@$(BIN)/python -m benchmarks.runtime $(if $(JSON),--json $(JSON)) $(if $(ONLY),--only $(ONLY))

bench-deploy: setup ## compare deploys with plain ssh, pyinfra and Ansible, in the lab; exit 1 if a goal is missed
	@scripts/apt-need openssh-server jq gcc libc6-dev
	@$(BIN)/python -m benchmarks.deploy $(if $(JSON),--json $(JSON)) $(if $(ONLY),--only $(ONLY))

bench-data: setup ## measure importing and reading a million bars; ROWS=N sets the number
	@$(BIN)/python -m benchmarks.data $(ROWS)

lab-up: setup ## start the lab, or repair it
	@$(BIN)/python -m lab up

lab-down: setup ## stop the lab; its data stays
	@$(BIN)/python -m lab down

lab-status: setup ## show which parts of the lab are running
	@$(BIN)/python -m lab status

screens: setup lab-up ## draw the terminal pictures of docs/pictures; ONLY="check diff" draws some
	@scripts/apt-need tmux
	@$(BIN)/python -m scripts.screens $(ONLY)

lock: setup ## update requirements/*.txt from pyproject.toml
	@scripts/lock

docs: setup ## regenerate the generated pages of docs/
	@$(BIN)/python -m docs.generate_environment
