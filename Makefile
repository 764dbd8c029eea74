# make run      the demo behind a front-end on http://127.0.0.1:8080/; FRONT=lighttpd, nginx or embedded; Ctrl-C stops it
# make test     lint, types and every test
# make sanitize the tests of the twin in C and a long comparison with Python, under ASan and UBSan; SECONDS=60
# make bench    what requests cost, beside uWSGI, gunicorn, flup6, PHP-FPM and C, which it installs: about 5 minutes;
#               ROWS="hello memory" for single rows, ROWS=all for the others too; REPEATS=3 for fewer turns
# make streams  1,000 server-sent-event streams on two workers, and the memory that each takes
# make faults   what faults cost clients: about 12 minutes, to benchmarks/results/faults.json
# make bench-reload   what reloads cost clients, beside PHP-FPM, uWSGI and gunicorn, which it installs: about 4 minutes
#
# PYTHON names the interpreter that .venv is made with.

PYTHON ?= python3
BIN = .venv/bin
IN_C = $(wildcard gateway/*/_*.[ch])
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test sanitize bench bench-reload streams faults programs

run: .venv/run.stamp
	@exec $(BIN)/gateway up $(if $(FRONT),--front $(FRONT))

test: programs .venv/test.stamp
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "not alone and not waiting" --cov --cov-report= --cov-fail-under=0
	@$(BIN)/python -m pytest -q -n 3 -m waiting tests/end_to_end
	@$(BIN)/python -m pytest -q -m alone --cov --cov-append --cov-report=term-missing:skip-covered

sanitize: programs .venv/test.stamp
	@$(BIN)/python -m tests.protocol.sanitizing $(SECONDS)

bench: .venv/test.stamp benchmarks/.venv/peers.stamp
	@PYTHON=$(PYTHON) benchmarks/install-peers php-fpm wrk gcc libc6-dev libfcgi-dev
	@$(BIN)/python -m benchmarks.bench $(ROWS) $(if $(REPEATS),--repeats $(REPEATS))

bench-reload: .venv/test.stamp benchmarks/.venv/peers.stamp
	@PYTHON=$(PYTHON) benchmarks/install-peers php-fpm
	@$(BIN)/python -m benchmarks.reload

streams: programs .venv/test.stamp
	@$(BIN)/python -m benchmarks.streams

faults: programs .venv/test.stamp
	@$(BIN)/python -m benchmarks.faults

programs:
	@PYTHON=$(PYTHON) tests/install-programs

.venv/run.stamp: pyproject.toml $(IN_C) | $(BIN)/python
	@echo "installing gateway into .venv"
	@$(PIP) --editable .
	@touch $@

.venv/test.stamp: pyproject.toml $(IN_C) | $(BIN)/python
	@echo "installing gateway and what its tests need into .venv"
	@$(PIP) --editable '.[test]'
	@touch $@ .venv/run.stamp

# uWSGI is built from source; where that fails, the comparison names it and goes on without.
benchmarks/.venv/peers.stamp: Makefile
	@echo "installing gateway, uWSGI, gunicorn, uvicorn and Flask into benchmarks/.venv"
	@$(PYTHON) -m venv benchmarks/.venv
	@benchmarks/.venv/bin/python -m pip install --quiet --disable-pip-version-check . gunicorn flask uvicorn uvloop httptools
	@benchmarks/.venv/bin/python -m pip install --quiet --disable-pip-version-check uwsgi || echo "uWSGI cannot be built here" >&2
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gateway needs Python 3.11 or newer: make PYTHON=…")'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "install venv for $(PYTHON): apt-get install python3-venv" >&2; exit 1; }
