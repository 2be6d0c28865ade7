# `make demo` and `make test` set everything up by themselves; a second call reuses `.venv`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test test-slow test-distributed test-web test-wheel test-sanitize test-arm fuzz lint format sparsity methods benchmarks benchmarks-training clean

setup: $(VENV)/.ready

# Remade when the list of packages changes.
$(VENV)/.ready: pyproject.toml setup.py $(wildcard asr/decode/*.[ch] asr/features/c/* asr/sparse/kernels/c/*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[train,demo,voices,media,onnx,serve,dev]'
	touch $@

demo: setup
	$(BIN)/python recipes/demo.py

test: setup
	$(BIN)/python -m pytest -n 2

test-slow: setup
	$(BIN)/python -m pytest -m slow

# Trainings in several processes on a CPU, and workers on a Ray cluster of this machine.
test-distributed: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[cluster]'
	$(BIN)/python -m pytest -m distributed

# The page of `asr serve` in Chromium, which root gets from Debian; others are told what is missing.
test-web: setup
	if test -z "$$ASR_CHROMIUM$$(which chromium chromium-browser google-chrome)" -a "$$(id -u)" = 0; \
		then apt-get update -q && apt-get install -qy chromium; fi
	$(BIN)/python -m pytest -n 2 -m web tests/server/page

# Builds a wheel, installs it in a fresh environment and transcribes with it.
test-wheel: setup
	$(BIN)/python -m pytest -m wheel tests/test_wheel.py

# Ten minutes of mutated model files; guided by coverage where atheris can be installed.
fuzz: setup
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(BIN)/python tests/helpers/fuzz.py --seconds 600

# The C of the sparse kernels under AddressSanitizer and UndefinedBehaviorSanitizer.
test-sanitize: setup
	$(BIN)/python tests/helpers/sanitize.py

# The C for ARM, built by a cross-compiler and run under qemu, which root gets from Debian; others
# are told what is missing.
test-arm: setup
	if test "$$(uname -m)" = x86_64 -a "$$(id -u)" = 0 && which apt-get >/dev/null && \
		! which aarch64-linux-gnu-gcc qemu-aarch64-static >/dev/null; \
		then apt-get update -q && apt-get install -qy --no-install-recommends \
			gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static; fi
	$(BIN)/python tests/helpers/arm.py

lint: setup
	$(BIN)/ruff check asr recipes tests
	$(BIN)/ruff format --check asr recipes tests
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix asr recipes tests
	$(BIN)/ruff format asr recipes tests

# The grid of word error rate against sparsity; about an hour and a half on 2 cores.
sparsity: setup
	$(BIN)/python recipes/grid.py sparsity

# The methods of making a network small, at equal sparsity; an hour and a half on 2 cores.
methods: setup
	$(BIN)/python recipes/grid.py methods

# Dense against sparse, about a quarter of an hour on an idle machine; a second call continues.
benchmarks: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	for name in network instruction_sets recurrent start masks sizes wer gpu; do \
		$(BIN)/python recipes/benchmarks/$$name.py || exit 1; \
	done
	$(BIN)/python recipes/benchmarks/results.py

# What a training step waits for, and millions of utterances: a quarter of an hour if nothing else runs.
benchmarks-training: setup
	for name in plan training; do $(BIN)/python recipes/benchmarks/$$name.py || exit 1; done
	$(BIN)/python recipes/benchmarks/results.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
