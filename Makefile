# The two commands of a fresh machine: make quickstart, make test.
VENV ?= .venv
PYTHON ?= python3
export OMP_WAIT_POLICY = passive

.PHONY: install quickstart test lint docs benchmark

# Again whenever the dependencies change.
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade "pip>=23"
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[test,lint,docs]"
	touch $@

install: $(VENV)/installed

quickstart: install
	$(VENV)/bin/gcl-custom run recipes/quickstart.yaml

test: install
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q --numprocesses logical --maxprocesses 4 --dist worksteal

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy gcl_custom

docs: install
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

benchmark: install
	$(VENV)/bin/python -m benchmarks
