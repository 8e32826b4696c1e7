# Everything is done in .venv, made from requirements.lock. `make` lists the targets.
PYTHON ?= python3
PYTHON_TFF ?= python3.11
VENV := .venv
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run test test-fast test-browser lint format explorer refresh lab tff torch \
  bench bench-quick bench-pfl lock check-lock site site-test site-links site-pot clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## make .venv with the pinned packages

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
	  "fedtutor needs Python 3.11 to 3.13; this is %d.%d. Try: make PYTHON=python3.12 ..." % v[:2])'
	@$(PYTHON) -c 'import platform, sys; mine = platform.system(), platform.machine(); sys.exit( \
	  "TensorFlow has no wheel for Intel Macs or a Python made for them: use Colab or a server, see " \
	  "notebooks/README.md." if mine == ("Darwin", "x86_64") else None)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

run: $(READY) ## train five synthetic hospitals alone, federated and pooled; writes fedtutor-run/
	$(VENV)/bin/fedtutor run

lint: $(READY) ## look at style and types; changes nothing
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	@$(MAKE) --no-print-directory --jobs=3 types-linux types-darwin types-win32

types-%: $(READY) # as on this system
	@echo "mypy, as on $*"; $(VENV)/bin/mypy --platform $* --cache-dir .mypy_cache/$*

format: $(READY) ## tidy the code
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

test: lint ## pass all: lint, tests, and every notebook compared with its stored outputs
	$(VENV)/bin/python tools/compare.py all

test-fast: $(READY) ## the tests for every day, without the slow ones and real processes
	$(VENV)/bin/python -m pytest -p no:nbval -m "not slow and not process" -n 2 --dist loadfile tests

test-browser: $(READY) ## the notebooks in the real JupyterLab and the explorer, in a browser
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[browser]'
	FEDTUTOR_ENGINE=chromium $(VENV)/bin/python -m pytest -q tests/site/test_explorer.py
	$(VENV)/bin/python tools/browser.py

explorer: $(READY) ## build site/explorer.html, in which a federation trains in the browser
	$(VENV)/bin/python tools/explorer.py

refresh: $(READY) ## run the notebooks anew and store their outputs
	$(VENV)/bin/python tools/refresh.py

lab: $(READY) ## open the course in JupyterLab
	$(VENV)/bin/fedtutor lab

TFF := .venv-tff
TFF_NOTEBOOK := notebooks/appendix/tensorflow_federated.ipynb
TFF_DATA := notebooks/appendix/for_tff.npz

tff: $(TFF)/.ready $(TFF_DATA) ## the appendix on TensorFlow Federated, in .venv-tff (Python 3.11)
	$(VENV)/bin/python tools/run_and_end.py $(TFF)/bin/python tools/compare.py $(TFF_NOTEBOOK)

# JupyterLab then has it in its list of kernels, too.
$(TFF)/.ready: requirements-tff.txt | $(READY)
	@$(PYTHON_TFF) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v == (3, 11) else \
	  "TensorFlow Federated needs Python 3.11, not %d.%d. Try: make PYTHON_TFF=... tff" % v)'
	$(PYTHON_TFF) -m venv --clear $(TFF)
	$(TFF)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  -r requirements-tff.txt
	echo "$(CURDIR)" > $(TFF)/lib/python3.11/site-packages/fedtutor.pth
	$(TFF)/bin/python -m ipykernel install --prefix $(VENV) --name fedtutor-tff \
	  --display-name "TensorFlow Federated"
	@touch $@

$(TFF_DATA): notebooks/appendix/for_tff.py $(wildcard fedtutor/*.py fedtutor/*/*.py) | $(READY)
	$(VENV)/bin/python $<

# For Linux the package index has PyTorch with CUDA only, and it cannot be imported without. (pip's
# dry run would tell, but some pips download all of it for that.)
torch: $(READY) ## the appendix on PyTorch and its tests; installs the extra [torch]
	@if test -z "$(YES)" && test "$$(uname -s)" = Linux \
	  && ! $(VENV)/bin/python -m pip show --quiet torch 2>/dev/null; then \
	  echo "On Linux PyTorch brings CUDA along: 2.7 GB to download. Without a graphics card install"; \
	  echo "PyTorch's own build for the CPU into $(VENV) first (190 MB; its home page says how), and"; \
	  echo "'make torch' keeps it. To install what pip finds all the same: make torch YES=1"; \
	  exit 1; \
	fi
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c requirements.lock \
	  -e '.[torch]'
	$(VENV)/bin/python -m pytest tests/topics/test_torch_client.py
	$(VENV)/bin/python tools/compare.py notebooks/appendix/pytorch_client.ipynb

bench: $(READY) ## measure everything beside what a user would otherwise pick (an hour)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(VENV)/bin/python -m benchmarks

bench-quick: $(READY) ## the same but for the notebooks in a few minutes, with less precision
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(VENV)/bin/python -m benchmarks --quick

PFL := .venv-pfl

bench-pfl: $(READY) $(PFL)/.ready ## warm rounds beside pfl-research, which gets .venv-pfl (20 min)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(VENV)/bin/python -m benchmarks.beside_pfl --pfl-python $(PFL)/bin/python

$(PFL)/.ready: requirements-pfl.txt
	$(PYTHON) -m venv --clear $(PFL)
	$(PFL)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-pfl.txt
	@touch $@

SITE := .venv-site

site: $(SITE)/.ready ## the course as a book to read in a browser: site/_build/html
	$(SITE)/bin/python site/build.py

site-test: site $(READY) ## open each page of the book in a browser; looks for barriers, too
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[browser]'
	$(VENV)/bin/python site/book_browser.py

site-links: $(SITE)/.ready ## list the links of the book that lead elsewhere
	$(SITE)/bin/python site/build.py --links

site-pot: $(SITE)/.ready ## write what translators of the book need: site/_build/gettext
	$(SITE)/bin/python site/build.py --pot

$(SITE)/.ready: requirements-site.txt
	$(PYTHON) -m venv --clear $(SITE)
	$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-site.txt
	@touch $@

# uv comes with Flower. What is locked stays where it still fits, but for UPGRADE=--upgrade.
lock: $(READY) ## resolve pyproject.toml into requirements.lock, for every system and Python
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --extra test $(UPGRADE) \
	  --no-header --no-annotate --output-file requirements.lock pyproject.toml

check-lock: $(READY) ## show that the lock has wheels for every system and Python; asks the index
	$(VENV)/bin/python tools/check_lock.py

clean: ## remove .venv and what runs have written
	rm -rf $(VENV) $(TFF) $(PFL) $(SITE) site/_build fedtutor-run $(TFF_DATA)
