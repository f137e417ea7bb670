VENV   := .venv
PYTHON ?= python3
RUN    := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

.PHONY: help install run test test-slow test-slurm test-gpu gpu-day bench lint docs clean

help:            ## what can be made
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 12

install: $(STAMP)  ## set up .venv with the tested versions

run: $(STAMP)    ## the quick start: three methods, three seeds, one table
	@echo "three methods, three seeds each, on synthetic videos: 27 stages, about three minutes on two cores"
	$(RUN) launch.py -m +sweeps=quickstart

test: $(STAMP)   ## tests, on all cores; but for those below
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist loadfile

test-slow: $(STAMP)  ## more whole pipelines: checks of data, several slots
	$(RUN) -m pytest -m slow

test-slurm: $(STAMP)  ## tests on a real Slurm, started in a folder; skipped where it is not installed
	$(RUN) -m pytest -m slurm -rs

test-gpu: $(STAMP)  ## tests on a GPU; skipped where there is none; DEVICE=cpu: only see that they run
	VSSL_TEST_DEVICE=$(or $(DEVICE),cuda) $(RUN) -m pytest -m gpu -rfEs -n auto --dist loadgroup tests/gpu

gpu-day: $(STAMP)  ## tests, benchmarks and a sweep on a GPU in 25 minutes, resumable; VIDEOS=DIR WORDS="...": of the sweep; DEVICE=cpu: only see that it runs
	$(RUN) tests/gpu/day.py $(if $(VIDEOS),--videos "$(VIDEOS)") $(if $(filter cpu,$(DEVICE)),--smallest) $(WORDS)

bench: $(STAMP)  ## benchmarks, see BENCHMARKS.md; NAMES="loader step": these only; VIDEOS=DIR: on these videos
	$(RUN) tests/benchmarks $(NAMES) $(if $(VIDEOS),--videos "$(VIDEOS)")

lint: $(STAMP)   ## style and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

docs: $(STAMP)   ## the site, as outputs/site/index.html; fails on a broken link
	$(RUN) docs/pages.py
	$(VENV)/bin/zensical build --strict -f mkdocs.yml

clean:           ## remove .venv and caches, keep outputs
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache *.egg-info

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "vssl needs Python 3.10 or newer: make PYTHON=python3.11")'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@
