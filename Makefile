# `make demo` and `make test` set everything up; nothing but Python 3.11 or 3.12 is needed.
# A later one will not do: labmaze, which dm_control needs, has no wheels for it.
IS_SUITABLE := -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' 2>/dev/null
suitable = $(if $(1),$(shell $(1) $(IS_SUITABLE) && echo $(1)))
PYTHON ?= $(firstword $(foreach name,python3 python3.12 python3.11,$(call suitable,$(name))))
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
	$(if $(call suitable,$(PYTHON)),,$(error Python 3.11 or 3.12 is needed, \
		and $(or $(PYTHON),python3) is neither; name one with `make PYTHON=...`))
	$(BIN)/python $(IS_SUITABLE) || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	touch $@
