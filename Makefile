# Every path is relative, so that a clone may lie in a folder with spaces.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STORY  := examples/harbour.story.md
WORDS  ?= 150
SEED   ?= 7
ARGS   ?=

# One file of exact versions for what is installed and for what builds it. Quiet twice: pip's notices about a
# machine's own mirrors are not ours to repeat; errors still show.
PIP_INSTALL := PIP_DISABLE_PIP_VERSION_CHECK=1 $(PY) -m pip install -qq --constraint constraints.txt
PIP_BUILD   := $(PIP_INSTALL) --build-constraint constraints.txt

DECLARED := pyproject.toml constraints.txt setup.py $(wildcard src/spellbound/jamba/ops/csrc/*)

.DEFAULT_GOAL := help
.PHONY: help install story test check bench constraints docs clean venv asked-python

help: ## what can be made
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'
	@echo '  PYTHON=python3.12 make install, WORDS=300 SEED=8 make story, make test ARGS="-k parser" also work.'

install: asked-python $(VENV)/.base ## create .venv and install the base into it; seconds when nothing changed
	@echo 'Spellbound is installed in $(VENV). Next: make story'

story: asked-python $(VENV)/.base ## write the example story to the terminal with the bundled model
	@$(VENV)/bin/spellbound write $(STORY) --model nano --words $(WORDS) --seed $(SEED)

test: asked-python $(VENV)/.dev ## install what tests need, then run all of them
	@$(PY) -m pytest $(if $(SPELLBOUND_NO_SKIP),-p tests.no_skips) $(ARGS)

check: asked-python $(VENV)/.dev ## style, types, and which room may import which
	@echo '» ruff check' && $(PY) -m ruff check .
	@echo '» ruff format' && $(PY) -m ruff format --check .
	@echo '» mypy --strict' && $(PY) -m mypy
	@echo '» lint-imports' && $(VENV)/bin/lint-imports --no-logo

bench: asked-python $(VENV)/.bench ## compile the peers (minutes, once), then measure against them
	@$(PY) -m benchmarks $(ARGS)

constraints: asked-python $(VENV)/.pip ## resolve the whole tree anew and write constraints.txt
	@$(PY) -m tools.constraints

docs: asked-python $(VENV)/.dev ## write docs/cli.md and the README's picture anew from what the program says
	@$(PY) -m tools.cli_docs
	@$(PY) -m tools.picture

clean: ## remove .venv and everything that was built
	@rm -rf $(VENV) build dist src/*.egg-info src/spellbound/jamba/ops/_kernels.*
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# A PYTHON that was asked for and is not the venv's would otherwise be ignored without a word.
asked-python:
ifneq ($(filter command line environment,$(origin PYTHON)),)
	@test ! -x $(PY) || test "$$($(PY) -c 'import sys; print(sys.version_info[:2])')" = \
	  "$$($(PYTHON) -c 'import sys; print(sys.version_info[:2])')" || \
	  { echo "$(VENV) was made with $$($(PY) -V), not with PYTHON=$(PYTHON): run 'make clean' first" >&2; exit 1; }
endif

# An existing venv is kept, whatever PYTHON is by now: making it again with another one would mix the two.
$(VENV)/.pip: constraints.txt
	@$(PY) -m pip --version >/dev/null 2>&1 || $(MAKE) --no-print-directory venv
	@$(PIP_INSTALL) pip
	@touch $@

venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Spellbound needs Python 3.11 or newer and '$(PYTHON)' is $$($(PYTHON) -V 2>&1): try PYTHON=python3.12 make install" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "no virtual environment could be made: install your system's python3-venv, then run make again" >&2; exit 1; }

$(VENV)/.base: $(VENV)/.pip $(DECLARED)
	@echo '» installing the base into $(VENV): torch and transformers, a few minutes the first time'
	@$(PIP_BUILD) --editable .
	@ls src/spellbound/jamba/ops/_kernels.* >/dev/null 2>&1 || \
	  echo "! the CPU kernels were not compiled and plain torch is used, several times slower: install g++, then 'touch setup.py && make install'"
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	@echo '» installing what tests and checks need'
	@$(PIP_BUILD) --editable '.[train,scale]' --group dev
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@echo '» installing the peers to measure against: llama.cpp is compiled, several minutes'
	@$(PIP_BUILD) --editable '.[bench]'
	@touch $@
