# `make demo` and `make test` set everything up; nothing but Python 3.11 or newer is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check
.DELETE_ON_ERROR:

demo: .venv/ready
	$(BIN)/mujoco-sail run --env walker_stand --agents sac,pebble,sail,sail_revkl --seeds 3 \
		--protocol quick --results demo
	$(BIN)/mujoco-sail table --results demo
	$(BIN)/mujoco-sail plot --results demo --out demo

test: .venv/ready
	$(BIN)/pytest --numprocesses auto --dist loadfile

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	touch $@
