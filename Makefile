# Every target makes the environment first, once; after that nothing needs the network.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

# The sample needs no hub. A plan, a notebook or a page may load models of the user's from there.
run test test-fast docs bench: export HF_HUB_OFFLINE ?= 1

.PHONY: run test test-fast lint format docs bench experiments viz notebooks clean

PLAN ?= .kedro/experiments/sample.yml

run: $(READY)
	$(BIN)/kedro run

# A file's tests stay in one process: they share what its fixtures made. In their own order: else files of few, long tests come last.
PYTEST = $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(PYTEST)

# Everything but the files marked slow.
test-fast: $(READY)
	$(PYTEST) -m "not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(READY)
	$(BIN)/python bench/run.py

experiments: $(READY)
	$(BIN)/kedro experiments $(PLAN)

viz: $(READY)
	$(BIN)/kedro viz run

notebooks: $(READY)
	$(BIN)/jupyter lab notebooks

# torch first and alone: asked for by another package, pip may take a build for GPUs that is gigabytes larger.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.lock)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(READY)

clean:
	rm -rf $(VENV) build site .pytest_cache .ruff_cache .mypy_cache
