# Two commands do everything on a new machine: `make table2` and `make test`. Each sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := envs/cpu.lock
SCALE ?= tiny
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: setup all table2 table1 metakl smol-check tables figures paper test test-fast lint sweep bench objective lock clean

setup: $(VENV)/.installed

$(VENV)/.installed: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python >= 3.11 is needed; name one with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
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

tables: setup
	snakemake --cores all --rerun-incomplete tables --config scale=$(SCALE)

figures: setup
	snakemake --cores all --rerun-incomplete figures --config scale=$(SCALE)

paper: setup
	snakemake --cores all --rerun-incomplete paper --config scale=$(SCALE)

test: setup
	pytest -q

test-fast: setup
	pytest -q -m "not slow"

lint: setup
	ruff check gdpo tests benchmarks docs examples workflow
	ruff format --check gdpo tests benchmarks docs examples workflow
	snakefmt --check Snakefile workflow/rules

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

# Pin what this environment has: `torch==X` without a local tag, so that the lock installs everywhere.
lock: setup
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > $(LOCK)

clean:
	rm -rf results/micro results/tiny results/*.csv results/*.md results/*.json .snakemake
