# `make demo` and `make test` set everything up in .venv. They need Python 3.11, 3.12 or 3.13 with venv
# and pip; or uv, which brings one of them; or any other Python with pip, which brings uv.
PYTHONS := 3.11 3.12 3.13
IS_SUITABLE := -c 'import ensurepip, sys, venv; \
	sys.exit("%d.%d" % sys.version_info[:2] not in "$(PYTHONS)".split())' 2>/dev/null
suitable = $(if $(1),$(shell $(1) $(IS_SUITABLE) && echo $(1)))
PYTHON ?= $(firstword $(foreach name,python3 python3.12 python3.13 python3.11,$(call suitable,$(name))))
UV = $(shell command -v uv 2>/dev/null)
WITH_PIP = $(firstword $(foreach name,python3 python,\
	$(shell $(name) -m pip --version >/dev/null 2>&1 && echo $(name))))
BIN := .venv/bin

.PHONY: demo test quick check docs
.DELETE_ON_ERROR:

demo: .venv/ready
	$(BIN)/mujoco-sail run --env walker_stand --agents sac,pebble,sail,sail_revkl --seeds 3 \
		--protocol quick --results demo
	$(BIN)/mujoco-sail table --results demo
	$(BIN)/mujoco-sail plot --results demo --out demo

PYTEST := $(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test: .venv/ready
	$(PYTEST)

quick: .venv/ready
	$(PYTEST) -m 'not slow'

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.venv/docs: .venv/ready
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[docs]'
	touch $@

# On Python 3.13 the first line leaves dm_control out, see pyproject.toml; elsewhere the second one
# finds it there.
.venv/ready: pyproject.toml constraints.txt
	$(if $(call suitable,$(BIN)/python),,$(new-venv))
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --constraint constraints.txt --no-deps dm_control
	touch $@

# The command that makes the environment.
new-venv = $(or $(if $(PYTHON),$(of-python)),$(if $(UV),$(call of-uv,uv)),$(if $(WITH_PIP),$(of-pip)),\
	$(error $(needed), and none of them is here))
of-python = $(if $(call suitable,$(PYTHON)),$(PYTHON) -m venv --clear .venv,\
	$(error $(needed), and PYTHON=$(PYTHON) names none of these Pythons))
of-pip = $(WITH_PIP) -m pip install --quiet --target .uv uv && $(call of-uv,.uv/bin/uv) && rm -r .uv
of-uv = { rm -rf .venv && $(1) venv --seed --python '>=3.11,<3.14' .venv || \
	{ echo "make: uv could bring none of Python $(PYTHONS), see above; install one" >&2; exit 1; }; }
needed = Python 3.11, 3.12 or 3.13 with venv and pip is needed, or uv, or another Python with pip
