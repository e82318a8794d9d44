# `make run` and `make test` need Python 3.10 or newer and make; everything else they install into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test slow lint clean

run: .venv/ready
	$(BIN)/python main.py --reload --previous_dir sample --dataset sample --picture demo/output/sample.png

test: .venv/ready
	$(BIN)/python -m pytest

slow: .venv/ready
	$(BIN)/python -m pytest -m slow

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The mark is set last, so that an install that was broken off is begun again.
.venv/ready: requirement.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirement.txt
	touch $@

clean:
	rm -rf .venv
