# make quickstart   set up once, then compare the embedded drafts on this machine
# make test         set up once, then run the tests
# PROFILE=cpu|cuda overrides what is found out about the host.

PROFILE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed-$(PROFILE)
TORCH_cpu := torch==2.13.0
TORCH_cuda :=

.PHONY: quickstart setup test lint

quickstart: setup
	$(BIN)/python bench.py suites/quickstart.yaml

setup: $(STAMP)

$(STAMP): requirements/$(PROFILE).lock pyproject.toml Makefile
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13) and "draftbench needs Python 3.11 or 3.12; set PYTHON=…")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements/$(PROFILE).lock
	$(if $(TORCH_$(PROFILE)),$(BIN)/python -m pip install --quiet $(TORCH_$(PROFILE)))
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
