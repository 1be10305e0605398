# Two commands do everything on a new machine: `make table2` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := envs/cpu.lock
VLLM := .venv-vllm
VLLM_LOCK := envs/vllm.lock
SCALE ?= tiny
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup all table2 table1 metakl smol-check tables figures paper test test-all robustness lint audit sweep bench objective lock clean vllm slurm-test slurm-packages chaos determinism

setup: $(VENV)/.installed

$(VENV)/.installed: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python >= 3.11 is needed; name one with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# vLLM's own environment, on Linux with an NVIDIA GPU: 9 GB. Steps that sample with vLLM find it (docs/environments.md).
vllm: $(VLLM)/.installed

$(VLLM)/.installed: $(VLLM_LOCK) pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -r $(VLLM_LOCK)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

define table
	snakemake --cores all --rerun-incomplete results/$@.csv --config scale=$(SCALE)
	@gdpo show --scale $(SCALE) --name $@
endef

table1: setup
	$(table)

table2: setup
	$(table)

# Every table, figure and claim, and the report on them, paper/report.pdf.
all: setup
	snakemake --cores all --rerun-incomplete all figures --config scale=$(SCALE)

# The metacognitive training set with its data card; `make metakl SCALE=smol MIRROR=DIR` reads a mirror in place of the Hub.
metakl: setup
	snakemake --cores all --rerun-incomplete metakl --config scale=$(SCALE) $(if $(MIRROR),mirror=$(MIRROR))

# All of scale smol on a handful of questions, in minutes on a CPU; skipped, saying why, where models or data are out of reach.
smol-check: setup
	python workflow/scripts/smol_check.py $(if $(MIRROR),--mirror $(MIRROR))

# The Slurm profile on a real Slurm of one node, brought up for it: as root, with Debian's packages; skipped, saying why, elsewhere.
slurm-test: setup
	python workflow/scripts/slurm_test.py

# Table 2 of a small scale while processes of the run are killed: KILLS of them, drawn by SEED; on Linux.
chaos: setup
	python workflow/scripts/chaos.py $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED))

# A small scale's table 2 under everything that another machine may have otherwise: what differs, and by how much.
determinism: setup
	python workflow/scripts/determinism.py

slurm-packages:
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge

tables: setup
	snakemake --cores all --rerun-incomplete tables --config scale=$(SCALE)

figures: setup
	snakemake --cores all --rerun-incomplete figures --config scale=$(SCALE)

paper: setup
	snakemake --cores all --rerun-incomplete paper --config scale=$(SCALE)

# Two files of tests side by side, those of whole workflows first, since they take longest.
PYTEST := pytest -q -n 2 --dist loadfile --no-loadscope-reorder

# Lines of gdpo/ that at least are to be run by all tests together, in percent.
COVERED := 90

# Every module and one whole workflow of micro, in minutes; what the tests ran is measured for `make test-all`.
test: setup
	$(PYTEST) -m "not long" --cov --cov-report=

# These, and then the long ones: kills, Slurm, two processes, other ways to compute the same, real models, fuzz at length.
test-all: test
	$(PYTEST) -m long --cov --cov-append --cov-fail-under=$(COVERED)

# What each malformed input, hostile content, fault and key came to, kept as data; then changes by chance, thousands of them.
robustness: setup
	pytest -q -n 2 --dist loadfile --durations=0 --durations-min=60 $(foreach suite,malformed hostile faults canary,tests/test_$(suite).py) \
	  --outcomes results/reference/robustness
	python -m tests.outcomes
	pytest -q -p no:xdist --durations=0 tests/test_fuzz.py

lint: setup
	ruff check gdpo tests benchmarks docs examples workflow
	ruff format --check gdpo tests benchmarks docs examples workflow
	snakefmt --check Snakefile workflow/rules
	mypy
	python workflow/scripts/snakemake_lint.py

# Known vulnerabilities of what the locks pin; skipped, saying why, where nobody can be asked. Accepted ones: envs/accepted.yaml.
audit: setup
	python workflow/scripts/vulnerabilities.py

# The learning-rate sweep on validation items of what workflow/config/sweep/$(SCALE).csv, which is kept as data, has not
# recorded yet; the second call tries the further rates where the best of the grid is its largest.
sweep: setup
	snakemake --cores all --rerun-incomplete sweep --config scale=$(SCALE)
	snakemake --cores all --rerun-incomplete sweep --config scale=$(SCALE)

# GDPOTrainer's speed and memory beside its peers; benchmarks/README.md says what is measured. ARGS are its options.
bench: setup
	python -m benchmarks.run $(ARGS)

# The figures of docs/objective.md.
objective: setup
	python docs/objective/cosine.py
	python docs/objective/policy.py
	python docs/objective/policy.py --pairs all

# Pin what this environment has: `torch==X` without a local tag, so that the lock installs everywhere. vLLM's is resolved
# for Linux, nothing installed. UPGRADE=1 lets its pins move. Both become conda environments.
lock: setup
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target .cache/uv uv
	.cache/uv/bin/uv pip compile --quiet --no-annotate --no-header $(if $(UPGRADE),--upgrade) --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_28 --output-file $(VLLM_LOCK) envs/vllm.in
	$(BIN)/python workflow/scripts/environments.py

clean:
	rm -rf results/micro results/tiny results/*.csv results/*.md results/*.json .snakemake
