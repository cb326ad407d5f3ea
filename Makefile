# make run      start the local stack: embedded Redis, worker, API (HOST, PORT, REDIS_URL are respected)
# make test     run the checks, then the tests: a sample of every long matrix
# make test-all run the checks, then every test
# make check    check formatting, lint and types
# make format   correct the formatting
# make clients  run client packages of other systems and replayed front ends against a local stack
# make chaos    kill, freeze and disconnect programs under load, and check that no job is lost; minutes
# make bench    measure the speed on this machine; BENCH="online peers" names some (bench/__main__.py)
# make docs     rewrite the tables of docs/configuration.md and docs/dialects/clients.md
# make lock     renew constraints.txt and the locks of the client packages
# make compose-test   build and run the containers with podman, as root; output in docs/compose-test.txt
#
# Needs Python 3.11 to 3.14 and make. The rest is installed into .venv, every file checked against
# the hashes of constraints.txt. A stamp file named after the content of pyproject.toml and
# constraints.txt records what is installed, so the next call starts at once.

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python3.14; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null \
	&& { command -v $$p; break; }; done)
GPU := $(if $(shell command -v nvidia-smi),gpu)
CONTENT := $(shell cat pyproject.toml constraints.txt .ci/oracles.txt | cksum | cut -d' ' -f1)
BIN := .venv/bin
RUN := .venv/installed-run-$(CONTENT)
DEV := .venv/installed-dev-$(CONTENT)
# What `make test` runs at the same time: many tests wait for other programs.
AT_ONCE := --no-print-directory --jobs=3 types client-packages tests

.PHONY: run test test-all tests prepare programs check lint types format clients client-packages chaos \
	bench docs lock compose-test

run: $(RUN)
	@exec $(BIN)/darkroom up --home var/stack

test: prepare
	@$(MAKE) $(AT_ONCE)

test-all: prepare
	@$(MAKE) $(AT_ONCE) MARKS='-m ""'

# pip keeps one processor busy for a minute.
prepare:
	@$(MAKE) --no-print-directory --jobs=2 lint programs

programs:
	@.ci/programs

# With compiled modules, which pytest, and each program that a test starts, otherwise compile again.
tests: export PYTHONDONTWRITEBYTECODE=
tests: $(DEV)
	$(BIN)/pytest -n auto --dist loadfile $(MARKS)

check: lint types

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(DEV)
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clients: client-packages
	$(BIN)/pytest tests/clients -m ""

# In var/clients, each environment in a folder named after its lock. A test that needs one waits for it.
client-packages: $(DEV)
	@$(BIN)/python -m tests.clients.environments

chaos: $(DEV)
	$(BIN)/python -m tests.chaos

bench: $(DEV)
	$(BIN)/python -m bench $(BENCH)

docs: $(DEV)
	$(BIN)/python -m bench.docs.settings_table
	$(BIN)/python -m tests.clients.table

compose-test: $(DEV)
	$(BIN)/python -m pip install --quiet -c constraints.txt --group compose
	@mkdir -p var
	$(BIN)/python -m deploy.compose_test.run > var/compose-test.txt || { cat var/compose-test.txt; exit 1; }
	@mv var/compose-test.txt docs/compose-test.txt && cat docs/compose-test.txt

lock: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --group lock
	.ci/lock

# The installation for the tests includes the one for `make run`.
$(DEV): EXTRAS = worker training dev $(GPU)
$(DEV): | $(BIN)/python
	$(install)
	@$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r .ci/oracles.txt
	@touch $(RUN) $@

$(RUN): EXTRAS = worker $(GPU)
$(RUN): | $(BIN)/python
	$(install)
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Darkroom needs Python 3.11 to 3.14 with venv and pip" >&2; exit 1; }
	@echo "Creating .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv

# Install a newer pip first: the one of Python 3.11 cannot check the hashes of constraints.
define install
	@echo "Installing into .venv: $(EXTRAS)"
	@sed -n '/^pip==/,/[^\\]$$/p' constraints.txt > .venv/pip.txt
	@$(BIN)/python -m pip install --quiet --require-hashes -r .venv/pip.txt
	@$(BIN)/python .ci/requirements.py $(EXTRAS) > .venv/requirements.txt
	@$(BIN)/python .ci/torch_build.py >> .venv/requirements.txt
	@$(BIN)/python -m pip install -c constraints.txt -r .venv/requirements.txt --group build
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f .venv/installed-*
endef
