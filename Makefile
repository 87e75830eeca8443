# Two commands: `make demo` (a tiny model aligns itself) and `make test` (all that the repository checks).
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
# On a machine with GPUs: make LOCK=requirements/gpu.txt
LOCK ?= requirements/cpu.txt
RESOLVE := $(BIN)/uv pip compile -q --all-extras --python-version 3.11 --no-emit-index-url --no-header --no-annotate pyproject.toml
INSTALLED := .venv/installed-$(shell cat $(LOCK) pyproject.toml | sha256sum | cut -c1-16)
unexport PYTHONDONTWRITEBYTECODE  # the engines import thousands of modules: compile them once
export OMP_NUM_THREADS ?= $(shell nproc)

.PHONY: demo demo-smollm2 install test lint unit jobs cluster-tests testbed cluster cluster-down lock crd golden generate-kills faults clean

demo: $(INSTALLED)  ## a tiny model aligns itself with SAO; ends with a table and a report
	$(BIN)/selfalign run examples/sao-tiny.yaml --mount selfalign=examples --out out/sao-tiny

demo-smollm2: $(INSTALLED)  ## the same with a real instruct model of 135 M parameters
	$(BIN)/python examples/smollm2/fetch.py
	$(BIN)/selfalign run examples/sao-smollm2.yaml --mount selfalign=out --out out/sao-smollm2

install: $(INSTALLED)  ## .venv, as the lock says
$(INSTALLED):
	@requirements/check-machine.sh $(PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip sync -q --python $(BIN)/python $(LOCK)
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@rm -f .venv/installed-* && touch $@

test: lint unit jobs cluster-tests  ## everything that the repository checks

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(INSTALLED)  ## no engine, no training
	$(BIN)/pytest tests/unit

jobs: $(INSTALLED)  ## real vLLM, Ray, TRL and DeepSpeed on CPU
	$(BIN)/pytest tests/jobs

cluster-tests: $(INSTALLED)  ## on a real control plane (docs/testbed.md)
	$(BIN)/pytest tests/cluster

TESTBED := PYTHONPATH=tests $(BIN)/python -m testbed
testbed: $(INSTALLED)  ## build the control plane's programs from their Go modules, once
	$(TESTBED) build

cluster: $(INSTALLED)  ## a control plane, the operator, and this machine for a node; it stays until `make cluster-down`
	$(TESTBED) up

cluster-down: $(INSTALLED)
	$(TESTBED) down

lock: $(INSTALLED)  ## resolve the locks again (after a change of pyproject.toml or requirements/)
	$(RESOLVE) requirements/cpu.in --override requirements/overrides.txt -o requirements/cpu.txt
	$(RESOLVE) -o requirements/gpu.txt

crd: $(INSTALLED)  ## write the CRD again (after a change of crds/selfalign_api)
	$(BIN)/selfalign crd > crds/selfalignmentruns.yaml

golden: $(INSTALLED)  ## write the golden manifests again (after a change of the workloads), then read the difference
	@for run in tests/unit/golden_runs/*.yaml; do \
	  $(BIN)/selfalign render $$run --config tests/unit/golden_runs/operator/config.yaml > tests/unit/golden/$$(basename $$run) || exit; done

clean:
	rm -rf .venv out

generate-kills: $(INSTALLED)  ## kill -9 at many more places than `make jobs` does; SEEDS=N
	SELFALIGN_KILL_SEEDS=$(or $(SEEDS),100) $(BIN)/pytest tests/jobs/test_generate_kills.py

faults: $(INSTALLED)  ## 200 fault schedules, of which `make cluster-tests` has 20; SEEDS=N
	SELFALIGN_FAULT_SEEDS=$(or $(SEEDS),200) $(BIN)/pytest tests/cluster/test_faults.py
