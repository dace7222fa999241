# Two commands matter: `make demo` and `make test`. Each sets everything up by itself, once.
#
#   PYTHON=/path/to/python   the interpreter for .venv (3.10 to 3.12); default: the first that fits
#   PIP_FIND_LINKS=/folder   where ready wheels may lie (of onedl-mmcv, whose build takes minutes)
#   DEMO_ARGS=--control      further arguments of tools/compress.py in the demo
#   PYTEST_ARGS='...'        further arguments of pytest

ifeq ($(PYTHON),)
# An environment that is complete keeps its Python, whichever others are installed since.
CANDIDATES := $(if $(wildcard .venv/ready),.venv/bin/python) \
	python3.11 python3.12 python3.10 python3
else
CANDIDATES := $(PYTHON)
endif
FITS := import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
RUN := .venv/bin/python
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-cells test test-slow lint clean-venv

help:
	@echo "make demo        set up, then search, prune, fine-tune and test a small detector"
	@echo "make demo-cells  set up, then search cells on handwritten digits, and retrain what is found"
	@echo "make test        set up, then lint and the tests (without the slow ones)"
	@echo "make test-slow   set up, then the slow tests"
	@echo "make lint        set up, then ruff's lint and format checks"
	@echo "make setup       only the set-up: a virtual environment in .venv"
	@echo "make clean-venv  remove .venv"

setup:
	@for python in $(CANDIDATES); do \
	    if "$$python" -c '$(FITS)' >/dev/null 2>&1; then \
	        exec "$$python" tools/setup_env.py; \
	    fi; \
	done; \
	echo "No Python 3.10, 3.11 or 3.12 with its venv module found (tried: $(strip $(CANDIDATES)))." >&2; \
	echo "Install one (Debian, Ubuntu: sudo apt install python3.11-venv python3.11-dev)," >&2; \
	echo "or name it: make PYTHON=/path/to/python3.11 setup" >&2; \
	exit 1

demo: setup
	$(RUN) tools/make_shapes.py
	env -u OMP_NUM_THREADS $(RUN) tools/compress.py configs/sidt_swin_micro_shapes.py \
	    --ratio 0.4 $(DEMO_ARGS)

# What is done is not done again; after a change of the configs, remove the folder first.
CELLS := work_dirs/demo-cells
# One thread each: operations of so few pixels are no work for two.
demo-cells: export OMP_NUM_THREADS := 1
demo-cells: setup
	$(RUN) tools/make_digits.py
	test -f $(CELLS)/genotype.json || \
	    $(RUN) tools/train.py configs/rarts_darts_digits.py --work-dir $(CELLS) --resume
	$(RUN) tools/derive.py $(CELLS) --network configs/darts_retrain_digits.py --out $(CELLS)/derived
	test -f $(CELLS)/derived/retrain/last_checkpoint || \
	    $(RUN) tools/train.py $(CELLS)/derived/retrain.py --resume
	$(RUN) tools/test.py $(CELLS)/derived/retrain.py $(CELLS)/derived/retrain
	@echo "the cells: $(CELLS)/derived/cells.png (.svg, genotype.json)"

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# One thread each: the threads of two busy processes on two cores wait for each other.
test: lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) --dist loadfile -m "not slow" $(PYTEST_ARGS)

test-slow: setup
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) -m slow $(PYTEST_ARGS)

clean-venv:
	rm -rf .venv
