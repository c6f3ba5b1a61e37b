# The two commands of the README are `make run` and `make test`. Stamps keep the second start short.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard gateway/_fast/*.pyx gateway/_fast/*.pxd)
STAMPS := $(VENV)/stamps

.PHONY: run test test-slow build bench bench-quick bench-long bench-check lint types fmt ci clean annotate preflight

run: build ## play the main job on a simulated node and backend
	$(BIN)/wa-gateway demo

test: build $(STAMPS)/dev ## build and pass the tests
	$(BIN)/python -m pytest -m "not slow"

test-slow: build $(STAMPS)/dev
	$(BIN)/python -m pytest -m slow

build: $(STAMPS)/build

bench: build $(STAMPS)/dev ## gateway and peers in one run, tables and plots made anew; about 15 minutes
	$(BIN)/python bench/run.py

bench-quick: build $(STAMPS)/dev ## the same in about four minutes, with wider ranges; changes no file
	$(BIN)/python bench/run.py --quick

bench-long: build $(STAMPS)/dev ## storms, goodput, memory of receipts, all rates of pacing, the studies; over an hour
	$(BIN)/python bench/run.py --long

bench-check: build $(STAMPS)/dev ## instructions of the hot path against those kept; half a minute, needs valgrind
	$(BIN)/python bench/instructions.py

lint: $(STAMPS)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: build $(STAMPS)/dev
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --allowlist tests/stubtest-allowlist.txt gateway._fast

fmt: $(STAMPS)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

annotate: $(STAMPS)/dev ## HTML beside each .pyx: yellow lines touch Python
	$(BIN)/cython --annotate -3 gateway/_fast/*.pyx

ci: lint types test test-slow

preflight:
	@sh .ci/preflight.sh $(PYTHON)

$(STAMPS)/venv: | preflight
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/build: $(STAMPS)/venv pyproject.toml setup.py gateway/__init__.py $(NATIVE)
	@echo "Building wa-gateway into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(STAMPS)/dev: $(STAMPS)/build pyproject.toml
	@echo "Installing what the tests need into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info gateway/_fast/*.so gateway/_fast/*.c gateway/_fast/*.html var
