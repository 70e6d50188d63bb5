# make quickstart   set up once, then compare the embedded drafts on this machine
# make test         set up once, then run the tests
# make test-all     also those that take many minutes of engines
# make browser-test look at the report's page in a real browser, which it installs
# make wheels       the folder of wheels for a GPU host without a network: OUT=folder FOR=3.11|3.12 BARE=1 FULL=1
# make gpu          what only a GPU shows, as much as fits MINUTES=25 (docs/gpu.md): WHEELS=folder DATA=folder OUT=folder
# make gpu-dry-run  the same steps with tiny shapes, on the CPU
# PROFILE=cpu|cuda overrides what is found out about the host; with WHEELS=folder nothing is downloaded, and what the
# folder lacks (torch first of all) has to be in PYTHON's own environment.

PROFILE ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)
PYTHON ?= $(if $(WHEELS),python3,$(shell command -v python3.11 || command -v python3.12 || echo python3))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed-$(PROFILE)
TORCH_cpu := torch==2.13.0
TORCH_cuda :=
WHEELS ?=
DATA ?=
OUT ?=
MINUTES ?=
FOR ?= 3.12
BARE ?=
FULL ?=
# Test files at a time. Engines share a GPU's memory with nobody.
WORKERS ?= $(if $(filter cpu,$(PROFILE)),2,0)
# In their own order: xdist's begins with files of many tests, and would leave the few long ones of engines for the end.
# The many processes that tests start compile the project once, also where the environment forbids to keep what is compiled.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: quickstart setup test test-all lint browser-test wheels gpu gpu-dry-run

quickstart: setup
	$(BIN)/python bench.py suites/quickstart.yaml

setup: $(STAMP)

$(STAMP): requirements/$(PROFILE).lock requirements/offline pyproject.toml Makefile
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13) and "draftbench needs Python 3.11 or 3.12; set PYTHON=…")'
ifneq ($(WHEELS),)
	requirements/offline $(PYTHON) $(VENV) $(WHEELS)
else
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements/$(PROFILE).lock
	$(if $(TORCH_$(PROFILE)),$(BIN)/python -m pip install --quiet --no-warn-conflicts $(TORCH_$(PROFILE)))
	$(BIN)/python -m pip install --quiet --no-deps --editable .
endif
	touch $@

wheels:
	$(PYTHON) requirements/wheels.py --python $(FOR) $(if $(BARE),--bare) $(if $(FULL),--full) $(or $(OUT),wheels)

gpu:
	$(PYTHON) -m benchmarks.gpu --wheels "$(WHEELS)" --data "$(DATA)" $(if $(MINUTES),--minutes $(MINUTES)) $(if $(OUT),--out "$(OUT)")

gpu-dry-run: setup
	$(BIN)/python -m benchmarks.gpu --dry-run --data "$(DATA)" $(if $(OUT),--out "$(OUT)")

test: setup
	$(PYTEST)

test-all: setup
	DRAFTBENCH_TEST_ALL=1 $(PYTEST) -m ""

browser-test: setup
	$(BIN)/python -m pip install --quiet PyQt6-WebEngine==6.11.0
	$(BIN)/python -m pytest tests/unit/reports/test_browser.py

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
