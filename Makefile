# SPDX-License-Identifier: GPL-2.0-only
#
#   make run      set everything up, boot Xen's FF-A mediator, show its partitions and its conformance
#   make test     set everything up, run the whole test suite in parallel
#   make setup    the set-up alone: .venv, packages, Xen's source
#   make lint     ruff and mypy
#   make bench    the benchmarks
#   make docs     the documentation as a site, into site/
#   make mutants  how many small mistakes in the mediator the suite notices, of a sample
#   make clean    remove all that the targets above made in this tree
#
# XEN=TREE      the Xen tree to work on: a directory, DIR@REV, debian[:SUITE] or upstream[@REV]
# PYTHON=CMD    the Python (3.10 or later) to make the virtual environment with
# ARGS=...      more arguments for the command that a target runs, e.g. make test ARGS="-k rxtx"

MAKEFLAGS += --no-print-directory
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
FETCHED := $(VENV)/fetched
# Through the environment, so that a path may hold any character.
export XEN PYTHON
WITH_XEN = $${XEN:+--xen="$$XEN"}

.PHONY: help setup run test lint bench docs mutants clean FORCE
help:
	@sed -n 's/^# \{0,1\}//;3,15p' Makefile

# A tree of the user's own needs no other to be fetched.
setup: $(INSTALLED) $(if $(XEN),,$(FETCHED))

run: setup
	@$(BIN)/python -m ffashim run $(WITH_XEN) $(ARGS)

test: setup
	@FFASHIM_EXAMPLES=$${FFASHIM_EXAMPLES:-500} \
	    $(BIN)/python -m pytest -q -n auto --dist worksteal $(WITH_XEN) $(ARGS)

lint: $(INSTALLED)
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check . && $(BIN)/mypy --no-error-summary

bench: setup
	@$(BIN)/python -m pytest -q benchmarks -p no:xdist $(WITH_XEN) $(ARGS)

docs: $(VENV)/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict $(ARGS)

# ARGS="--sample 0" takes them all.
mutants: setup
	@$(BIN)/python -m ffashim mutants --sample 200 $(WITH_XEN) $(ARGS)

clean:
	@rm -rf $(VENV) dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(FETCHED): $(INSTALLED) $(wildcard xen_src/*)
	@$(BIN)/python -m ffashim source $(WITH_XEN)
	@touch $@

# Nobody else needs what builds the site.
$(VENV)/docs: $(INSTALLED)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[docs]' && touch $@

# The stamp holds this tree's path: an environment that was moved or copied is made anew.
ifneq ($(file <$(INSTALLED)),$(CURDIR))
$(INSTALLED): FORCE
endif

$(INSTALLED): pyproject.toml
	@fail() { printf 'error: %s\n' "$$@" >&2; exit 1; }; \
	for cc in cc gcc clang none; do command -v $$cc >/dev/null && break; done; \
	[ $$cc != none ] || fail 'no C compiler (cc, gcc or clang) was found: install one' \
	    '(Debian, Ubuntu: apt install gcc libc6-dev; Fedora: dnf install gcc)'; \
	old=; python=; \
	for try in $${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10 python}; do \
	    version=$$("$$try" -c 'import sys; print(*sys.version_info[:2], sep=".")' 2>/dev/null) || continue; \
	    "$$try" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { old="$$old $$try is $$version"; continue; }; \
	    python=$$try; break; \
	done; \
	[ -n "$$python" ] || fail "Python 3.10 or later is needed$${old:+, but}$$old: install it, or name it: make PYTHON=..."; \
	"$$python" -c 'import ensurepip, venv' 2>/dev/null || \
	    fail "$$python ($$version) cannot make a virtual environment: install its venv module" \
	        "(Debian, Ubuntu: apt install python$$version-venv)"; \
	echo "Setting up $(VENV) with Python $$version"; \
	"$$python" -m venv $(if $(findstring $(CURDIR),$(file <$(INSTALLED))),,--clear) $(VENV) && \
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[dev]' || \
	    fail 'the packages of pyproject.toml could not be installed, see above:' \
	        'the first set-up needs a network, or a package index (PIP_INDEX_URL) that holds them'
	@pwd -P >$@

FORCE:
