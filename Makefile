# Needs Python >= 3.11 and make; everything else is installed into .venv by the first target.
# Installs are pinned by hash. uv is used where it is on the PATH, else pip.

PYTHON ?= python3
VENV   ?= .venv
CONFIG ?=
ARGS   ?=
# Processes that share the tests; a file's tests stay together.
JOBS   ?= auto

BIN  := $(VENV)/bin
PY   := $(BIN)/python
UV   := $(shell command -v uv 2>/dev/null)
LOCK := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
        --python-version 3.11 --custom-compile-command "make lock"

ifdef UV
INSTALL := VIRTUAL_ENV=$(abspath $(VENV)) $(UV) pip install --quiet
else
INSTALL := PIP_USER=0 $(PY) -m pip install --quiet --disable-pip-version-check
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo serve check test lint format bench docs lock clean

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  PYTHON=python3.12 picks the interpreter, ARGS="..." is handed to the command,'
	@echo '  CONFIG=router.toml names the configuration of serve and check.'

setup: $(VENV)/.dev ## Install everything into .venv (done by the others when needed)

demo: $(VENV)/.run ## Watch the router learn on 3,609 recorded prompts; ARGS="--requests 500" is shorter
	@$(BIN)/bandit-router demo $(ARGS)

serve: $(VENV)/.run ## Start the router; without CONFIG: ./router.toml, or else one local model, no keys
	@$(BIN)/bandit-router serve $(if $(CONFIG),--config $(CONFIG)) $(ARGS)

check: $(VENV)/.run ## Validate a configuration without starting anything
	@$(BIN)/bandit-router check $(CONFIG) $(ARGS)

test: $(VENV)/.dev ## Run every test; ARGS="-k pacing" narrows
	$(PY) -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: $(VENV)/.dev ## Lint, check the format and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Format the code and repair what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev ## Print the speed of one decision and one update
	$(PY) -m pytest -o python_files="*.py" simulations/benchmarks --benchmark-only $(ARGS)

docs: $(VENV)/.dev ## Build the documentation site into site/
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "$(PY) -m http.server -b 127.0.0.1 -d site shows it at http://127.0.0.1:8000"

lock: ## Pin the requirements anew (needs uv); LOCK_ARGS=--upgrade moves to the newest
	@command -v uv >/dev/null || { echo "make lock needs uv: pip install uv" >&2; exit 1; }
	$(LOCK) $(LOCK_ARGS) pyproject.toml --extra local --extra build -o requirements.txt
	$(LOCK) $(LOCK_ARGS) pyproject.toml --extra local --extra build --extra embeddings --extra cluster --extra otel --extra docs --extra dev \
	    -c requirements.txt -o requirements-dev.txt
	$(LOCK) $(LOCK_ARGS) --no-deps requirements-data.in -o requirements-data.txt

clean: ## Remove .venv and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each is older than the lock it was installed from only when that lock has changed.

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
	    echo "'$(PYTHON)' is not on the PATH: install Python 3.11 or newer, or run make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) -V 2>&1): run make PYTHON=python3.12 (or another)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "$(PYTHON) lacks venv or ensurepip: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) -V) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# PYTHONDONTWRITEBYTECODE, where set, would leave every import uncompiled: compile once, here.
define finish
	@$(INSTALL) --no-deps --require-hashes -r requirements-data.txt
	@$(INSTALL) --no-deps --no-build-isolation --no-index --editable .
	@$(PY) -m compileall -q -j 0 $(VENV)/lib bandit_router service simulations migrations >/dev/null || true
	@touch $@
endef

$(VENV)/.run: $(VENV)/.made requirements.txt requirements-data.txt pyproject.toml
	@echo "Installing what the router needs (about 700 MB on disk, once) ..."
	@$(INSTALL) --require-hashes -r requirements.txt
	$(finish)

$(VENV)/.dev: $(VENV)/.made requirements-dev.txt requirements-data.txt pyproject.toml
	@echo "Installing what the router and its tests need (about 1 GB on disk, once) ..."
	@$(INSTALL) --require-hashes -r requirements-dev.txt
	$(finish)
	@touch $(VENV)/.run
