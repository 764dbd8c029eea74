# make run      the demo behind a front-end on http://127.0.0.1:8080/; FRONT=lighttpd, nginx or embedded; Ctrl-C stops it
# make test     lint, types and every test
# make bench    what one request costs in the engine, beside flup6
#
# PYTHON names the interpreter that .venv is made with.

PYTHON ?= python3
BIN = .venv/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test bench programs

run: .venv/run.stamp
	@exec $(BIN)/gateway up $(if $(FRONT),--front $(FRONT))

test: programs .venv/test.stamp
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q --cov --cov-report=term-missing:skip-covered

bench: .venv/test.stamp
	@$(BIN)/python -m benchmarks.engine

programs:
	@PYTHON=$(PYTHON) tests/install-programs

.venv/run.stamp: pyproject.toml | $(BIN)/python
	@echo "installing gateway into .venv"
	@$(PIP) --editable .
	@touch $@

.venv/test.stamp: pyproject.toml | $(BIN)/python
	@echo "installing gateway and what its tests need into .venv"
	@$(PIP) --editable '.[test]'
	@touch $@ .venv/run.stamp

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gateway needs Python 3.11 or newer: make PYTHON=…")'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "install venv for $(PYTHON): apt-get install python3-venv" >&2; exit 1; }
