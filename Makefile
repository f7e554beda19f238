# make quickstart   a model of your own in minutes: sets up .venv, trains, evaluates
# make test         the same set-up, then every check and test; `make test PINS=` with the newest versions of everything
# make check        lint, types and layers only
# make faults       the promises under faults, in full: hundreds of kills, cuts and hostile inputs, and what was reached
# make golden       rewrite what is generated: the settings table of the README
# make locks        rewrite constraints/: what an installation holds, with hashes, at the versions of constraints.txt
# make audit        known vulnerabilities of what constraints/ holds; fails too where one could not be asked about
# make licences     the licences of what an installation brings, against the list, and build/papers/NOTICES.txt
# make sbom         build/papers/*.cdx.json: the parts of an installation with their hashes, in CycloneDX
# make wheel        dist/: the wheel and the source archive, the same bytes at any time and in any folder

PYTHON ?= python3
PINS ?= --constraint constraints.txt
BIN := .venv/bin
RELEASE := build/release/bin
PYTEST_ARGS ?=

.PHONY: quickstart test check faults golden locks audit licences sbom wheel clean

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

# The platforms are the oldest that the wheels of mlx and torch run on.
LOCK = $(RELEASE)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --only-binary :all: \
	--python-version 3.11 --constraints constraints.txt
locks: build/release/ready
	$(LOCK) --python-platform x86_64-manylinux_2_28 --extra data pyproject.toml --output-file constraints/linux-cuda.txt
	MACOSX_DEPLOYMENT_TARGET=14.0 $(LOCK) --python-platform aarch64-apple-darwin --extra data pyproject.toml --output-file constraints/mac-mlx.txt
	$(LOCK) --universal --extra torch --extra data --extra mlx-cpu --extra dev pyproject.toml --output-file constraints/cpu-test.txt
	$(LOCK) --universal --group release --output-file constraints/release.txt

audit: build/release/ready
	for lock in constraints/*.txt; do $(RELEASE)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off --requirement $$lock || exit 1; done

licences: .venv/dev
	$(BIN)/python -m pytest -q tests/hygiene/test_licences.py
	mkdir -p build/papers
	$(BIN)/python -m tests.hygiene.licences build/papers/NOTICES.txt

sbom: build/release/ready
	mkdir -p build/papers
	for lock in linux-cuda mac-mlx; do $(RELEASE)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --output-file build/papers/$$lock.cdx.json constraints/$$lock.txt || exit 1; done

wheel: export SOURCE_DATE_EPOCH := 1580601600
wheel: build/release/ready
	rm -rf dist
	$(RELEASE)/python -m hatchling build --directory dist
	$(RELEASE)/python -m pip hash dist/*

clean:
	rm -rf .venv build dist

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "localtune needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv

.venv/ready: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PINS) --editable .
	touch $@

.venv/dev: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PINS) --editable '.[torch,data,mlx-cpu,dev]'
	touch $@

build/release/ready: constraints/release.txt
	$(PYTHON) -m venv --clear build/release
	$(RELEASE)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement constraints/release.txt
	touch $@
