# Each target works as the first command in a fresh clone, and does nothing twice.
SHELL  := bash -o pipefail
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
GPU    := $(VENV)/.gpu
RAY    := $(VENV)/.ray

# Its programs hold its path: in a moved project they are not found, in a copy they are the other's.
MOVED  := $(shell test ! -e $(READY) || grep -qF "$$(cd $(VENV) && pwd -P)/bin/" $(BIN)/deepnets || echo moved)

# Stages call `python`: theirs is the environment's.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Of what a user has set for pip, what would install elsewhere or not at all.
export PIP_USER := 0
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_DRY_RUN PIP_REQUIRE_HASHES

# Two targets at once, by MAKEFLAGS=-j, would install into one environment.
.NOTPARALLEL:

LINT := $(BIN)/ruff check . && $(BIN)/ruff format --check --quiet . && $(BIN)/mypy

.DEFAULT_GOAL := help
.PHONY: help setup gpu ray verify tour repro check test stress bench drift ui lock clean moved

help:   ## show this list
	@echo "Deeper Networks: VGG-16 and ResNet50 on MNIST, reproduced with DVC, MLflow and Keras."
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' Makefile

setup: $(READY)   ## create .venv from requirements.lock (about 3 minutes with pip)

gpu: $(GPU)       ## add JAX for NVIDIA GPUs to .venv, which then uses one (Linux, about 3 GB)

ray: $(RAY)       ## add Ray to .venv, for grids on more than one machine (300 MB)

# Without $(READY), which would bring what it is to look at up to date.
verify:           ## compare what is installed with requirements.lock, versions and files
	@test -x $(BIN)/python && test -z "$(MOVED)" || $(MAKE) --no-print-directory setup
	@$(BIN)/python -m deepnets.commands.verify

tour: $(READY)    ## four small runs, no download, about 10 minutes; ends with their results
	@$(BIN)/deepnets repro studies/tour

repro: $(READY)   ## the study at full scale: 9 runs, 14 to 24 hours on two cores; resumes where it stopped
	@$(BIN)/deepnets repro

check: $(READY)   ## linter, types and the fast tests, two minutes on two cores
	@$(LINT)
	@$(BIN)/pytest -m 'not slow and not stress'

test: $(READY)    ## all checks and tests, about 13 minutes on two cores
	@$(LINT)
	@$(BIN)/pytest

stress: $(READY)  ## 30 kills at random moments, more damage, thousands of wrong params.yaml; an hour
	@PYTHONPATH=tests $(BIN)/python tests/stress.py
	@$(BIN)/pytest -m stress
	@$(BIN)/pytest --hypothesis-profile=stress tests/config/test_params_mutants.py

bench: $(READY)   ## how fast training is, beside Keras and PyTorch; about 15 minutes
	@$(BIN)/python -c 'import torch' 2>/dev/null || \
	    $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r benchmarks/requirements.txt || \
	    echo "without PyTorch's column: see benchmarks/requirements.txt"
	@$(BIN)/python benchmarks/bench.py

drift: $(READY)   ## how far runs drift with threads, processor and oneDNN; over an hour
	@$(BIN)/python benchmarks/drift.py

ui: $(READY)      ## compare optimizers in MLflow; says at which address
	@$(BIN)/python -c 'from deepnets.tracking import pages; print(pages.overview())'
	@case "$$MLFLOW_TRACKING_URI" in http*) ;; *) exec $(BIN)/mlflow ui ;; esac

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
    --no-annotate --no-emit-index-url --no-emit-find-links
EXTRA   := import sys, tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"][sys.argv[1]], sep="\n")
# One package of all has no wheel.
CHECK   := uv pip install --quiet --dry-run --no-deps --target $(VENV)/none --require-hashes \
    --only-binary :all: --no-binary antlr4-python3-runtime

lock: $(READY)    ## resolve all lock files anew from pyproject.toml (needs uv)
	$(COMPILE) --extra dev pyproject.toml -o requirements.lock
	@for extra in gpu ray; do \
	    $(BIN)/python -c '$(EXTRA)' $$extra | \
	        $(COMPILE) -c requirements.lock - -o requirements-$$extra.lock || exit 1; \
	done
	@for python in 3.11 3.12 3.13; do \
	    for platform in x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin; do \
	        for lock in requirements.lock requirements-gpu.lock requirements-ray.lock; do \
	            $(CHECK) --python-version $$python --python-platform $$platform -r $$lock || exit 1; \
	        done; \
	        echo "wheels of all packages are there for Python $$python on $$platform"; \
	    done; \
	done

clean:            ## remove checkpoints and free-form runs; results, models and MLflow stay
	rm -rf checkpoints single trainings studies/*/checkpoints studies/*/trainings

# pip and uv check the hash of everything they install; the project itself is linked, not copied.
$(READY): requirements.lock pyproject.toml $(MOVED)
	@test -z "$(MOVED)" || { echo "$(VENV) was made in another place: making it anew, without what gpu added"; rm -rf $(VENV); }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else \
	    "expected Python 3.11 to 3.13, found %d.%d: run make PYTHON=/path/to/python3.12" % v)'
	@echo "setting up $(VENV) from requirements.lock (about 3.7 GB) ..."
	@if command -v uv >/dev/null; then \
	    uv venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV) && \
	    uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock && \
	    uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . ; \
	else \
	    $(PYTHON) -m venv $(VENV) && \
	    $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --require-hashes -r requirements.lock | \
	        awk '/^Collecting/ {printf "\r  %d packages fetched", ++n} /^Installing/ {printf ", installing ..."} \
	             /^Successfully/ {print " done"} {fflush()}' && \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $(READY)

# In the versions of requirements.lock where both have a package.
$(GPU) $(RAY): $(VENV)/.%: requirements-%.lock $(READY)
	@echo "adding $< to $(VENV) ..."
	@if command -v uv >/dev/null; then \
	    uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $< ; \
	else \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $< ; \
	fi
	@touch $@
