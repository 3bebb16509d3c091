# Two commands do everything: `make quickstart` and `make test`.
BIN := .venv/bin
NEW := import sys; sys.exit(sys.version_info < (3, 11))
OLD := import sys; v = sys.version_info; sys.exit(v < (3, 11) and "Python %d.%d is too old, 3.11 or newer is needed: \
	install one, then make PYTHON=python3.11" % v[:2] or 0)
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(NEW)' 2>/dev/null && echo $$p && break; done)
endif
ifeq ($(PYTHON),)
PYTHON := python3
endif
# An old Python cannot even read what comes after this check.
PREPARE := $(PYTHON) -c '$(OLD)' && $(PYTHON) scripts/prepare.py
SOURCES := src tests scripts benchmarks

.DEFAULT_GOAL := help
.PHONY: help quickstart down test unit e2e sim bench lint agent-image venv

help: ## what can be typed here
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /|/' | awk -F'|' '{printf "  make %-11s %s\n", $$1, $$2}'

quickstart: ## a cluster on this machine and a demo app on it
	@$(PREPARE) venv docker demo
	@$(BIN)/eru up
	@$(BIN)/python -m eru.roots.demo

down: ## stop it and remove everything it made
	@test -x $(BIN)/eru || { echo "nothing to stop: $(BIN) is not there; 'make venv' makes it if a cluster still runs"; exit 1; }
	@$(BIN)/eru down --purge

test: ## lint and every test, on real Docker and etcd (installs them)
	@$(PREPARE) venv docker tests
	@scripts/test-all.sh

unit: venv ## the tests that need nothing
	@$(BIN)/pytest tests/unit tests/test_house.py

sim: venv ## whole clusters in one process, from seeds (SEEDS=1-5000: those, SEEDS=42: one with its story)
	@$(if $(SEEDS),$(BIN)/python tests/sim/run.py $(SEEDS),$(BIN)/pytest tests/sim)

e2e: ## the tests on real Docker and etcd
	@$(PREPARE) venv docker tests
	@$(BIN)/pytest tests/e2e

bench: ## measure, beside a baseline of the same run
	@$(PREPARE) venv docker tests
	@$(BIN)/python -m benchmarks

lint: venv ## style, types, import contracts, generated code
	@scripts/lint.sh

agent-image: venv ## the image eru-agent, from this machine's Python (BASE=python:3.11-slim: by docker build)
	@$(if $(BASE),docker build --build-arg BASE=$(BASE) -t eru-agent -f packaging/agent.Dockerfile .,$(BIN)/python scripts/agent_image.py)

venv:
	@$(PREPARE) venv
