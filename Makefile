# `make run` and `make test` need Python 3.10 or newer and make; everything else they install into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test slow lint models clean

# Scores the sample checkpoint, then lifts the picture in demo/figure/.
run: .venv/ready models
	$(BIN)/python main.py --reload --previous_dir sample --dataset sample --picture demo/output/sample.png
	$(BIN)/python demo/vis.py --html

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4

slow: .venv/ready
	$(BIN)/python -m pytest -m slow

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

models: .venv/ready
	$(BIN)/python -m demo.fetch blazepose

# The mark is set last, so that an install that was broken off is begun again.
.venv/ready: requirement.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirement.txt
	touch $@

clean:
	rm -rf .venv
