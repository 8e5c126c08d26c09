# Set-up is part of every target and done once: `make up` and `make test` work on a bare machine.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up test lint bench schemas requirements clean
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PACKAGES := contracts/buildlight_contracts chassis reports services buildlight sandbox tests $(wildcard bench)
BENCHES := $(patsubst bench/%.py,bench.%,$(filter-out %/__init__.py %/__main__.py,$(wildcard bench/[a-z]*.py)))
RABBITMQ := /usr/lib/rabbitmq/bin/rabbitmq-server
CHROMIUM := /usr/bin/chromium
# Test processes side by side, each with servers of its own.
WORKERS ?= 3
REDIS := /usr/bin/redis-server

SETUP := .venv/.project
ifneq ($(wildcard package-lock.json),)
NODE := node_modules/.installed
endif

help: ## Say what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

up: $(SETUP) $(NODE) $(if $(BUILDLIGHT_AMQP_URL)$(shell grep -s ^BUILDLIGHT_AMQP_URL=. .env),,$(RABBITMQ)) ## Run everything on this machine; Ctrl-C stops it
	@exec $(BIN)/python -m buildlight.up

test: $(SETUP) $(NODE) $(RABBITMQ) $(CHROMIUM) ## Run the tests (ARGS="-k name" for some of them)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(SETUP) ## Check style, types and the floors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(PACKAGES)
	@$(BIN)/lint-imports

bench: $(SETUP) $(NODE) $(RABBITMQ) $(REDIS) ## Run the benchmarks, a few minutes (make bench.NAME for one)
	@set -e; for name in $(BENCHES); do $(BIN)/python -m $$name; done

bench.%: $(SETUP) $(NODE) $(RABBITMQ) $(REDIS)
	@$(BIN)/python -m $@ $(ARGS)

schemas: $(SETUP) ## Write the JSON Schemas, AsyncAPI and topology again from the code
	@$(BIN)/python -m buildlight_contracts.schemas
	@$(BIN)/python -m buildlight.topology > docs/topology.md

requirements: .venv/.made ## Resolve the pinned packages again (UPGRADE=1 for newer ones)
	@infra/setup/python.sh compile

clean: ## Remove what make and the tests made; .buildlight, which holds data, stays
	@rm -rf .venv node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@rm -rf build *.egg-info contracts/build contracts/*.egg-info
	@find . -name __pycache__ -not -path './.*' -prune -exec rm -rf {} +

.venv/.made: infra/setup/uv.txt
	@infra/setup/python.sh venv
	@touch $@

.venv/.requirements: .venv/.made requirements-dev.txt
	@infra/setup/python.sh requirements
	@touch $@

.venv/.project: .venv/.requirements pyproject.toml contracts/pyproject.toml
	@infra/setup/python.sh project
	@touch $@

node_modules/.installed: package.json package-lock.json
	@infra/setup/node.sh
	@touch $@

$(RABBITMQ):
	@infra/setup/debian.sh rabbitmq-server "the message broker"

$(REDIS):
	@infra/setup/debian.sh --optional redis-server "the benchmark of a peer"

$(CHROMIUM):
	@infra/setup/debian.sh --optional chromium "the tests of the pages in a browser"
