# Two commands matter: `make demo` and `make test`. Both set up a virtual environment of their own and need nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test lint clean
.DELETE_ON_ERROR:

demo: $(VENV)/.package
	@$(BIN)/aplysia demo

# Two processes, a whole file to each: fixtures of a module are made once, and a test uses one thread of torch.
test: $(VENV)/.tools lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/.tools
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

$(VENV)/.python:
	@echo "setting up $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# torch comes first and alone, so that no other package chooses its build.
$(VENV)/.torch: $(VENV)/.python constraints.txt
	@echo "installing torch ..."
	@$(PIP) torch
	@touch $@

SOURCES := pyproject.toml $(shell find src -type f -not -path '*/__pycache__/*')

$(VENV)/.package: $(VENV)/.torch $(SOURCES)
	@echo "installing aplysia ..."
	@$(PIP) .
	@touch $@

$(VENV)/.tools: $(VENV)/.torch $(SOURCES)
	@echo "installing aplysia with the test tools and the peers it is compared with ..."
	@$(PIP) '.[test,lint,peers]'
	@touch $@ $(VENV)/.package

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache
