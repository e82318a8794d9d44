# `make run` and `make test` need Python 3.10 or newer and make; everything else they install into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test slow lint models clean

# Fetches the 2D models once, then lifts what is in demo/figure/.
run: .venv/ready models
	$(BIN)/python demo/vis.py --html

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

slow: .venv/ready
	$(BIN)/python -m pytest -m slow

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

models: .venv/ready
	$(BIN)/python -m demo.fetch

# The mark is set last, so that an interrupted install starts again.
.venv/ready: requirement.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirement.txt
	touch $@

clean:
	rm -rf .venv
