# Everything runs in $(VENV), which is made on first use and again when pyproject.toml changes.
# Needs only Python >= 3.11 with venv. Another environment: make test VENV=/path/to/venv
# Tests run in two processes, each on one thread: make test TESTERS=8

VENV ?= .venv
TESTERS ?= 2
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$p -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN = $(VENV)/bin
GPU_SECONDS ?= 540
GPU_OUT ?= runs/gpu
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)
INSTALLED = $(VENV)/.installed
INSTALLED_DOCS = $(VENV)/.installed-docs

.DEFAULT_GOAL := help
.PHONY: help demo test check docs bench bench-gpu gpu docs-results clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(INSTALLED)  ## run the whole experiment on real digits, on a CPU, in a minute or two
	$(BIN)/rebasin-lt demo

test: $(INSTALLED)  ## run the tests
	$(BIN)/pytest -q --durations=10 --numprocesses=$(TESTERS) --dist=loadfile --no-loadscope-reorder

check: $(INSTALLED)  ## check formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q -m types tests/test_typing.py

docs: $(INSTALLED_DOCS)  ## build the documentation into site/; a link to nowhere fails it
	$(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

bench: $(INSTALLED)  ## measure speed on the CPU, with ratios taken side by side in one run, in minutes
	$(BIN)/python -m benchmarks data_path step trainer startup matching
	$(BIN)/python -m benchmarks.end_to_end $(if $(shell command -v c++),--compile)

bench-gpu: $(INSTALLED)  ## measure on one GPU what depends on it
	$(BIN)/python -m benchmarks.data_path --device cuda
	$(BIN)/python -m benchmarks.step --device cuda --rounds 200
	$(BIN)/python -m benchmarks.end_to_end --device cuda --widths 1,4,8,16 --rounds 3 --steps 200 --workers 8 --compile
	$(BIN)/python -m benchmarks.training_device --device cuda
	$(BIN)/python -m benchmarks.matching_device

gpu:  ## all that only a GPU can tell, in GPU_SECONDS, as JSON in GPU_OUT; without a GPU its path, at toy size
	$(GPU_PYTHON) -m benchmarks.gpu --seconds $(GPU_SECONDS) --out $(GPU_OUT) $(if $(GPU_DATA),--data $(GPU_DATA)) \
		$(if $(COMMIT),--commit $(COMMIT))

docs-results: $(INSTALLED)  ## make docs/results.md, its figures and the README's table from docs/results/
	$(BIN)/python -m benchmarks.results_page

clean:  ## remove the environment and all caches
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find rebasin_lt tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 with venv found; install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "installing into $(VENV) (PyTorch is large; the first time takes minutes)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(INSTALLED_DOCS): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@
