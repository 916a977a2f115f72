# Two commands: `make demo` runs the main job on the embedded data, `make test` checks everything.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= out/demo

# With a compiler here the library has to compile; without one the tests that need it skip.
ENGINE := NTKSAP_ENGINE_BUILD=$(if $(shell for name in c++ g++ clang++; do command -v $$name; done; true),require)

.PHONY: setup demo test test-all lint types clean
.DEFAULT_GOAL := test

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt "torch==2.13.0"
	$(ENGINE) $(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@ $(VENV)/.engine

# The sparse engine's library again where its sources changed; only what changed is compiled.
$(VENV)/.engine: setup.py $(wildcard ntksap_export/engine/native/*) | $(VENV)/.ready
	$(ENGINE) $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

setup: $(VENV)/.ready $(VENV)/.engine

# With the sparse engine where it could be built.
demo: setup
	$(BIN)/ntksap prune-train-export resnet50 $$(ls ntksap_export/engine/libntksap_engine.* >/dev/null 2>&1 && echo --engine) --out $(OUT)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# cli/ and models/ install inside the package; mypy gets to see the tree as it will be installed.
types: setup
	rm -rf .types && mkdir -p .types/ntksap_export
	ln -s $(CURDIR)/ntksap_export/* $(CURDIR)/cli $(CURDIR)/models .types/ntksap_export/
	cd .types && $(abspath $(BIN))/mypy --config-file ../pyproject.toml -p ntksap_export

# One process per core, of one thread each: two that share all cores slow each other down.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test: lint types
	$(PYTEST) -m "not slow"

test-all: lint types
	$(PYTEST)

clean:
	rm -rf $(VENV) .types build out *.egg-info
