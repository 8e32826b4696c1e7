# Everything is done in .venv, made from requirements.lock. `make` lists the targets.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run test test-browser refresh lab bench bench-quick lint lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## make .venv with the pinned packages

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
	  "fedtutor needs Python 3.11 to 3.13; this is %d.%d. Try: make PYTHON=python3.12 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

run: $(READY) ## train five synthetic hospitals alone, federated and pooled; writes fedtutor-run/
	$(VENV)/bin/fedtutor run

test: $(READY) ## pass all tests
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/python -m pytest
	$(VENV)/bin/python tests/notebooks/compare.py

test-browser: $(READY) ## run the notebooks in the real JupyterLab, in a browser without a window
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[browser]'
	$(VENV)/bin/python tests/notebooks/browser.py

refresh: $(READY) ## run the notebooks anew and store their outputs
	$(VENV)/bin/python tests/notebooks/refresh.py

lab: $(READY) ## open the course in JupyterLab
	$(VENV)/bin/jupyter lab notebooks

bench: $(READY) ## measure everything beside what a user would otherwise pick (half an hour)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(VENV)/bin/python -m benchmarks

bench-quick: $(READY) ## the same rows in four minutes, with less precision
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(VENV)/bin/python -m benchmarks --quick

lint: $(READY) ## tidy the code
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

lock: ## resolve pyproject.toml anew into requirements.lock
	rm -rf .lock-venv && $(PYTHON) -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade \
	  setuptools wheel '.[test]'
	.lock-venv/bin/python -m pip freeze --all --exclude pip --exclude fedtutor > requirements.lock
	rm -rf .lock-venv

clean: ## remove .venv and what runs have written
	rm -rf $(VENV) .lock-venv fedtutor-run
