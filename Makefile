# Every target sets up the virtual environment it needs; when that is there, it costs a fraction of a second.
PY ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# uv does not read pip's settings; hand over a local wheel folder if pip has one.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# Not the modules that the others measure with.
BENCHMARKS := $(filter-out __init__ shapes servers vllm_server vllm_side mlflow_side mergekit_side,$(basename $(notdir $(wildcard benchmarks/*.py))))
# A Linux laptop without a GPU saves gigabytes with: make demo TORCH_BACKEND=cpu
TORCH_FLAGS := $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND))

.PHONY: help demo test check fix bench docs vendor lock setup clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: setup ## two real adapters through their whole life, on a real language model
	@$(BIN)/python -m demo.run

# Tests start hundreds of processes, and each would compile our modules anew.
test: export PYTHONDONTWRITEBYTECODE =
test: setup ## all tests
	@$(BIN)/python -m pytest -n auto --dist loadgroup

check: setup ## format, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

fix: setup ## repair what can be repaired by a program
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup ## every promised number, against its peer
	@left=; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || left="$$left $$name"; done; \
	  test -z "$$left" || { echo "not measured:$$left"; exit 1; }

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PY) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), "Python 3.11, 3.12 or 3.13 is needed; name one with make PY=python3.12"'
	@test -x $(BIN)/python || $(PY) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check "uv>=0.9,<0.14"
	@echo "installing into $(VENV) (once, about a minute) ..."
	@$(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python $(TORCH_FLAGS) -c constraints.txt -e ".[dev]"
	@touch $@

docs: setup ## write the pages that follow from the code
	@$(BIN)/python -m docs.build

vendor: setup ## fetch the scripts of the web pages anew, at the versions in web/vendor.py
	$(BIN)/python web/vendor.py

lock: setup ## write constraints.txt anew
	env -u UV_FIND_LINKS $(BIN)/uv pip compile -q --universal --python-version 3.11 --all-extras --no-annotate \
	  --no-header --no-emit-package adapter-registry -c torch-pin.txt pyproject.toml -o constraints.txt

clean: ## remove the virtual environment and what the demo made
	rm -rf $(VENV) .demo
