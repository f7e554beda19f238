# make quickstart   a model of your own in minutes: sets up .venv, trains, evaluates
# make test         the same set-up, then every check and test
# make check        lint, types and layers only
# make faults       the promises under faults, in full: hundreds of kills, cuts and hostile inputs, and what was reached
# make golden       rewrite what is generated: the settings table of the README

PYTHON ?= python3
BIN := .venv/bin
PYTEST_ARGS ?=

.PHONY: quickstart test check faults golden clean

quickstart: .venv/ready
	$(BIN)/localtune run recipes/quickstart/recipe.yaml

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not cuda and not slow and not network" $(PYTEST_ARGS)

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

faults: .venv/dev
	FAULTS=full OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not cuda and not network" --timeout 7200 $(PYTEST_ARGS)

golden: .venv/dev
	$(BIN)/python tests/hygiene/readme.py

clean:
	rm -rf .venv build dist

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "localtune needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv

.venv/ready: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/dev: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[torch,data,mlx-cpu,dev]'
	touch $@
