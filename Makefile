# Two commands do everything on a new machine: `make table2` and `make test`. Each sets up what it needs; `make help` lists
# the others. What stands behind ## is the line that it prints.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := envs/cpu.lock
VLLM := .venv-vllm
VLLM_LOCK := envs/vllm.lock
DOCS := .venv-docs
DOCS_LOCK := envs/docs.lock
SCALE ?= tiny
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Snakemake and others keep caches there; some containers name a home that is not there.
ifneq ($(shell test -w "$$HOME" && echo there),there)
export HOME := $(CURDIR)/.cache/home
endif
.DEFAULT_GOAL := help

# A variable that is misspelt would set nothing, and another scale be made than was meant.
VARIABLES := SCALE LIMIT MIRROR PYTHON KILLS SEED ARGS UPGRADE
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $(name)))),$(name)))
capitals = $(shell echo '$(1)' | tr a-z A-Z)
spelt = $(or $(filter $(call capitals,$(1)),$(VARIABLES)),one of $(VARIABLES))
$(foreach name,$(filter-out $(VARIABLES) MAKEFLAGS SHELL,$(GIVEN)),\
  $(error $(name)=$($(name)): found variable '$(name)', expected $(call spelt,$(name))))

CONFIG := --config scale=$(SCALE)$(if $(LIMIT), limit=$(LIMIT))$(if $(MIRROR), mirror='$(MIRROR)')

# What a user types to go on after Ctrl-C, which the display of the workflow says (gdpo.display.terminal).
export GDPO_AGAIN := $(strip make $(MAKECMDGOALS) $(MAKEOVERRIDES) \
  $(foreach name,SCALE LIMIT MIRROR,$(if $(filter environment,$(origin $(name))),$(name)=$($(name)))))

# Snakemake (gdpo.display.terminal) with our display. A recipe that Ctrl-C ended counts as done, since make would add its own lines to what the
# display has said; make itself ends by the signal all the same.
define snakemake
@trap 'stopped=yes' INT; python -m gdpo.display.terminal --logger gdpo --cores all --rerun-incomplete $(1) $(CONFIG) \
  || { code=$$?; test -z "$$stopped" || exit 0; exit $$code; }
endef

.PHONY: help setup all explore bases table2 table1 metakl smol-check tables figures paper test test-all coverage robustness lint audit sweep bench objective objective-models coverage-study trial lock clean distclean vllm architecture schema readme docs install-test slurm-test slurm-packages chaos determinism chromium-packages memory

help: ## this list
	@echo "make TARGET [SCALE=micro|tiny|smol|...] [LIMIT=N] [MIRROR=DIR]; README.md has the rest"
	@sed -n 's/^\([a-z][a-z0-9-]*\):[^#]*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) \
	  | while IFS='	' read -r target line; do printf '  %-15s %s\n' "$$target" "$$line"; done

setup: $(VENV)/.installed ## make .venv from the pinned lock, which every other target does first

$(VENV)/.installed: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python >= 3.11 is needed; name one with: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

# vLLM's own environment, on Linux with an NVIDIA GPU: 9 GB. Steps that sample with vLLM find it
# (docs/running-elsewhere/environments.md).
vllm: $(VLLM)/.installed ## vLLM's own environment; Linux with an NVIDIA GPU

$(VLLM)/.installed: $(VLLM_LOCK) pyproject.toml
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check -r $(VLLM_LOCK)
	$(VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

define table
$(call snakemake,results/$@.csv)
@gdpo show --scale $(SCALE) $(if $(LIMIT),--limit $(LIMIT)) --name $@
endef

table1: setup ## table 1 from nothing, printed
	$(table)

table2: setup ## table 2 from nothing, printed
	$(table)

# Every table, figure and claim, and the report on them, paper/report.pdf.
all: setup ## every table, figure and claim of the paper, and the report on them
	$(call snakemake,all figures)

# The page over all results, which `all` makes, too: open results/SCALE/explorer/index.html; it needs no server.
explore: setup ## the page over all results: results/SCALE/explorer/index.html
	$(call snakemake,explore)

# The metacognitive training set with its data card; `make metakl SCALE=smol MIRROR=DIR` reads a mirror in place of the Hub.
metakl: setup ## the metacognitive training set with its data card
	$(call snakemake,metakl)

# Base models are data (workflow/bases); this makes them anew, which no result needs. `gdpo bases --ship` puts them in place.
bases: setup ## the base models made anew, and how they differ from the shipped ones
	$(call snakemake,results/$(SCALE)/bases.csv)
	@gdpo bases --scale $(SCALE)

# All of scale smol on a handful of questions, in minutes on a CPU; skipped, saying why, where models or data are out of reach.
smol-check: setup ## all of smol on a handful of questions, in minutes on a CPU
	python tools/rigs/smol_check.py $(if $(MIRROR),--mirror '$(MIRROR)')

# The Slurm profile on a real Slurm of one node, brought up for it: as root, with Debian's packages; skipped, saying why, elsewhere.
slurm-test: setup ## the Slurm profile on a Slurm of one node; as root
	python tools/rigs/slurm_test.py

# Table 2 of a small scale while processes of the run are killed: KILLS of them, drawn by SEED; on Linux.
chaos: setup ## table 2 while processes of the run are killed
	python tools/rigs/chaos.py $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED))

# A small scale's table 2 under everything that another machine may have otherwise: what differs, and by how much.
determinism: setup ## what another machine would change in table 2
	python tools/rigs/determinism.py

# Fake tensors of the real shapes, half an hour of one core; what .cache/memory has is not tracked again.
memory: setup ## peak memory under FSDP2 at 8B and 32B, tracked on fake tensors, and collectives counted
	python -m tools.rigs.memory

slurm-packages: ## what slurm-test needs, from Debian; as root
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge

chromium-packages: ## the browser of the explorer's tests, from Debian; as root
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends chromium chromium-driver

tables: setup ## every table
	$(call snakemake,tables)

figures: setup ## the figures and the tables' LaTeX, below paper/
	$(call snakemake,figures)

paper: setup ## the report alone: paper/report.pdf
	$(call snakemake,paper)


# Two files of tests side by side, those of whole workflows first, since they take longest.
PYTEST := pytest -q -n 2 --dist loadfile --no-loadscope-reorder

# Lines of gdpo/ that at least are to be run by all tests together, in percent.
COVERED := 90

# Every module and one whole workflow of micro, in minutes.
test: setup ## every module and one whole workflow, in minutes
	$(PYTEST) -m "not long"

# These, and then the long ones: kills, Slurm, two processes, other ways to compute the same, real models, fuzz at length.
test-all: test ## these, and the long ones
	$(PYTEST) -m long

# Apart from the tests themselves, which take a third longer while every process is measured.
coverage: setup ## all tests again, and which share of gdpo/ they run
	$(PYTEST) -m "not long" --cov --cov-report=
	$(PYTEST) -m long --cov --cov-append --cov-fail-under=$(COVERED)

# What each malformed input, hostile content, fault and key came to, kept as data; then changes by chance, thousands of them.
robustness: setup ## malformed, hostile and faulty input, and what each case comes to
	pytest -q -n 2 --dist loadfile --durations=0 --durations-min=60 $(foreach suite,malformed hostile faults canary,tests/robustness/test_$(suite).py) \
	  --outcomes results/reference/robustness
	python -m tests.robustness.outcomes
	pytest -q -p no:xdist --durations=0 tests/robustness/test_fuzz.py

PYTHON_FILES := gdpo snakemake_logger_plugin_gdpo tests benchmarks docs examples tools workflow

lint: setup ## ruff, snakefmt, mypy, the rooms' arrows and Snakemake's own lints
	ruff check $(PYTHON_FILES)
	ruff format --check $(PYTHON_FILES)
	snakefmt --check Snakefile workflow/Snakefile workflow/rules
	mypy
	lint-imports
	python tools/snakemake_lint.py

# The pictures and tables of docs/architecture.md; a test fails where they are not what the code is.
architecture: setup ## docs/architecture.md, drawn from the code
	python tools/architecture.py

# What editors check a scale's file by; a test fails where it is not what the models of gdpo/config are.
schema: setup ## workflow/schemas/scale.schema.json, drawn from the code
	gdpo schema > workflow/schemas/scale.schema.json

# README's findings and table and the picture docs/overview.svg, from the kept results by docs/readme.yaml.
readme: setup ## README's findings, table and picture, from the kept results
	python tools/readme.py

# The site of docs/, in an environment of its own: site/index.html. Without a network once that is there; broken links fail.
docs: $(DOCS)/.installed ## the site of docs/: site/index.html
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet

$(DOCS)/.installed: $(DOCS_LOCK)
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r $(DOCS_LOCK)
	@touch $@

# The wheel, built and installed into a new environment with nothing, with one extra and with all; skipped, saying why, where no
# package index can be reached. `make test-all` has it among the long tests.
install-test: setup ## the wheel in new environments: packages, size, seconds
	pytest -q -s -p no:xdist tests/install

# Known vulnerabilities of what the locks pin; skipped, saying why, where nobody can be asked. Accepted ones: envs/accepted.yaml.
audit: setup ## known vulnerabilities of what the locks pin
	python tools/vulnerabilities.py

# The learning-rate sweep on validation items of what workflow/config/sweep/$(SCALE).csv, which is kept as data, has not
# recorded yet; the second call tries the further rates where the best of the grid is its largest.
sweep: setup ## the learning rates that workflow/config/sweep/ has not recorded yet
	$(call snakemake,sweep)
	$(call snakemake,sweep)

# GDPOTrainer's speed and memory beside its peers; benchmarks/README.md says what is measured. ARGS are its options.
bench: setup ## GDPOTrainer's speed and memory beside its peers
	python -m benchmarks.run $(ARGS)

# The figures of docs/objective.md.
objective: setup ## the figures of docs/objective.md
	python docs/objective/cosine.py
	python docs/objective/policy.py
	python docs/objective/policy.py --pairs all
	python docs/objective/default.py

# What `objective` keeps of language models, measured anew: an hour of one core, and again where it stopped.
# CHECKPOINT is the SmolLM2 of scale smol (results/smol/models/...), MIRROR its mirror; the tiny groups are made first.
objective-models: setup ## the trainings behind the objective's default; with CHECKPOINT and MIRROR of scale smol
	$(call snakemake,results/tiny/groups/metakl.jsonl)
	python docs/objective/default_models.py tiny
	python docs/objective/default_models.py smollm2 '$(CHECKPOINT)' '$(MIRROR)'
	python docs/objective/default.py --keep-exact

# The sealed worlds of docs/protocol.md, one after the other, in pieces of 2.5 hours (ARGS=--hours=N); each finished one is kept in
# results/reference/trial, to be committed. The same command goes on, here or elsewhere. `gdpo trial` answers the questions from them.
trial: setup ## the sealed worlds of the trial, each once
	python tools/rigs/trial.py $(ARGS)

coverage-study: setup ## how often intervals of a trial hold the truth, by simulation
	python docs/protocol/coverage.py

# Pin what this environment has: `torch==X` without a local tag, so that the lock installs everywhere. vLLM's and that of
# the site are resolved for Linux, nothing installed. UPGRADE=1 lets their pins move. The first two become conda environments.
resolve = .cache/uv/bin/uv pip compile --quiet --no-annotate --no-header $(if $(UPGRADE),--upgrade) \
  --python-version 3.11 --python-platform x86_64-manylinux_2_28
lock: setup ## pin what this environment has
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target .cache/uv uv
	$(resolve) --output-file $(VLLM_LOCK) envs/vllm.in
	$(resolve) --output-file $(DOCS_LOCK) envs/docs.in
	$(BIN)/python tools/environments.py

# What minutes make anew. Results of other scales may have taken days or money: only a user's own rm deletes them.
MADE := results/micro results/micro-limit* results/tiny results/tiny-limit* results/*.csv results/*.md results/*.tex \
  results/*.json paper/data paper/figures paper/tables paper/report.pdf* site .snakemake
ENVIRONMENTS := $(VENV) $(VLLM) $(DOCS) .cache

clean: ## delete what micro and tiny made; it says what goes and what stays
	@echo "deletes: $(MADE)"
	@echo "keeps:   results/reference, results of other scales, shipped models, workflow/config/sweep, $(ENVIRONMENTS)"
	@rm -rf $(MADE)

distclean: clean ## delete the environments and the downloads, too
	@echo "deletes: $(ENVIRONMENTS)"
	@rm -rf $(ENVIRONMENTS)
