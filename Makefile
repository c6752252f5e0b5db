# Every target sets up what it needs: a virtual environment in $(VENV), from the pins in constraints.txt.

# The first of these that is a Python from 3.10 to 3.13 makes the environment: make PYTHON=/opt/python3.12/bin/python3
PYTHON ?= python3.13 python3.12 python3.11 python3.10 python3
# Another folder keeps a second environment: make test VENV=.venv-3.10 PYTHON=python3.10
VENV ?= .venv
# Further arguments of pytest or of a table: make test ARGS='-k psnr', make reproduce-jorder-table13 ARGS='--seeds 3'
ARGS ?=

# As many tests at a time as there are cores, at most 8, for each takes a gigabyte; WORKERS=0 runs them in one process,
# for a debugger, say, or one GPU.
WORKERS ?= auto

PY := $(VENV)/bin/python
READY := $(VENV)/.ready
FITS := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
INSTALL := -c constraints.txt -e '.[dev]'
DERAIN := $(PY) -m lightning_derain

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint benchmarks gpu-check

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Set up the virtual environment (the other targets do it by themselves)

# Two threads are no faster on so narrow a network, and far slower than one beside other work.
demo: export OMP_NUM_THREADS := 1
demo: $(READY) ## Train, test, derain and report on embedded photographs, minutes on a CPU; replaces runs/demo
	@rm -rf runs/demo
	$(DERAIN) fit --config experiments/jorder_e.yaml --config experiments/mini/jorder_e.yaml \
	  --data.crops_per_image 80 --trainer.default_root_dir runs/demo
	$(DERAIN) test --config experiments/jorder_e.yaml --config experiments/mini/jorder_e.yaml \
	  --trainer.default_root_dir runs/demo --ckpt_path runs/demo/checkpoints/best.ckpt
	$(DERAIN) data samples runs/demo/photos --split test --rain heavy
	$(DERAIN) derain runs/demo/photos/rainy --output runs/demo/derained --checkpoint runs/demo/checkpoints/best.ckpt
	$(DERAIN) score --pred runs/demo/derained --gt runs/demo/photos/clean --rainy runs/demo/photos/rainy
	$(DERAIN) report --derained runs/demo/derained --rainy runs/demo/photos/rainy --clean runs/demo/photos/clean \
	  --checkpoint runs/demo/checkpoints/best.ckpt --output runs/demo/report.html

reproduce-%: $(READY) ## Make a paper's table or figure, say jorder-table13 (ARGS='--seeds 3 --profile paper')
	$(DERAIN) reproduce $* $(ARGS)

# A worker has one thread, and so have the processes that it starts.
test: export OMP_NUM_THREADS := 1
test: $(READY) ## Run the tests (ARGS='-k psnr' narrows them, ARGS='-m slow' runs the slow ones)
	$(PY) -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal $(ARGS)

lint: $(READY) ## Check style, format and types, of the tests too
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

benchmarks: $(READY) ## Run every script in benchmarks/
	@set -e; for script in $(sort $(wildcard benchmarks/*.py)); do echo "$$script"; $(PY) "$$script"; done

gpu-check: $(READY) ## Check on a CUDA device what only one can tell, once, in minutes
	$(PY) scripts/gpu_check.py $(ARGS)

# Written last, so that an interrupted set-up is done again.
$(READY): pyproject.toml constraints.txt
	@rm -f $@
	@set -e; found=; $(PY) -c '$(FITS)' 2>/dev/null && exit 0; \
	for python in $(PYTHON); do \
	  if "$$python" -c '$(FITS)' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "No Python 3.10 to 3.13 among: $(PYTHON). Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$("$$found" --version)"; \
	if uv --version >/dev/null 2>&1; then uv venv -q --seed --clear --python "$$found" $(VENV); \
	else "$$found" -m venv --clear $(VENV); fi
	@set -e; uv=; echo 'Installing the pinned packages, by uv if it can be had, or by pip, which takes far longer'; \
	if uv --version >/dev/null 2>&1; then uv='uv'; \
	elif $(PY) -m pip install -q uv >/dev/null 2>&1; then uv='$(PY) -m uv'; fi; \
	if [ -n "$$uv" ] && $$uv pip install -q --python $(PY) $(INSTALL); then exit 0; fi; \
	$(PY) -m pip install -q $(INSTALL)
	@touch $@
