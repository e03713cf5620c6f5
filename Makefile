# `make serve` and `make test` work from a fresh clone: they set up .venv by themselves, once.

VENV ?= .venv
BIN := $(VENV)/bin
# Every distribution of the repository; a new folder is found by itself.
PROJECTS := $(sort $(patsubst %/setup.py,%,$(wildcard plugins/*/setup.py plugin_contrib/*/setup.py)))
PACKAGES := server/tidegate $(filter-out %.egg-info,$(wildcard $(PROJECTS:%=%/tidegate_*)))
STAMP := $(VENV)/.tidegate-installed
TOOLS := $(VENV)/.tidegate-tools
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := setup.py server tests $(wildcard plugins plugin_contrib)

.DEFAULT_GOAL := help
.PHONY: help setup serve test lint types coverage format docs changelog clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Shims of version managers are on PATH but may not run, so each candidate is asked.
$(BIN)/python:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "--- making $(VENV) with $$("$$python" --version)"; \
	    exec "$$python" -m venv $(VENV); \
	  fi; \
	done; \
	echo "Tidegate needs Python 3.11 or newer; install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1

# Again when a distribution was added or removed, or when what one of them asks for has changed. All are built by
# one setuptools: an environment of its own for each, which pip would make, takes most of the time.
$(STAMP): $(BIN)/python setup.py $(wildcard plugins plugin_contrib) $(PROJECTS:%=%/setup.py)
	@echo "--- installing the core and $(words $(PROJECTS)) plugins, editable, into $(VENV)"
	@$(PIP) --upgrade setuptools
	@$(PIP) --no-build-isolation -e . $(PROJECTS:%=-e %)
	@touch $@

$(TOOLS): etc/requirements-dev.txt | $(STAMP)
	@echo "--- installing what tests, lint and types need into $(VENV)"
	@$(PIP) -r etc/requirements-dev.txt
	@touch $@

setup: $(STAMP) $(TOOLS) ## Make .venv and install everything into it

serve: $(STAMP) ## Run a server on etc/tidegate.toml
	@echo "--- tidegate serve --config etc/tidegate.toml"
	@exec $(BIN)/tidegate serve --config etc/tidegate.toml $(ARGS)

# On all processors, a file at a time, unless ARGS says what is wanted.
test: TESTS := $(or $(ARGS),-n logical --dist loadfile)
test: $(STAMP) $(TOOLS) ## Run every test of the core and of every plugin
	@echo "--- pytest $(TESTS)"
	@exec $(BIN)/python -m pytest $(TESTS)

lint: $(STAMP) $(TOOLS) ## Check style and format
	@echo "--- ruff check, ruff format --check"
	@$(BIN)/ruff check --config etc/ruff.toml --output-format concise $(SOURCES)
	@$(BIN)/ruff format --config etc/ruff.toml --check $(SOURCES)

types: $(STAMP) $(TOOLS) ## Check types, strictly
	@echo "--- mypy"
	@$(BIN)/mypy --config-file tox.ini $(PACKAGES)

coverage: $(STAMP) $(TOOLS) ## Run the tests and say which lines they miss
	@$(BIN)/coverage erase --rcfile tox.ini
	@$(BIN)/coverage run --rcfile tox.ini -m pytest $(ARGS)
	@$(BIN)/coverage combine --rcfile tox.ini --quiet
	@$(BIN)/coverage report --rcfile tox.ini

format: $(STAMP) $(TOOLS) ## Mend style and format
	@$(BIN)/ruff check --config etc/ruff.toml --fix $(SOURCES)
	@$(BIN)/ruff format --config etc/ruff.toml $(SOURCES)

docs: $(STAMP) $(TOOLS) ## Write the generated pages anew
	@for page in tests/core/test_config.py tests/core/test_faults.py tests/test_docs.py; do \
	  echo "--- $$page"; $(BIN)/python $$page || exit 1; \
	done

changelog: $(STAMP) $(TOOLS) ## Move news/ into a CHANGELOG: make changelog VERSION=0.2.0 OF=plugins/errors
	@$(BIN)/python -m towncrier build --config etc/towncrier.toml --dir $(or $(OF),server) --version $(VERSION)

clean: ## Remove .venv and what the tools left
	rm -rf $(VENV) .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis build
