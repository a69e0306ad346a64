# Millrace: the commands everyone relies on. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
MILLRACE := $(PY) -m millrace.cli.main
PYTEST := $(PY) -m pytest -p no:cacheprovider
# Slow tests here have folders of their own, so two run at once; elsewhere they kill processes, start Airflow or Ray.
SIDE_BY_SIDE := tests/contract tests/dags tests/unit
# Tests keep their state apart from the installation's.
export MILLRACE_TEST_VAR ?= $(CURDIR)/var/test

.PHONY: help demo test test-full test-environments install up down status clean lint lock bench preflight check features-ui

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

preflight: ## is everything there that pip cannot bring?
	@bash scripts/preflight.sh

install: ## .venv from the lock, nothing else
	@bash scripts/install.sh

demo: install ## the whole story on real flights, in real Airflow
	@$(MILLRACE) demo

test: install ## everything that must pass before a commit
	@$(MAKE) lint
	@$(PYTEST) -q -m "not full and not system and not browser" -n 2
	@PYTHON=$(PY) scripts/offline.sh $(PYTEST) -q -m "system and not full and not browser"

test-environments: install ## environments that slow tests train in, built while there is a network
	@$(MILLRACE) environment build --store '$(MILLRACE_TEST_VAR)/environments' tests/environments/*.txt \
	  || echo "test-environments: not built, so the tests that need them are skipped" >&2

test-full: install test-environments ## what is slow: faults, rebuild, Ray, large oracles, browser
	@status=0; \
	PYTHON=$(PY) scripts/offline.sh $(PYTEST) -q -m "full and not browser" -n 2 --dist worksteal $(SIDE_BY_SIDE) || status=$$?; \
	PYTHON=$(PY) scripts/offline.sh $(PYTEST) -q -m "full or browser" $(SIDE_BY_SIDE:%=--ignore=%) || status=$$?; \
	exit $$status

lint: install ## ruff, mypy, import-linter
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check --quiet . || { echo "ruff format . would change files"; exit 1; }
	@$(PY) -m mypy
	@.venv/bin/lint-imports

up: install ## start PostgreSQL, Airflow, MLflow and the online service
	@$(MILLRACE) up

down: ## stop them all
	@if [ -x $(PY) ]; then $(MILLRACE) down; else echo "nothing is installed, so nothing runs"; fi

status: ## what runs, where, and its logs
	@if [ -x $(PY) ]; then $(MILLRACE) status; else echo "nothing is installed, so nothing runs"; exit 3; fi

clean: ## stop everything and remove var/
	@if [ -x $(PY) ]; then $(MILLRACE) clean; else echo "nothing is installed; remove var/ by hand if it is left"; fi

check: install ## validate specs, policies, features, contracts and connections
	@$(MILLRACE) check

features-ui: install ## Feast's own page on the feature registry: PORT=<n>
	@$(MILLRACE) features ui $(if $(PORT),--port '$(PORT)')

bench: install ## one benchmark: NAME=<name> [SCALE=<n>]; without NAME all
	@$(PY) -m tests.benchmarks $(if $(NAME),'$(NAME)') $(if $(SCALE),--scale '$(SCALE)')

lock: ## resolve constraints.txt anew
	@bash scripts/lock.sh
