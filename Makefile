# Two commands: `make demo` (a tiny model aligns itself) and `make test` (all that the repository checks).
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
# On a machine with GPUs: make LOCK=requirements/gpu.txt
LOCK ?= requirements/cpu.txt
COMPILE := $(BIN)/uv pip compile -q --python-version 3.11 --no-emit-index-url --no-header --no-annotate pyproject.toml
RESOLVE := $(COMPILE) --all-extras
# Two files of tests at once: most of what they do is waiting for an engine or a cluster.
PYTEST := $(BIN)/pytest -n 2 --dist loadfile
INSTALLED := .venv/installed-$(shell cat $(LOCK) pyproject.toml | sha256sum | cut -c1-16)
unexport PYTHONDONTWRITEBYTECODE  # the engines import thousands of modules: compile them once
export OMP_NUM_THREADS ?= $(shell nproc)

.PHONY: demo demo-smollm2 recipes install test lint unit jobs cluster-tests e2e-run e2e e2e-more images images-check cases testbed prometheus cluster cluster-down lock pinned crd chart dashboards pictures golden generate-kills recipe-kills faults soak bench-h100 bench-trainer clean

demo: $(INSTALLED)  ## a tiny model aligns itself with SAO; ends with a table and a report
	$(BIN)/selfalign run examples/sao-tiny.yaml --mount selfalign=examples --out out/sao-tiny

demo-smollm2: $(INSTALLED)  ## the same with a real instruct model of 135 M parameters
	$(BIN)/python examples/smollm2/fetch.py
	$(BIN)/selfalign run examples/sao-smollm2.yaml --mount selfalign=out --out out/sao-smollm2

recipes: $(INSTALLED)  ## every tiny example, then all of them on one page; CONTROLS=1: the control of each too (benchmarks/README.md)
	$(BIN)/python benchmarks/every_recipe.py --out out/recipes $(if $(CONTROLS),--controls)

install: $(INSTALLED)  ## .venv, as the lock says
$(INSTALLED):
	@requirements/check-machine.sh $(PYTHON) $(LOCK)
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
	$(PYTEST) tests/unit

jobs: $(INSTALLED)  ## real vLLM, Ray and DeepSpeed on CPU
	$(PYTEST) tests/jobs

WITH_OTHERS := tests/cluster/test_kuberay.py tests/cluster/test_real_kueue.py tests/cluster/test_real_coscheduling.py
cases: $(INSTALLED)  ## what people bring: inputs of every kind, written anew, tried by the command line; CASES=NAME
	@PYTHONPATH=tests $(BIN)/python -m cases $(CASES)

cluster-tests: $(INSTALLED)  ## on a real control plane (docs/testbed.md)
	$(PYTEST) tests/cluster $(WITH_OTHERS:%=--ignore=%)

e2e-run: $(INSTALLED)  ## one run from `helm install` to a better model, on a real kubelet: this machine (docs/testbed.md)
	$(BIN)/pytest tests/e2e/test_run.py

MORE := tests/e2e/test_storage.py tests/e2e/test_kuberay.py
e2e: $(INSTALLED)  ## and the other recipes, and runs that are killed, suspended, and fail
	$(BIN)/pytest tests/e2e $(MORE:%=--ignore=%)

e2e-more: $(INSTALLED)  ## storage that outlives a run, storage in a bucket; RayJobs and queues by the KubeRay and the Kueue that one names (docs/testbed.md)
	$(BIN)/pytest $(WITH_OTHERS)
	$(BIN)/pytest $(MORE)

images:  ## selfalign-{operator,generate,train}, by docker or buildah; options in images/build.sh
	images/build.sh

images-check: $(INSTALLED)  ## build generate and train for clusters without GPUs, and run a step of each; GPU=1: those for GPUs, as far as can be told without one; as root, not in CI (docs/images.md)
	$(BIN)/pytest $(if $(GPU),tests/gpu_images,tests/images)

TESTBED := PYTHONPATH=tests $(BIN)/python -m testbed
testbed: $(INSTALLED)  ## build the control plane's programs from their Go modules, once
	$(TESTBED) build

prometheus: $(INSTALLED)  ## Debian's Prometheus and promtool, unpacked beside them, no service
	$(TESTBED) prometheus

cluster: $(INSTALLED)  ## a control plane, the operator, and this machine for a node; it stays until `make cluster-down`
	$(TESTBED) up

cluster-down: $(INSTALLED)
	$(TESTBED) down

lock: $(INSTALLED)  ## resolve the locks again (after a change of pyproject.toml or requirements/)
	$(RESOLVE) requirements/cpu.in --override requirements/overrides.txt -o requirements/cpu.txt
	$(RESOLVE) -o requirements/gpu.txt
	# What the images install: parts of the same locks. The operator reads no tables.
	$(COMPILE) --extra operator --no-emit-package pyarrow --no-emit-package msgspec -c requirements/gpu.txt -o requirements/operator.txt
	$(COMPILE) --extra generate -c requirements/gpu.txt -o requirements/generate.txt
	$(COMPILE) --extra train -c requirements/gpu.txt -o requirements/train.txt
	$(COMPILE) --extra generate requirements/cpu.in --override requirements/overrides.txt -c requirements/cpu.txt -o requirements/generate-cpu.txt
	$(COMPILE) --extra train -c requirements/cpu.txt -o requirements/train-cpu.txt
	# The tracking server of the tests.
	$(subst pyproject.toml,,$(COMPILE)) requirements/mlflow.in --override requirements/mlflow-overrides.txt -o requirements/mlflow.txt

pinned: $(INSTALLED)  ## write again what is known of the pinned vLLM and transformers without importing them (after `make lock`)
	$(BIN)/python requirements/pinned_facts.py

crd: $(INSTALLED)  ## write the CRD, docs/api.md and the tables of docs/recipes.md again (after a change of crds/selfalign_api or of a recipe's values)
	$(BIN)/selfalign crd > crds/selfalignmentruns.yaml
	$(BIN)/python crds/reference.py > docs/api.md
	$(BIN)/python crds/recipe_tables.py docs/recipes.md
	cp crds/selfalignmentruns.yaml charts/selfalign-operator/files/crds/

chart: $(INSTALLED)  ## write what the chart has from elsewhere again (its schema, its table of values, the golden manifests)
	$(BIN)/python charts/chart_files.py
	PYTHONPATH=tests $(BIN)/python tests/cluster/chart_golden.py

dashboards: $(INSTALLED)  ## write the Grafana dashboards again (after a change of charts/selfalign_dashboards)
	PYTHONPATH=charts $(BIN)/python -m selfalign_dashboards charts/selfalign-operator/files/dashboards

pictures: $(INSTALLED)  ## draw the dashboards for docs/images, from a run of minutes; then look at them
	SELFALIGN_PICTURES=docs/images $(BIN)/pytest tests/cluster/test_metrics_live.py -k drawn --timeout=1800

golden: $(INSTALLED)  ## write the golden manifests again (after a change of the workloads), then read the difference
	@for run in tests/unit/golden_runs/*.yaml examples/*-tiny.yaml; do \
	  $(BIN)/selfalign render $$run --config tests/unit/golden_runs/operator/config.yaml > tests/unit/golden/$$(basename $$run) || exit; done

bench-h100: $(INSTALLED)  ## generation against a modelled H100: how busy it is, and 64 engines (10 minutes; benchmarks/README.md)
	$(BIN)/python benchmarks/generate_h100.py

bench-trainer: $(INSTALLED)  ## packed training against padded and against stock TRL: pairs of skewed lengths, targets, the tiny model (benchmarks/README.md)
	$(BIN)/python benchmarks/train_skewed.py --pairs 12 --runs 1 --micro 1 4

clean:
	rm -rf .venv out

recipe-kills: $(INSTALLED)  ## the tiny example of every recipe, small, killed once in each of its steps
	SELFALIGN_KILL_ALL=1 $(BIN)/pytest tests/jobs/test_killed_recipes.py

generate-kills: $(INSTALLED)  ## kill -9 at many more places than `make jobs` does; SEEDS=N
	SELFALIGN_KILL_SEEDS=$(or $(SEEDS),100) $(BIN)/pytest tests/jobs/test_generate_kills.py

faults: $(INSTALLED)  ## 200 fault schedules, of which `make cluster-tests` has 20; SEEDS=N
	SELFALIGN_FAULT_SEEDS=$(or $(SEEDS),200) $(BIN)/pytest tests/cluster/test_faults.py

soak: $(INSTALLED)  ## runs begin, are suspended, edited, robbed and deleted by chance, under faults and killed leaders, for MINUTES=10; SEED=N
	PYTHONPATH=tests $(BIN)/python tests/cluster/soak.py --minutes $(or $(MINUTES),10) --seed $(or $(SEED),0)
